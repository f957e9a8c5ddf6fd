"""Variational expectation-maximization: a posterior and parameters, each improved given the other."""
