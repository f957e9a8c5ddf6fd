"""Variational Bayes of models with automatic relevance determination."""
