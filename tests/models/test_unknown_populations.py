"""SwitchingLDS with unknown populations: clusters of neurons and states found together, files, trees."""

import warnings

import numpy as np
import pytest
from mrgp.models import SwitchingLDS

import mrgp
from mrgp.metrics import adjusted_rand_index

pytestmark = pytest.mark.slow


def test_clusters_and_states_are_found_together_and_kept(tmp_path):
    made = mrgp.simulate_population_clusters(3, 12, 2, 3, n_bins=600, noise=0.5, mean_count=None, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SwitchingLDS(3, 2, populations=mrgp.Unknown(most=4))
        fit = model.fit(made.data, n_starts=2, max_iterations=30, progress=False)
    assert (np.diff(fit.trace) > -1e-6).all()
    clusters = fit.clusters()
    np.testing.assert_allclose(clusters["probability"].sum("population"), 1.0, rtol=1e-9)
    assert adjusted_rand_index(made.truth["clusters"], clusters["most_likely"]) >= 0.9
    assert adjusted_rand_index(made.truth["states"], fit.states()["most_likely"]) >= 0.9
    assert fit.populations == tuple(f"population {k}" for k in range(4))
    assert fit.effectome().shape == (3, 4, 4)
    assert not fit.knows_populations
    assert "clusters" in {path.stem for path in mrgp.plots.save_figures(fit, tmp_path)}
    fit.save(tmp_path / "fit.nc")
    again = mrgp.load_fit(tmp_path / "fit.nc")
    assert again.model == model
    np.testing.assert_array_equal(again.clusters()["probability"], clusters["probability"])
    tree = fit.to_arviz(n_draws=2)
    assert tree["constant_data"]["membership"].dims == ("neuron", "population")
    assert tree["posterior"]["latents"].sizes["within_latent"] == 8
    drawn = mrgp.simulate_from(fit, n_trials=2, n_bins=20, seed=1)
    assert drawn.data.values.shape == (2, 20, 36)
    mean = fit.predict()["all_mean"].values
    assert np.var(made.data.floats - mean) < np.var(made.data.floats - made.data.floats.mean((0, 1)))
