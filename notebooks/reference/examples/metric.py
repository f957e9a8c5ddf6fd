"""A metric: how well do hidden neurons correlate with their predictions?"""

import numpy as np

import mrgp
from mrgp.models import FA


class Correlation(mrgp.Metric):
    """Of observed and predicted values of hidden neurons."""

    def score(self, hidden):
        return np.corrcoef(hidden.observed.ravel(), hidden.predicted.ravel())[0, 1]


made = mrgp.simulate(FA(1), snr=2.0, regions={"V1": 6, "V2": 6}, n_trials=20, n_bins=10, seed=0)
fit = FA(1).fit(made.data, n_starts=1, seed=0, progress=False)
hidden = mrgp.metrics.cosmoothing(fit, made.data, {"V1": [0, 1], "V2": [0, 1]})
assert {"r2", "correlation"} <= set(hidden)   # in every report from now on
assert (hidden["correlation"] > 0.5).all()
