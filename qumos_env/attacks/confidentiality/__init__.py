"""Attacks on what the owner wants to keep: the model, its training data, its labels."""
