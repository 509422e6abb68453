"""How searches scale: measured with the workers that this machine has, simulated beyond (``python -m benchmarks.scaling``)."""
