"""Attacks: honest measurements of what an adversary with stated knowledge achieves."""
