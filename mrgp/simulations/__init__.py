"""Simulated recordings, whose truth is known."""
