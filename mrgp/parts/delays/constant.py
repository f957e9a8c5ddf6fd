"""Constant delays: each region lags the first one by one number for every latent that they share."""

from mrgp.parts.sites import Site

DELAY = Site("delay", "later_region", "across_latent", unit="s", trait=True)
