"""Cross-validation for the number of latents that a recording needs."""
