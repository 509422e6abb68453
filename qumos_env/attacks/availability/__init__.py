"""Attacks on whether and when the service answers."""
