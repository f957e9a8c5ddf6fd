"""Bootstrap: how much delays vary between resampled trials."""
