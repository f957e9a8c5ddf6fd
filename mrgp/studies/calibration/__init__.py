"""Calibration: a test that intervals hold the truth as often as they say."""
