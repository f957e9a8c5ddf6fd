"""A likelihood: exact where it can be."""

from dataclasses import dataclass

import numpy as np

import mrgp
from mrgp.models import DLAG


@dataclass(frozen=True)
class ByLength(mrgp.Likelihood):
    """Dense for trials of few bins, a Kalman filter for others."""

    most_bins: int = 40

    def distribution(self, model, layout, parameters, common):
        if common["n_bins"] <= self.most_bins:
            return mrgp.DenseGP(*parameters, prior=model.prior(layout), **common)
        return mrgp.MarkovGP(*parameters, space=model.state_space(layout), **common)

    def state_space(self, latents):
        return mrgp.Kalman().state_space(latents)


model = DLAG(1, 0, likelihood=ByLength())
truth = {"delay": 0.02, "timescale_across": 0.1}  # seconds
size = {"regions": {"V1": 6, "V2": 6}, "n_trials": 20, "n_bins": 20}
made = mrgp.simulate(DLAG(1, 0), sites=truth, seed=0, **size)
scores = {}
for likelihood in (ByLength(), "dense", ByLength(most_bins=1), "markov"):
    scores[likelihood] = float(model.replace(likelihood=likelihood).log_likelihood(made.data, made.sites).sum())
assert np.isclose(scores[ByLength()], scores["dense"], rtol=0, atol=1e-8)
assert np.isclose(scores[ByLength(1)], scores["markov"], rtol=0, atol=1e-8)
