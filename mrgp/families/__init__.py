"""Families of models: what a model of the zoo inherits."""
