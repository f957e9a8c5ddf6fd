"""Settings, files, workers and records of a run, and the display of text and tables."""
