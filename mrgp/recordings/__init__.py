"""Recordings: their arrays, checks, spike counts, preprocessing, and readers of files."""
