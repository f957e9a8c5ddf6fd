"""State spaces of kernels: the group law, the matrix exponential, the closed form, the constants' errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registry
from scipy.linalg import expm

from mrgp.likelihoods.statespace.lift import RotatingLift, StackedLift, StretchedLift, build_lift
from mrgp.likelihoods.statespace.modal import ModalLift
from mrgp.likelihoods.statespace.rational import derive_squared_exponential, rational_correlation, squared_exponential
from mrgp.parts.kernels import Kernel, Matern32, RationalQuadratic, SquaredExponential

TIMESCALES = (0.05, 1.0, 3.7, 1e4)  # bins; the first and the last are far outside what a recording resolves
ROUND_OFF = 1e-11  # a transition is a sum of up to ten modes of size 100
BETWEEN = 1.01  # errors are taken on a grid of lags; a maximum between two of them is less than 1% higher


@pytest.fixture(
    params=[pytest.param(one, marks=pytest.mark.slow) if one.name.startswith("rational_quadratic") else one
            for one in registry.KERNELS],
    ids=lambda case: case.name,
)  # fmt: skip
def case(request):
    """Every kernel; of those whose state space is searched for, the one of a user's own always."""
    return request.param


propagate = jax.jit(lambda lift, lag, hyper: lift.propagate(lag, hyper), static_argnums=0)


@partial(jax.jit, static_argnums=0)
def read(lift, lag, hyper):
    """h' A h (lag, latent)."""
    return jnp.einsum("i,tlij,j->tl", lift.read(), lift.propagate(lag, hyper), lift.read())


slope_forward = jax.jit(jax.jacfwd(read, argnums=2), static_argnums=0)
slope_reverse = jax.jit(jax.jacrev(read, argnums=2), static_argnums=0)


def transitions(lift, case, lags, timescales=TIMESCALES):
    """A (lag, latent, state, state) at the given lags."""
    grid = jnp.broadcast_to(jnp.asarray(lags, float)[:, None], (len(lags), len(timescales)))
    return np.asarray(propagate(lift, grid, case.hyper(*timescales)))


def represented(lift, case, lags, timescales=TIMESCALES):
    """h' A h (lag, latent)."""
    h = lift.read()
    return np.einsum("i,tlij,j->tl", h, transitions(lift, case, lags, timescales), h)


def by_exponential(lift, case, lag, timescale):
    """The transition by scipy's matrix exponential, put together from the parts' matrices F."""
    if isinstance(lift, ModalLift):
        return expm(lift.rational.F * lag / timescale)
    if isinstance(lift, StretchedLift):
        return by_exponential(lift.base, case, lag, timescale * lift.kernel.factor)
    if isinstance(lift, RotatingLift):
        turn = expm(2 * np.pi * case.own["frequency"] * lag * np.array([[0.0, -1.0], [1.0, 0.0]]))
        return np.kron(by_exponential(lift.base, case, lag, timescale), turn)
    assert isinstance(lift, StackedLift)
    blocks = [by_exponential(part, case, lag, timescale) for part in lift.parts]
    whole, at = np.zeros((lift.order, lift.order)), 0
    for block in blocks:
        whole[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return whole


@pytest.mark.parametrize("kernel", [Matern32(), SquaredExponential()], ids=["matern_32", "squared_exponential"])
def test_slopes_and_curvature_of_a_transition_are_those_of_its_modes(kernel):
    lift, weights = build_lift(kernel), np.random.default_rng(0).standard_normal((5, 1, 1))
    u = jnp.array([0.01, 0.3, 1.0, 2.5, 6.0])

    def summed(transition):
        return lambda u: (weights * transition(u)).sum() + (transition(u) ** 2).sum()

    ours, modes = summed(lambda u: lift.propagate(u, {"timescale": jnp.ones(5)})), summed(lift.transition)
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        found, wanted = (jax.jit(derivative(function))(u) for function in (ours, modes))
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_no_lag_is_the_identity_and_the_readout_has_unit_variance(case, lift):
    A = transitions(lift, case, [0.0])[0]
    np.testing.assert_allclose(A, np.broadcast_to(np.eye(lift.order), A.shape), atol=ROUND_OFF)
    assert np.linalg.norm(lift.read()) == pytest.approx(1.0, abs=1e-14)


def test_transitions_compose(case, lift):
    first, second, both = transitions(lift, case, [0.7, 2.6, 3.3])
    np.testing.assert_allclose(first @ second, both, atol=ROUND_OFF)


def test_transition_is_the_matrix_exponential(case, lift):
    lags = [0.03, 0.5, 1.0, 8.0]
    A = transitions(lift, case, lags)
    for i, lag in enumerate(lags):
        for j, timescale in enumerate(TIMESCALES):
            np.testing.assert_allclose(A[i, j], by_exponential(lift, case, lag, timescale), atol=ROUND_OFF)


def test_process_noise_is_positive_semidefinite(case, lift):
    A = transitions(lift, case, [0.01, 0.3, 1.0, 5.0, 100.0])
    noise = np.eye(lift.order) - A @ np.swapaxes(A, -1, -2)
    assert np.linalg.eigvalsh(noise).min() > -ROUND_OFF


def test_readout_has_the_kernels_correlation(case, lift):
    """Within ``lift.error``, the promised largest deviation: at every lag, not only where it was fitted."""
    lags = np.linspace(0.0, 60.0, 2401)
    for timescale in (1.0, 6.0):
        values = represented(lift, case, lags, (timescale,))[:, 0]
        deviation = np.abs(values - case.closed(lags, timescale)).max()
        assert deviation <= BETWEEN * lift.error + 1e-10
    if case.exact:
        assert lift.error <= 1e-10


@pytest.mark.parametrize("order", [3, 4, 5, 6])
def test_error_of_the_squared_exponential_is_its_largest_deviation(order):
    lift = build_lift(SquaredExponential(), order)
    lags = jnp.linspace(0.0, 40.0, 8001)[:, None]
    values = np.asarray(read(lift, lags, {"timescale": jnp.ones(1)}))[:, 0]
    assert np.abs(values - np.exp(-(np.asarray(lags[:, 0]) ** 2) / 2)).max() <= BETWEEN * lift.error


def test_extreme_timescales_are_finite(case, lift):
    """0.05 bin: neighbouring bins are independent. 1e4 bins: nothing changes within a trial."""
    hyper = case.hyper(0.05, 1e4)
    lags = jnp.array([[1.0, 1.0], [200.0, 200.0]])

    values = np.asarray(read(lift, lags, hyper))
    assert np.isfinite(slope_reverse(lift, lags, hyper)["timescale"]).all()
    expected = np.stack([case.closed(np.array([1.0, 200.0]), l) for l in (0.05, 1e4)], 1)
    # A heavy-tailed kernel is still 2e-3 at 20 timescales, where its lift may have forgotten it.
    np.testing.assert_allclose(values, expected, atol=lift.error + 2e-3)


def test_gradient_by_timescale_is_that_of_finite_differences(case, lift):
    lags, at, step = jnp.array([[0.0], [0.4], [1.0], [5.0]]), 2.3, 1e-4
    slope = np.asarray(slope_forward(lift, lags, case.hyper(at))["timescale"])[:, 0, 0]
    above, below = (np.asarray(read(lift, lags, case.hyper(at + move)))[:, 0] for move in (step, -step))
    differences = (above - below) / (2 * step)
    # Truncation step^2 / 6 x third derivative (below 1) = 2e-9, round-off 1e-14 / step = 1e-10.
    np.testing.assert_allclose(slope, differences, atol=1e-8)
    reverse = np.asarray(slope_reverse(lift, lags, case.hyper(at))["timescale"])[:, 0, 0]
    np.testing.assert_allclose(reverse, slope, atol=1e-12)
    assert np.abs(slope).max() > 1e-2
    assert slope[0] == pytest.approx(0.0, abs=1e-12)


# --- the constants of the squared exponential


@pytest.mark.parametrize(("order", "bound"), [(3, 4.5e-3), (4, 7.6e-4), (5, 5.1e-5), (6, 5.4e-6)])
def test_table_of_the_squared_exponential_is_as_accurate_as_published(order, bound):
    fit, lags = squared_exponential(order), np.linspace(0, 6, 241)  # the design's grid
    assert np.abs(rational_correlation(fit.F, fit.h, lags) - np.exp(-(lags**2) / 2)).max() <= bound


def test_table_has_orders_two_to_six():
    for order in (1, 7):
        with pytest.raises(ValueError, match=f"order 2 to 6, not {order}"):
            build_lift(SquaredExponential(), order)


@pytest.mark.slow
def test_derivation_reproduces_the_table():
    for order, fit in derive_squared_exponential(4).items():
        shipped = squared_exponential(order).error
        assert shipped / 1.5 <= fit.error <= 1.5 * shipped


# --- kernels of one's own


def kernel_of(function):
    class Mine(Kernel):
        def cov(self, tau):
            return function(tau)

    return Mine()


def sech(tau):
    return 1 / jnp.cosh(tau)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda tau: jnp.exp(-0.5 * tau**2) * (1 + 0.1 * jnp.tanh(tau)), "Mine.cov must be even in the lag"),
        (lambda tau: 2 * jnp.exp(-jnp.abs(tau)), r"Mine.cov\(0\) is 2; it must be 1, since scale"),
        (lambda tau: jnp.where(jnp.abs(tau) < 1, 1.0, 0.0), "Mine.cov is not positive definite"),
        (lambda tau: jnp.exp(-(tau**4)), "Mine.cov is not positive definite"),
        (lambda tau: jnp.sin(tau) / tau, "Mine.cov is not finite at lag 0 timescales"),
        (lambda tau: jnp.where(jnp.abs(tau) > 7.03, jnp.inf, sech(tau)), "not finite at lag 7.05"),
        (lambda tau: sech(tau).sum(), r"must return one value per lag: shape \(\d+,\), not \(\)"),
        (lambda tau: sech(tau)[:, None], r"one value per lag: shape \(\d+,\), not \(\d+, 1\)"),
    ],
)
def test_what_is_no_correlation_function_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        build_lift(kernel_of(function))


def test_a_kernel_of_ones_own_with_an_exact_form_is_found_exactly():
    lift = build_lift(kernel_of(lambda tau: jnp.exp(-jnp.abs(tau))), 4)
    assert lift.error < 1e-8  # two poles and zeros cancel in the Ornstein-Uhlenbeck process


def test_order_of_a_fitted_kernel_out_of_range_is_refused_by_name():
    with pytest.raises(ValueError, match="2 to 6, not 7"):
        build_lift(kernel_of(lambda tau: jnp.exp(-jnp.abs(tau))), 7)


def test_a_subclass_with_its_own_cov_is_not_taken_for_its_parent():
    class Peaked(SquaredExponential):
        def cov(self, tau):
            return jnp.exp(-jnp.abs(tau))

    value = float(read(build_lift(Peaked()), jnp.ones((1, 1)), {"timescale": jnp.ones(1)})[0, 0])
    assert value == pytest.approx(np.exp(-1.0), abs=1e-3)


@pytest.mark.slow
def test_more_states_represent_a_kernel_no_worse():
    heavy = RationalQuadratic(0.3)
    assert build_lift(heavy, 6).error <= build_lift(heavy, 5).error
