"""One file for each format of recordings."""
