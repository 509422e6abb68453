"""The reinforcement-learning problem: actions, observation, environment, random designs."""
