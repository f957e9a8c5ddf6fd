"""Constant delays: one number for each later region and each shared latent.

By this number the region lags the first one.
"""

from mrgp.parts.sites import Site

DELAY = Site("delay", "later_region", "across_latent", unit="s", trait=True)
