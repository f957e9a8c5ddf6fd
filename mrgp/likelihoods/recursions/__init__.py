"""Linear-Gaussian filtering and smoothing from information inputs.

Pure linear algebra: nothing here knows of neurons or regions.
"""
