"""Fits: parameters, their uncertainty, and the forms in which they are kept and shown."""
