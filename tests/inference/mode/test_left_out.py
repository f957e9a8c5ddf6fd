"""Trials given all others: beside conditional Gaussians, integrals on a grid, and draws."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from mrgp.models import DLAG
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm, poisson

import mrgp
from mrgp.inference.map import MAP
from mrgp.inference.mode import left_out as module
from mrgp.inference.mode.coordinates import Coordinates, Whitened
from mrgp.inference.mode.left_out import _climbed, left_out
from mrgp.results.loo import is_left_out_at_maximum


def coordinates(name, mode, root):
    empty = jnp.zeros(0)
    volume = jnp.asarray(np.linalg.slogdet(root)[1])
    return Coordinates(
        {name: jnp.asarray(mode)}, jnp.asarray(root), {}, {}, jnp.zeros((0, 0)), empty, {}, {}, volume
    )


DESIGN = np.random.default_rng(0).standard_normal((5, 3))
PRIOR, NOISE = np.array([2.0, 0.05, 1.0]), 0.7


def regression(values):
    weights = numpyro.sample("weights", dist.Normal(0.0, jnp.asarray(PRIOR)).to_event(1))
    numpyro.sample("y", dist.Normal(jnp.asarray(DESIGN) @ weights, NOISE).to_event(1), obs=values)


def regression_scores(values, sites):
    return dist.Normal(jnp.asarray(DESIGN) @ sites["weights"], NOISE).log_prob(values).sum(-1)


def conditioned(values):
    """Posterior of the weights given rows of values, as mean and covariance."""
    precision = np.diag(PRIOR**-2.0) + len(values) * DESIGN.T @ DESIGN / NOISE**2
    covariance = np.linalg.inv(precision)
    return covariance @ DESIGN.T @ values.sum(0) / NOISE**2, covariance


def given(one, others):
    mean, covariance = conditioned(others)
    return multivariate_normal.logpdf(one, DESIGN @ mean, DESIGN @ covariance @ DESIGN.T + NOISE**2 * np.eye(5))


def repeated(values):
    """The same, with several rows of values in a trial, some of them missing, and a weight that follows the others."""
    weights = numpyro.sample("weights", dist.Normal(0.0, jnp.asarray(PRIOR[:2])).to_event(1))
    last = numpyro.sample("last", dist.Normal(0.0, PRIOR[2]).expand((1,)).to_event(1))
    there = jnp.isfinite(values)
    mean = jnp.asarray(DESIGN) @ jnp.concatenate([weights, last])
    numpyro.sample("y", dist.Normal(mean, NOISE).mask(there).to_event(3), obs=jnp.where(there, values, 0.0))


def repeated_scores(values, sites):
    there, mean = jnp.isfinite(values), jnp.asarray(DESIGN) @ jnp.concatenate([sites["weights"], sites["last"]])
    return jnp.where(there, dist.Normal(mean, NOISE).log_prob(jnp.where(there, values, 0.0)), 0.0).sum((1, 2))


def test_trials_of_several_lengths_and_what_follows():
    """Two weights describe latents, the third is one of the rest, which follow them and have a spread of their own."""
    rng, lengths = np.random.default_rng(2), np.array([1, 4, 2, 3])
    values = rng.standard_normal((4, 4, 5))
    values[np.arange(4) >= lengths[:, None]] = np.nan
    rows = [trial[np.isfinite(trial[:, 0])] for trial in values]
    mode, covariance = conditioned(np.concatenate(rows))
    response = np.linalg.solve(covariance[:2, :2], covariance[:2, 2])
    own = np.sqrt(covariance[2, 2] - covariance[2, :2] @ response)
    root = np.linalg.cholesky(covariance[:2, :2])
    around = Coordinates(
        {"weights": jnp.asarray(mode[:2])}, jnp.asarray(root), {"last": jnp.asarray(mode[2:])},
        {"last": jnp.asarray([own])}, jnp.zeros((1, 0)), jnp.zeros(0), {"last": jnp.asarray(response[:, None])}, {},
        jnp.asarray(np.log(np.diag(root)).sum() + np.log(own)),
    )  # fmt: skip
    share = lengths / lengths.sum()
    found = left_out(Whitened(repeated), repeated_scores, jnp.asarray(values), around, share)
    others = [np.concatenate([row for place, row in enumerate(rows) if place != trial]) for trial in range(4)]
    # The chain rule: the rows of a trial one after the other.
    expected = [
        sum(given(row, np.concatenate([rest, rows[trial][:place]])) for place, row in enumerate(rows[trial]))
        for trial, rest in enumerate(others)
    ]
    np.testing.assert_allclose(found.score, expected, rtol=0, atol=1e-9)
    assert found.settled.all()


@pytest.mark.parametrize("n_trials", [2, 7])
@pytest.mark.parametrize("off", [0.0, 0.3])
def test_a_gaussian_posterior_is_conditioned(n_trials, off):
    """Also around a place that is no maximum, as where the density of other coordinates has its own."""
    values = np.random.default_rng(1).standard_normal((n_trials, 5))
    mode, covariance = conditioned(values)
    root = np.linalg.cholesky(covariance)
    around = coordinates("weights", mode + off * root.sum(1), root)
    program = Whitened(regression)
    found = left_out(program, regression_scores, jnp.asarray(values), around, np.full(n_trials, 1 / n_trials))
    places = [np.delete(np.arange(n_trials), trial) for trial in range(n_trials)]
    expected = [given(values[trial], values[others]) for trial, others in enumerate(places)]
    np.testing.assert_allclose(found.score, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.seen, [given(one, values) for one in values], rtol=0, atol=1e-9)
    moves = [np.linalg.solve(root, conditioned(values[others])[0] - mode) for others in places]
    np.testing.assert_allclose(found.moved, np.linalg.norm(moves, axis=1), rtol=1e-9)
    assert found.settled.all()


def rates(counts):
    level = numpyro.sample("level", dist.Normal(1.0, 2.0))
    numpyro.sample("y", dist.Poisson(jnp.exp(level)).expand(counts.shape).to_event(1), obs=counts)


def rate_scores(counts, sites):
    return dist.Poisson(jnp.exp(sites["level"])).log_prob(counts)


def test_a_trial_that_stands_out_is_climbed_from(monkeypatch):
    counts = np.array([4, 3, 6, 5, 40, 2, 5, 4])
    grid = np.linspace(-2, 5, 20001)
    table = poisson.logpmf(counts[:, None], np.exp(grid))
    total = table.sum(0) + norm.logpdf(grid, 1, 2)
    expected = logsumexp(total) - logsumexp(total - table, axis=1)
    mode = grid[total.argmax()]
    sd = (len(counts) * np.exp(mode) + 0.25) ** -0.5
    around = coordinates("level", np.array(mode), np.array([[sd]]))
    share = np.full(len(counts), 1 / len(counts))
    found = left_out(Whitened(rates), rate_scores, jnp.asarray(counts), around, share)
    np.testing.assert_array_equal(np.flatnonzero(found.moved > module.FAR), [4])
    assert found.settled.all()
    # Where a trial had half of all spikes, it had more of the curvature than its share.
    np.testing.assert_allclose(np.delete(found.score, 4), np.delete(expected, 4), rtol=0, atol=0.1)
    assert found.score[4] == pytest.approx(expected[4], abs=0.5)
    monkeypatch.setattr(module, "FAR", np.inf)
    jax.clear_caches()
    near = left_out(Whitened(rates), rate_scores, jnp.asarray(counts), around, share)
    assert abs(near.score[4] - expected[4]) > 5 * abs(found.score[4] - expected[4])


def test_a_climb_ends_on_top_and_says_where_there_is_none():
    bent = np.array([1.0, 3.0])

    def hill(x):
        return float(x.sum() - (bent * x**2).sum()), 1 - 2 * bent * x

    place, gained, settled = _climbed(hill, bent)  # half the curvature: whole steps lead to the other side
    np.testing.assert_allclose(place, 0.5 / bent, atol=0.1)
    assert gained == pytest.approx(0.25 * (1 / bent).sum(), abs=module.SETTLED)
    assert settled
    assert not _climbed(lambda x: (float(x.sum()), np.ones(2)), bent)[2]


def test_trials_that_tell_of_parameters_of_their_own_are_not_taken_away():
    """A condition has a course, and a neuron loadings, that few trials know of: more than their share."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 10, 4))
    some = values.copy()
    some[0, :, 0] = np.nan
    sites = {"A": values[..., :2], "B": values[..., 2:]}
    plain = mrgp.MultiRegionData(sites, 0.02)
    asked = {"conditions": mrgp.MultiRegionData(sites, 0.02, trial_coords={"condition": list("aabbbb")})}
    asked["missing"] = mrgp.MultiRegionData({"A": some[..., :2], "B": some[..., 2:]}, 0.02)
    asked["one trial"] = plain.select_trials([0])

    def told(data, **choices):
        model = DLAG(1, 0, **choices)
        stand_in = SimpleNamespace(model=model, method_class=MAP, n_parameters=20)
        return is_left_out_at_maximum(stand_in, data)

    assert told(plain)
    assert told(plain, mean="psth")
    assert told(asked["conditions"])
    assert not told(asked["conditions"], mean="psth")
    assert not told(asked["missing"])
    assert not told(asked["one trial"])
    assert not told(plain, emission="poisson")


@pytest.mark.slow
def test_a_fit_scores_trials_as_its_draws_do():
    data = mrgp.simulate(
        regions={"A": 4, "B": 4}, n_across=1, n_within=1, n_trials=25, n_bins=20, snr=0.3, seed=1
    ).data  # fmt: skip
    fit = DLAG(1, 1).fit(data, progress=False)
    found = mrgp.leave_one_out(fit, progress=False)
    drawn = mrgp.leave_one_out(fit, n_draws=500, progress=False)
    assert found.pareto_k is None
    assert found.elpd == pytest.approx(drawn.elpd, abs=1.5)  # two sets of 1000 draws differ by a quarter
    assert np.std(found.elpd_i.values - drawn.elpd_i.values) < 0.2
    assert np.abs(found.elpd_i.values - drawn.elpd_i.values).max() < 0.5
    assert found.p == pytest.approx(drawn.p, abs=3.0)
    assert found.se == pytest.approx(drawn.se, rel=0.01)
    assert "25 observations" in str(found)
