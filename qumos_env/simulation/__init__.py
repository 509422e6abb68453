"""The qsim engine: exact expectation values and gradients of small circuits over batches of inputs."""
