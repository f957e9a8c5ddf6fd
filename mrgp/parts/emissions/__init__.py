"""Emissions: the distribution of an observation given its latents."""
