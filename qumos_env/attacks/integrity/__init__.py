"""Attacks on the correctness of what the service answers."""
