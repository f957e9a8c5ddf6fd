"""Recordings: what was measured, how it is checked, counted, preprocessed and read from files."""
