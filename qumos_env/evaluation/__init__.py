"""From a design to its reward: the rows, the trained service, and one module per term of the reward."""
