"""Deployment of designs: bundles for isolated providers and their owner."""
