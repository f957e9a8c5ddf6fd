"""Windows of registers: exact dynamics, reading by conditioning, and what that costs in nats."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mrgp.likelihoods.statespace.assemble import Latents, Prior, StateSpace
from mrgp.likelihoods.statespace.covariance import divergence, exact_covariance, lifted_covariance
from mrgp.likelihoods.statespace.lift import build_lift
from mrgp.likelihoods.statespace.readout import Window, latent_blocks, readout_weights
from mrgp.parts.kernels import Matern32, Matern52, Spectral, SquaredExponential
from mrgp.parts.latents import LatentLayout

KERNELS = {
    "squared_exponential": SquaredExponential(),
    "matern52": Matern52(),
    "spectral": Spectral(Matern32(), frequency=4.0),
}
WINDOWS = [Window(0), Window(6), Window(12, 1, 2), Window(4, 3), Window(2, 1, 2)]
TIMESCALES = (0.3, 2.0, 15.0)
HYPER = {"timescale": jnp.array(TIMESCALES), "frequency": jnp.full(3, 0.08)}

lift_of = cache(lambda name: build_lift(KERNELS[name], 5))  # the order of the design's table
read = jax.jit(readout_weights, static_argnums=(0, 1))
lifted = jax.jit(lifted_covariance, static_argnums=(0, 2))
exact = jax.jit(exact_covariance, static_argnums=(0, 2))


@cache
def blocks_of(name, window):
    return jax.jit(latent_blocks, static_argnums=(0, 1))(lift_of(name), window, HYPER)


def transition(name, lag):
    """A (latent, state, state) at one lag in bins: cov(z(t + lag), z(t)), lags of either sign."""
    A = np.asarray(lift_of(name).propagate(jnp.full((1, 3), abs(lag)), HYPER)[0])
    return A if lag >= 0 else np.swapaxes(A, -1, -2)


def covariance_by_hand(name, window, ahead=0.0):
    """cov(s a time ``ahead`` later, s) of the window, entry by entry from cov(z(t + a), z(t)) = A(a)."""
    h, p = lift_of(name).read(), lift_of(name).order
    parts = [(0.0, np.eye(p))] + [(-i * window.spacing, h[None]) for i in range(1, window.n_registers + 1)]
    rows = [
        np.concatenate([one @ transition(name, ahead + a - b) @ two.T for b, two in parts], -1)
        for a, one in parts
    ]
    return np.concatenate(rows, axis=-2)


USUAL = {("squared_exponential", 0), ("squared_exponential", 2), ("matern52", 1), ("matern52", 4), ("spectral", 3)}


@pytest.mark.parametrize(
    ("name", "window"),
    [pytest.param(name, window, marks=() if (name, i) in USUAL else pytest.mark.slow)
     for name in KERNELS for i, window in enumerate(WINDOWS)],
    ids=str,
)  # fmt: skip
class TestBlocks:
    def test_stationary_covariance_is_that_of_the_lift(self, name, window):
        np.testing.assert_allclose(
            blocks_of(name, window).stationary, covariance_by_hand(name, window), atol=1e-12
        )

    def test_dynamics_keep_the_stationary_covariance(self, name, window):
        F, Q, G = (np.asarray(block) for block in blocks_of(name, window)[:3])
        np.testing.assert_allclose(F @ G @ np.swapaxes(F, -1, -2) + Q, G, atol=1e-12)

    def test_one_step_has_the_covariance_of_the_lift(self, name, window):
        """Fixes the transition itself, which the stationary covariance alone does not."""
        blocks = blocks_of(name, window)
        F, G = np.asarray(blocks.transition), np.asarray(blocks.stationary)
        expected = covariance_by_hand(name, window, ahead=window.step)
        np.testing.assert_allclose(F @ G, expected, atol=1e-12)

    def test_registers_shift_as_the_transition_says(self, name, window):
        blocks = latent_blocks(lift_of(name), window, HYPER)
        states = np.random.default_rng(0).standard_normal((*blocks.transition.shape[:2], 2))
        shifted = blocks.shift.advanced(jnp.asarray(states.reshape(-1, 2)))
        expected = np.asarray(blocks.transition) @ states
        np.testing.assert_allclose(shifted, expected.reshape(-1, 2), rtol=1e-12, atol=1e-13)

    def test_process_noise_is_positive_semidefinite(self, name, window):
        noise = np.asarray(blocks_of(name, window).process_noise)
        np.testing.assert_allclose(noise, np.swapaxes(noise, -1, -2), atol=1e-15)
        assert np.linalg.eigvalsh(noise).min() >= -1e-12

    def test_what_the_window_remembers_is_read_without_loss(self, name, window):
        blocks, lift = blocks_of(name, window), lift_of(name)
        offset = np.arange(window.n_registers + 1) * window.spacing
        points = jnp.broadcast_to(jnp.asarray(offset)[:, None], (len(offset), 3))
        weights, missed = read(lift, window, blocks, HYPER, points)
        memory = np.zeros((len(offset), blocks.stationary.shape[-1]))
        memory[0, : lift.order] = lift.read()
        memory[1:, lift.order :] = np.eye(window.n_registers)
        wrong = np.asarray(weights) - memory[:, None]
        # The ridge of 1e-11 moves weights along directions of G that carry no variance: judged in units of g.
        variance = np.einsum("qki,kij,qkj->qk", wrong, np.asarray(blocks.stationary), wrong)
        assert variance.max() < 1e-12
        assert np.abs(wrong[:, 0]).max() < 1e-6  # where G is well conditioned, the weights themselves
        assert np.asarray(missed).max() < 1e-10

    def test_missed_variance_is_that_of_gaussian_conditioning(self, name, window):
        """Between the registers and up to two bins beyond either end of the window."""
        lift, G = lift_of(name), covariance_by_hand(name, window)
        reach = window.n_registers * window.spacing
        offset = np.linspace(-2.0, reach + 2.0, 23)
        points = jnp.broadcast_to(jnp.asarray(offset)[:, None], (23, 3))
        weights, missed = read(lift, window, blocks_of(name, window), HYPER, points)
        h = lift.read()
        registers = np.arange(1, window.n_registers + 1) * window.spacing
        for i, a in enumerate(offset):
            k = np.concatenate(
                [(transition(name, a) @ h), *[h @ transition(name, a - b) @ h[:, None] for b in registers]],
                -1,
            )
            for latent in range(3):
                # lstsq drops directions without variance, where the code adds its ridge of 1e-11 instead.
                best, *_ = np.linalg.lstsq(G[latent], k[latent], rcond=1e-12)
                assert float(missed[i, latent]) == pytest.approx(1 - k[latent] @ best, abs=2e-9)
                predicted = np.asarray(weights[i, latent])
                np.testing.assert_allclose(G[latent] @ predicted, k[latent], atol=1e-5)


def test_reading_is_no_better_than_it_can_be():
    """A short timescale between two registers is mostly missed: that variance goes to the noise."""
    window = Window(6)
    blocks = blocks_of("squared_exponential", window)
    points = jnp.array([[2.5] * 3, [2.0] * 3])
    _, missed = read(lift_of("squared_exponential"), window, blocks, HYPER, points)
    # At timescale 0.3 and half a bin from either neighbour: 1 - 2 exp(-(0.5 / 0.3)^2).
    assert float(missed[0, 0]) == pytest.approx(1 - 2 * np.exp(-((0.5 / 0.3) ** 2)), abs=1e-2)
    assert float(missed[1, 0]) < 1e-10


@pytest.mark.parametrize(
    ("window", "spacing", "center"),
    [
        (Window(0), 1, 0),
        (Window(6), 1, 3),
        (Window(12, 1, 2), 0.5, 3),
        (Window(4, 3), 3, 5),
        (Window(1, 3), 3, 0.5),
    ],
    ids=str,
)
def test_spacing_and_center(window, spacing, center):
    assert (window.spacing, window.center) == (spacing, center)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "n_registers >= 0"),
        ((3, 0), "step >= 1"),
        ((3, 1, 0), "substeps >= 1"),
        ((1, 1, 2), "as many registers as substeps"),
        ((6, 2, 2), "one of step and substeps 1"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Window(*arguments)


# --- the cost of representing delays by registers

N_BINS = 100
PRIOR = Prior(SquaredExponential(), 1e-3, LatentLayout((1, 1, 1), 1, (0, 0, 0)))
NONE = {"timescale": jnp.zeros(0)}


def latents_of(timescale, delay):
    return Latents(delay[..., None], {"timescale": timescale[None]}, NONE)


@cache
def divergence_of(window):
    """KL (nats per trial) of a window, observation variance 0.05; called with timescale and delays."""
    space = StateSpace(PRIOR, lift_of("squared_exponential"), window)

    def kl(timescale, delay):
        latents = latents_of(timescale, delay)
        truth, approximation = exact(PRIOR, latents, N_BINS), lifted(space, latents, N_BINS)
        return divergence(truth, approximation, jnp.eye(3 * N_BINS) / 0.05)

    compiled = jax.jit(kl)
    return lambda timescale, *delay: float(compiled(jnp.array(float(timescale)), jnp.array(delay)[None]))


# The table of the design, each entry with half a unit of its last printed digit.
PUBLISHED = {
    Window(6): {0.7: 20.5, 1: 2.05, 1.41: 0.0695, 2: 8.95e-3, 5: 1.25e-3, 10: 1.15e-3, 30: 1.45e-3},
    Window(12, 1, 2): {0.7: 0.0215, 1: 2.25e-3, 1.41: 3.65e-4, 2: 4.55e-4, 5: 8.5e-4, 10: 1.5e-3, 30: 1.5e-3},
}


@pytest.mark.parametrize(
    "window", [Window(6), pytest.param(Window(12, 1, 2), marks=pytest.mark.slow)], ids=str
)
def test_divergence_is_at_most_the_published_one(window):
    for timescale, bound in PUBLISHED[window].items():
        value = divergence_of(window)(timescale, 0.0, 2.3, -1.7)
        assert bound / 2 < value <= bound, timescale  # far below would mean that nothing is measured


def test_divergence_at_equal_delays_and_at_the_bound_of_the_window():
    kl = divergence_of(Window(6))
    assert 0 <= kl(5, 0.0, 2.0, 2.0) < 1.25e-3
    assert 0 <= kl(5, 0.0, 0.0, 0.0) < 1.25e-3
    assert 0 <= kl(5, 0.0, 3.0, -3.0) < 1.5e-3  # the ends of the window are registers: as good as the middle


def test_divergence_is_that_of_two_gaussians():
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((2, 6, 6))
    first, second = roots @ np.swapaxes(roots, -1, -2)
    loadings = rng.standard_normal((9, 6))
    loadings[:, 5] = loadings[:, 4]  # a singular precision
    noise = rng.uniform(0.5, 2, 9)
    S0, S1 = (loadings @ V @ loadings.T + np.diag(noise) for V in (first, second))
    expected = 0.5 * (
        np.trace(np.linalg.solve(S1, S0)) - 9 + np.linalg.slogdet(S1)[1] - np.linalg.slogdet(S0)[1]
    )
    precision = (loadings / noise[:, None]).T @ loadings
    value = divergence(jnp.asarray(first), jnp.asarray(second), jnp.asarray(precision))
    assert float(value) == pytest.approx(expected, rel=1e-10)


# --- the whole model


def covariance_of_the_definition(prior, latents, n_bins):
    """The readouts' covariance from its definition, by loops; squared exponential only."""
    a, eps = prior.assignment, prior.gp_noise
    across, within = (np.asarray(h["timescale"]) for h in (latents.across, latents.within))
    delay = np.broadcast_to(np.asarray(latents.delay), (n_bins, a.n_regions, a.n_across))
    entries = [
        ("across", k, t - delay[t, r, k], across[k], (t, r, k))
        for t in range(n_bins)
        for r in range(a.n_regions)
        for k in range(a.n_across)
    ]
    own = [("within", j, t, within[j], (t, j)) for t in range(n_bins) for j in range(sum(a.n_within))]
    per_bin = [
        entries[t * a.n_regions * a.n_across : (t + 1) * a.n_regions * a.n_across]
        + own[t * sum(a.n_within) : (t + 1) * sum(a.n_within)]
        for t in range(n_bins)
    ]
    flat = [entry for group in per_bin for entry in group]
    V = np.zeros((len(flat), len(flat)))
    for i, (kind, k, time, scale, who) in enumerate(flat):
        for j, (kind2, k2, time2, _, who2) in enumerate(flat):
            if (kind, k) == (kind2, k2):
                V[i, j] = (1 - eps) * np.exp(-((time - time2) ** 2) / (2 * scale**2))
            if who == who2:
                V[i, j] += eps
    return V


def example(n_across=2, n_within=(1, 0, 2), delay_steps=1, n_bins=5, timescale=20.0):
    rng = np.random.default_rng(1)
    prior = Prior(SquaredExponential(), 1e-2, LatentLayout((3, 2, 4), n_across, n_within))
    latents = Latents(
        jnp.asarray(rng.uniform(-2.9, 2.9, (delay_steps, 3, n_across))),
        {"timescale": jnp.asarray(timescale * rng.uniform(0.8, 1.2, n_across))},
        {"timescale": jnp.asarray(timescale * rng.uniform(0.8, 1.2, sum(n_within)))},
    )
    return prior, latents, n_bins


@pytest.mark.parametrize("delay_steps", [1, 5])
@pytest.mark.parametrize(("n_across", "n_within"), [(2, (1, 0, 2)), (0, (1, 0, 2)), (2, (0, 0, 0))])
def test_exact_covariance_is_the_definition_of_the_model(delay_steps, n_across, n_within):
    prior, latents, n_bins = example(n_across, n_within, delay_steps)
    expected = covariance_of_the_definition(prior, latents, n_bins)
    np.testing.assert_allclose(exact(prior, latents, n_bins), expected, atol=1e-13)


@pytest.mark.parametrize(
    ("delay_steps", "window"),
    [
        (1, Window(6)), (11, Window(12, 1, 2)), (11, Window(3, 3)),
        *(pytest.param(*one, marks=pytest.mark.slow)
          for one in [(11, Window(6)), (1, Window(12, 1, 2)), (1, Window(3, 3))]),
    ],
    ids=str,
)  # fmt: skip
def test_lifted_covariance_is_near_the_exact_one(window, delay_steps):
    """Eleven bins do not fill the steps of three; delays of each bin must land on the right bin of a step."""
    prior, latents, n_bins = example(delay_steps=delay_steps, n_bins=11)
    space = StateSpace(prior, lift_of("squared_exponential"), window)
    approximation = lifted(space, latents, n_bins)
    # The lift's error of k (5e-5) and what the registers miss at timescale 20 (below 1e-4).
    np.testing.assert_allclose(approximation, exact(prior, latents, n_bins), atol=1.5e-4)
    np.testing.assert_allclose(
        np.diag(approximation), 1.0, atol=1e-9
    )  # a readout keeps variance 1 whatever it misses


@pytest.mark.parametrize(
    "window",
    [Window(0), Window(12, 1, 2), Window(3, 3),
     *(pytest.param(one, marks=pytest.mark.slow) for one in (Window(6), Window(4, 3), Window(2, 1, 2)))],
    ids=str,
)  # fmt: skip
def test_assembled_sizes(window):
    prior, latents, _ = example()
    space = StateSpace(prior, lift_of("squared_exponential"), window)
    dynamics, readout = jax.jit(space.assemble)(latents)
    assert {m.shape for m in dynamics[:3]} == {(space.n_states, space.n_states)}
    assert dynamics.mean is None
    assert readout.weights.shape == (1, window.step * prior.assignment.n_readouts, space.n_states)
    assert readout.noise.shape == readout.weights.shape[:2]
    assert np.asarray(readout.noise).min() >= prior.gp_noise


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_share_of_noise_must_lie_between_zero_and_one(share):
    with pytest.raises(ValueError, match=r"gp_noise is a share of variance in \(0, 1\)"):
        Prior(SquaredExponential(), share, LatentLayout((1,), 1, (0,)))
