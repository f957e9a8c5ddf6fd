"""Switching linear dynamics, with states and latents integrated out up to a bound."""
