"""Variational expectation-maximization: a posterior and parameters improve each other."""
