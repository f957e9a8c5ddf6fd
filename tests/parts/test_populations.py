"""Unknown populations: the bound against all assignments of neurons, copies, sticks, first clusters."""

from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.special import logsumexp
from mrgp.models import SwitchingLDS
from scipy.stats import multivariate_normal
from switching_oracles import dense_moments, dynamics

import mrgp
from mrgp.inference.variational_em.neuron_clusters import found_clusters, height, in_noise
from mrgp.likelihoods.switching.distribution import SwitchingLinear
from mrgp.likelihoods.switching.posterior import System, of_entries
from mrgp.metrics import adjusted_rand_index
from mrgp.part import rebuilt
from mrgp.parts.membership import Membership
from mrgp.parts.populations import Known, Memberships, Unknown, shares
from mrgp.parts.readout import Readout
from mrgp.recordings.missing import Missing
from mrgp.recordings.repeated import repeated

RNG = np.random.default_rng(8)
N, MOST, T = 3, 2, 4


def copies_of(neurons):
    """A system of copies of neurons: two populations of one latent each."""
    rng, of = np.random.default_rng(3), dynamics(2, MOST, recurrent=False)
    C = np.zeros((MOST * N, MOST))
    for k in range(MOST):
        C[k * N : k * N + N, k] = rng.normal(0, 1.0, N)
    noise, d = rng.uniform(0.3, 1.0, MOST * N), rng.normal(0, 0.3, MOST * N)
    C, noise, d = (jnp.asarray(part[neurons]) for part in (C, noise, d))
    return System(of, C, Readout(C, noise, d))


def exact_given(assignment, values):
    """log p(y | c): the sum over all paths of states."""
    law = copies_of(np.array(assignment) * N + np.arange(N))
    of, scores = jax.tree.map(np.asarray, law.dynamics), []
    switch = np.asarray(of.logits - logsumexp(of.logits, 1, keepdims=True))
    for path in product(range(2), repeat=T):
        prior = np.log(of.first_state[path[0]]) + sum(switch[i, j] for i, j in pairwise(path))
        scores.append(prior + multivariate_normal(*dense_moments(law, path)).logpdf(values.ravel()))
    return float(logsumexp(jnp.asarray(scores)))


@pytest.mark.slow
def test_the_bound_is_below_the_sum_over_all_assignments_and_paths():
    system, values = copies_of(np.arange(MOST * N)), RNG.normal(0, 1.5, (1, T, N))
    part, sticks = Unknown(most=MOST), jnp.asarray([0.6])
    log_share = np.log(np.asarray(shares(sticks)))
    every = list(product(range(MOST), repeat=N))
    exact = logsumexp(jnp.asarray([sum(log_share[k] for k in c) + exact_given(c, values[0]) for c in every]))

    def told(share):
        law = SwitchingLinear(system, mrgp.Gaussian(), T, Missing(None, jnp.zeros(1, int), None), Membership(share))
        found = law.posterior(jnp.asarray(values))
        bound = found.bound.sum() + Memberships(jnp.asarray(log_share), N).log_prob(share)
        return bound, of_entries(system, law.trials(jnp.asarray(values)), found.moments).sum((0, 1))

    told, share, heights = jax.jit(told), jnp.full((N, MOST), 0.5), []
    for _ in range(10):
        bound, scores = told(share)
        heights.append(float(bound))
        share = part.updated({"population_sticks": sticks}, scores)["membership"]
    assert (np.diff(heights) > -0.02).all()  # a posterior is searched to 0.01 nats
    assert heights[-1] <= exact
    assert exact - heights[-1] < 1.5  # nats of some 25: assignments, states and latents are apart in q
    for c in every:  # of a known assignment it is the bound of the recording of these neurons
        bound, _ = told(jnp.eye(MOST)[jnp.asarray(c)])
        gap = exact_given(c, values[0]) + sum(log_share[k] for k in c) - float(bound)
        assert -1e-6 < gap < 1.0


def test_copies_are_all_neurons_once_in_each_population():
    member = Membership(jnp.asarray([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]))
    values = jnp.asarray(RNG.normal(0, 1, (2, 4, 3)))
    copied = member.copied(values)
    np.testing.assert_array_equal(copied, np.concatenate([values, values], -1))
    np.testing.assert_allclose(member.mixed(copied), values, rtol=1e-12)
    np.testing.assert_array_equal(member.weights, [0.5, 1.0, 0.25, 0.5, 0.0, 0.75])
    marked = jnp.arange(6.0)
    np.testing.assert_allclose(member.mixed(marked), [1.5, 1.0, 2 * 0.25 + 5 * 0.75])
    drawn = np.asarray(jax.vmap(lambda key: member.picked(key, marked))(jax.random.split(jax.random.key(0), 400)))
    assert (drawn[:, 1] == 1).all()
    assert set(drawn[:, 2]) == {2.0, 5.0}
    assert abs((drawn[:, 2] == 5).mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 400)


def test_a_recording_is_repeated_with_what_is_missing_in_it():
    values = RNG.normal(0, 1, (3, 6, 4))
    values[0, 2, 1] = values[2, 4:, :] = np.nan
    data = mrgp.MultiRegionData({"V1": values[..., :3], "V2": values[..., 3:]}, 0.02)
    again = repeated(data, ("a", "b"))
    assert again.layout.regions == ("a", "b")
    assert again.layout.n_neurons == (4, 4)
    np.testing.assert_array_equal(again.mask, np.concatenate([data.mask, data.mask], -1))
    np.testing.assert_array_equal(again.floats, np.concatenate([data.floats, data.floats], -1))
    np.testing.assert_array_equal(again.scale, np.tile(data.scale, 2))


def test_sticks_and_shares_are_those_of_a_dirichlet_process():
    np.testing.assert_allclose(shares(jnp.asarray([0.5, 0.2])), [0.5, 0.1, 0.4])
    share = jnp.asarray(RNG.dirichlet(np.ones(3), 10))
    for concentration in (1.0, 3.0):
        part = Unknown(most=3, concentration=concentration)

        def height(v, part=part):
            prior = dist.Beta(1.0, part.concentration).log_prob(v).sum()
            return prior + (share * jnp.log(shares(v))).sum()

        best = part.sticks(share)
        np.testing.assert_allclose(jax.jit(jax.grad(height))(best), 0.0, atol=1e-9)
    np.testing.assert_allclose(part.sticks(jnp.eye(3)[jnp.zeros(4, int)]), [4 / 6, 1e-6], rtol=1e-9)


def test_memberships_are_drawn_by_their_shares():
    log_share = jnp.log(jnp.asarray([0.7, 0.2, 0.1]))
    law = Memberships(log_share, 5)
    drawn = law.sample(jax.random.key(0), (600,))
    assert drawn.shape == (600, 5, 3)
    np.testing.assert_allclose(drawn.mean((0, 1)), [0.7, 0.2, 0.1], atol=5 * np.sqrt(0.21 / 3000))
    np.testing.assert_allclose(law.log_prob(jnp.tile(jnp.exp(log_share), (5, 1))), 0.0, atol=1e-12)
    known = jnp.eye(3)[jnp.asarray([0, 0, 1, 2, 0])]
    np.testing.assert_allclose(law.log_prob(known), log_share @ jnp.asarray([3, 1, 1]))


def test_clusters_of_neurons_are_found_and_the_rest_is_empty():
    truth, flat = np.repeat([0, 1, 2], [10, 6, 8])[RNG.permutation(24)], np.empty((400, 24))
    latents = RNG.normal(0, 1, (3, 400, 2))
    for n, k in enumerate(truth):
        turn, gain = RNG.uniform(0, 2 * np.pi), RNG.uniform(0.5, 2.0)  # some read their latents weakly
        flat[:, n] = gain * latents[k] @ [np.cos(turn), np.sin(turn)] + RNG.normal(0, 0.7, 400)
    found = found_clusters(np.corrcoef(flat.T), 5, 2)
    assert adjusted_rand_index(truth, found) > 0.95
    assert (np.diff(np.bincount(found, minlength=5)) <= 0).all()  # the largest first
    covariance, w = in_noise(np.corrcoef(flat.T)), 2  # the height is that of the best model of two factors, noise 1
    values, vectors = np.linalg.eigh(covariance)
    model = vectors[:, -w:] * (values[-w:] - 1) @ vectors[:, -w:].T + np.eye(24)
    gained = np.trace(covariance) - np.linalg.slogdet(model)[1] - np.trace(np.linalg.solve(model, covariance))
    np.testing.assert_allclose(height(covariance, np.arange(24), w), 0.5 * gained, rtol=1e-9)
    turned = vectors[:, -w:] @ np.diag(np.sqrt(values[-w:] - 1)) + 0.05 * RNG.normal(size=(24, w))
    worse = turned @ turned.T + np.eye(24)
    assert np.linalg.slogdet(worse)[1] + np.trace(np.linalg.solve(worse, covariance)) > np.trace(covariance) - gained
    assert height(covariance, np.array([3]), w) == height(covariance, np.zeros(0, int), w) == 0.0


def test_noise_is_what_all_other_neurons_leave():
    flat = RNG.normal(0, 1, (500, 3)) @ RNG.normal(0, 1, (3, 8)) + RNG.normal(0, 1, (500, 8))
    flat = (flat - flat.mean(0)) / flat.std(0)
    whitened = in_noise(flat.T @ flat / 500)
    penalty = np.sqrt(0.1 * 500) * np.eye(8)  # as many bins as tell of the shrinkage
    for n in range(8):
        more = np.concatenate([flat, penalty])
        others = np.delete(more, n, 1)
        rest = more[:, n] - others @ np.linalg.lstsq(others, more[:, n])[0]
        np.testing.assert_allclose(1 / whitened[n, n], (rest**2).sum() / 500, rtol=1e-9)


def test_neurons_that_read_weakly_make_no_cluster_of_their_own():
    rng, truth = np.random.default_rng(0), np.repeat([0, 1, 2], 12)
    latents, loud = rng.normal(0, 1, (3, 1500, 2)), np.tile(np.repeat([0.4, 2.0], 6), 3)
    flat = np.stack([g * latents[k] @ rng.normal(0, 1, 2) for k, g in zip(truth, loud, strict=True)], -1)
    found = found_clusters(np.corrcoef((flat + rng.normal(0, 1, flat.shape)).T), 5, 2)
    assert adjusted_rand_index(truth, found) > 0.9


def test_unknown_populations_have_a_name_and_a_short_form():
    assert SwitchingLDS(populations="unknown") == SwitchingLDS(populations=Unknown(most=6))
    model = SwitchingLDS(2, 1, populations="unknown", most_populations=3)
    assert model.populations == Unknown(most=3)
    assert model.most_populations == 3
    assert rebuilt("model", model.to_settings()) == model
    assert model.replace(most_populations=4).populations == Unknown(most=4)
    with pytest.raises(ValueError, match="SwitchingLDS: most_populations is of populations='unknown'"):
        SwitchingLDS(most_populations=3)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="most counts populations"):
        Unknown(most=0)
    with pytest.raises(ValueError, match="concentration is a number from 1 on"):
        Unknown(concentration=0.5)
    with pytest.raises(ValueError, match="n_neurons counts at least 1, not 0"):
        mrgp.simulate_population_clusters(n_neurons=0)
    with pytest.raises(ValueError, match="give the same things"):
        adjusted_rand_index([0, 1], [0, 1, 2])


def test_the_rand_index_is_that_of_pairs_of_things():
    one, other = RNG.integers(3, size=12), RNG.integers(4, size=12)
    pairs = [(i, j) for i in range(12) for j in range(i)]
    same = np.array([[one[i] == one[j], other[i] == other[j]] for i, j in pairs])
    n, a, b, both = len(pairs), *same.sum(0), same.all(1).sum()
    np.testing.assert_allclose(adjusted_rand_index(one, other), (both - a * b / n) / ((a + b) / 2 - a * b / n))
    assert adjusted_rand_index([0, 0, 1], [5, 5, 2]) == 1.0


def test_known_populations_are_the_regions():
    data = mrgp.MultiRegionData({"V1": RNG.normal(0, 1, (2, 5, 3)), "V2": RNG.normal(0, 1, (2, 5, 2))}, 0.02)
    part = Known()
    assert part.layout(data.layout) is data.layout
    assert [own.tolist() for own in part.first_groups(data.layout, lambda most: None)] == [[0, 1, 2], [3, 4]]
    np.testing.assert_array_equal(part.membership(data).share, np.ones((5, 1)))
