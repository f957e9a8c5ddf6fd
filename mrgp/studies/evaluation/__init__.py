"""Evaluation: scores of a fit on trials that it has not seen."""
