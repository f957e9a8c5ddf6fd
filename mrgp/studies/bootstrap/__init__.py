"""Bootstrap of delays: their variation between resampled trials."""
