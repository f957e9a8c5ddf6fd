"""The posterior's maximum: its curvature, its evidence, and coordinates in which it is round."""
