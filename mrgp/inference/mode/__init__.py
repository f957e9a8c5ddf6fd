"""Maximum of the posterior: curvature, evidence, and coordinates in which it is round."""
