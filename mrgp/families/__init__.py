"""Families of models: base classes of the models of the zoo."""
