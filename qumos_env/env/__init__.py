"""The reinforcement-learning problem: actions, observation, environment, admission of scenarios, random designs."""
