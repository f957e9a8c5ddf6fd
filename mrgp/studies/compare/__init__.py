"""Comparison of hypotheses on delays."""
