"""Posterior of coupled regions around a maximum: states held in place, draws turned back, and both against a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mrgp.models import CoupledLDS
from numpyro.infer.util import log_density
from scipy.linalg import block_diag
from scipy.stats import ortho_group

import mrgp
from mrgp.inference.density import Density
from mrgp.inference.mode.anchored import STIFF, Anchored, AnchoredProgram, anchors
from mrgp.likelihoods.statespace.coupled_coordinates import aligned, rotated

BIN = 0.02
MODEL = CoupledLDS((2, 1, 1), n_global=2, lag=BIN)


def layout_and_sites(seed=0):
    rng = np.random.default_rng(seed)
    data = mrgp.MultiRegionData({name: rng.standard_normal((3, 4, 3)) for name in "ABC"}, BIN)
    regions = MODEL.regions(data.layout)
    sites = {
        "own_dynamics": 0.5 * block_diag(ortho_group.rvs(2, random_state=1), 1.0, 1.0),
        "coupling": 0.2 * rng.standard_normal((4, 4)) * regions.coupled,
        "drive": rng.standard_normal((4, 2)),
        "global_dynamics": 0.6 * ortho_group.rvs(2, random_state=2),
        "loadings": rng.standard_normal((9, 2)),
        "noise": rng.uniform(0.3, 0.6, 9),
        "offset": np.zeros(9),
    }
    return data, sites


def turned(sites, data, angle, shared=True):
    """The same system, with the states of A rotated by an angle, and the global ones too if they are ``shared``."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = rotated(sites, MODEL.assignment(data.layout), block_diag(turn, 1.0, 1.0))
    if not shared:
        return found
    return found | {"drive": found["drive"] @ turn, "global_dynamics": turn.T @ found["global_dynamics"] @ turn}


class Flat(Density):
    """Density that is the same everywhere."""

    def __call__(self, sites, data):
        return jnp.zeros(())


def test_an_angle_costs_its_square():
    """Of the states of a region, and of global ones; regions of one state have nothing to turn."""
    data, sites = layout_and_sites()
    turning = MODEL.symmetry.turning(data.layout).turning
    held = anchors(turning, sites, sites["noise"])
    density = Anchored(Flat(), turning)
    assert float(density({**sites, **held}, data)) == 0
    for angle in (1e-4, -2e-4):
        only = Anchored(Flat(), turning[:1])
        found = only({**turned(sites, data, angle, shared=False), **held}, data)
        np.testing.assert_allclose(found, -0.5 * (angle / STIFF) ** 2, rtol=1e-6)
        turn = np.array([[1.0, -angle], [angle, 1.0]])
        found = Anchored(Flat(), turning[1:])({**sites, "drive": sites["drive"] @ turn, **held}, data)
        np.testing.assert_allclose(found, -0.5 * (angle / STIFF) ** 2, rtol=1e-6)
    larger = {**sites, "loadings": 2 * sites["loadings"], "drive": 3 * sites["drive"]}
    np.testing.assert_allclose(density({**larger, **held}, data), 0, atol=1e-12)


@pytest.mark.slow
def test_what_holds_draws_favours_no_size_of_loadings():
    data, sites = layout_and_sites()
    turning = MODEL.symmetry.turning(data.layout).turning
    held = {name: jnp.asarray(value) for name, value in anchors(turning, sites, sites["noise"]).items()}
    program = AnchoredProgram(MODEL, turning, MODEL.likelihood)

    @jax.jit
    def extra(sites):
        whole, trace = log_density(program, (data,), {}, {**sites, **held})
        assert {"held_loadings", "held_drive"} <= trace.keys()
        return whole - log_density(MODEL, (data,), {}, sites)[0]

    found = [float(extra(jax.tree.map(jnp.asarray, at))) for at in (sites, turned(sites, data, 0.01))]
    np.testing.assert_allclose(found[0], 0, atol=1e-9)
    assert found[1] < -1e-4
    doubled = {**turned(sites, data, 0.01), "loadings": 2 * turned(sites, data, 0.01)["loadings"]}
    np.testing.assert_allclose(float(extra(jax.tree.map(jnp.asarray, doubled))), found[1], rtol=1e-6)


def test_draws_are_turned_to_the_reference():
    data, sites = layout_and_sites()
    draws = [turned(sites, data, angle) for angle in (0.3, -2.0)]
    stacked = {name: np.stack([draw[name] for draw in draws])[None] for name in sites}
    found = aligned(stacked, MODEL.assignment(data.layout), sites, sites["noise"])
    for name, value in sites.items():
        used = MODEL.assignment(data.layout).used if name == "loadings" else True
        np.testing.assert_allclose(found[name] * used, np.stack([value * used] * 2)[None], atol=1e-10)
    few = {"coupling": stacked["coupling"]}  # without what they are turned by
    same = aligned(few, MODEL.assignment(data.layout), sites, sites["noise"])
    np.testing.assert_array_equal(same["coupling"], stacked["coupling"])


@pytest.fixture(scope="module")
def pair():
    """Two regions that drive each other, few trials, and a fit in which all but the edges is held at the truth."""
    model = CoupledLDS(1)
    sites = {"own_dynamics": np.diag([0.8, 0.6]), "coupling": np.array([[0.0, -0.4], [0.7, 0.0]])}
    sizes = {"regions": {"A": 3, "B": 3}, "n_trials": 8, "n_bins": 15, "bin_width": BIN, "seed": 1}
    made = mrgp.simulate(model, sites=sites, **sizes, snr=2.0)
    held = {name: value for name, value in made.sites.items() if name != "coupling"}
    return made, held


@pytest.mark.slow
def test_draws_are_those_of_a_grid(pair):
    made, held = pair
    settings = {"progress": False, "n_starts": 1, "n_draws": 1000, "loadings": "included"}
    fit = CoupledLDS(1).fit(made.data, "laplace", fixed=held, **settings)
    grid = np.linspace(-1.5, 2.0, 141)
    known = {name: jnp.asarray(value) for name, value in held.items()}

    @jax.jit
    @jax.vmap
    def joint(first, second):
        coupling = jnp.zeros((2, 2)).at[1, 0].set(first).at[0, 1].set(second)
        return log_density(CoupledLDS(1), (made.data,), {}, {**known, "coupling": coupling})[0]

    heights = np.asarray(joint(*(axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij")))).reshape(141, 141)
    weights = np.exp(np.nan_to_num(heights, nan=-np.inf) - np.nanmax(heights))  # no number: not stable
    for axis, place in ((1, (1, 0)), (0, (0, 1))):
        own = weights.sum(axis) / weights.sum()
        mean = own @ grid
        sd = np.sqrt(own @ (grid - mean) ** 2)
        drawn = fit.samples["coupling"][(0, slice(None), *place)]
        assert abs(drawn.mean() - mean) < 0.06 * sd + 3 * sd / np.sqrt(1000)
        assert abs(drawn.std() / sd - 1) < 0.08


@pytest.mark.slow
def test_a_posterior_says_of_edges_what_a_maximum_does(tmp_path):
    model = CoupledLDS((2, 1))
    made = mrgp.simulate(model, regions={"A": 4, "B": 3}, n_trials=20, n_bins=20, bin_width=BIN, seed=1, snr=2.0)
    top = model.fit(made.data, progress=False, n_starts=1)
    fit = model.fit(made.data, "laplace", start=top, progress=False, loadings="profiled")
    assert set(fit.samples) == {"own_dynamics", "coupling"}
    rows, columns = np.nonzero(model.regions(made.data.layout).coupled)
    drawn = fit.samples["coupling"][0][:, rows, columns]
    sd = np.sqrt(np.diag(fit.saved_curvature.covariance))[: len(rows)]
    np.testing.assert_allclose(drawn.std(0), sd, rtol=0.1)
    one, other = top.edges(), fit.edges()
    np.testing.assert_allclose(other.upper, one.upper, rtol=0.05)
    np.testing.assert_allclose(other.log_bayes_factor, one.log_bayes_factor, atol=0.3)
    assert dict(fit.to_arviz().posterior.sizes)["state_after"] == 3
    fit.save(tmp_path / "fit.nc")
    back = mrgp.load_fit(tmp_path / "fit.nc").edges(data=made.data)
    np.testing.assert_allclose(back.upper, other.upper, rtol=1e-6)
    with pytest.raises(ValueError, match=r"evidence for edges .*: leave data out, or fit"):
        fit.edges(data=made.data.select_trials(np.arange(10)))


@pytest.mark.slow
def test_draws_of_everything_agree_with_the_gaussian():
    """States that turn are held in place on the way, and entries of matrices have a spread of their own."""
    model = CoupledLDS((2, 1))
    made = mrgp.simulate(model, regions={"A": 4, "B": 3}, n_trials=20, n_bins=20, bin_width=BIN, seed=1, snr=2.0)
    fit = model.fit(made.data, "laplace", progress=False, n_starts=1, n_draws=50)
    assert {"own_dynamics", "coupling", "loadings", "noise", "offset"} <= set(fit.samples)
    rows, columns = np.nonzero(model.regions(made.data.layout).coupled)
    drawn, known = fit.samples["coupling"][0][:, rows, columns], fit.saved_curvature
    sd = np.sqrt(np.diag(known.covariance))[: len(rows)]
    np.testing.assert_allclose(drawn.mean(0), known.mean[: len(rows)], atol=0.6 * sd.max())
    np.testing.assert_allclose(drawn.std(0), sd, rtol=0.4)


@pytest.mark.slow
def test_draws_with_a_learned_start_are_those_of_laplace_and_wider_than_q():
    """Also the first state is drawn; q of variational Bayes takes what it knows for independent."""
    size = {"regions": {"A": 5, "B": 4}, "n_trials": 20, "n_bins": 20, "bin_width": BIN}
    made = mrgp.simulate(CoupledLDS(1), **size, seed=1, snr=2.0)
    model = CoupledLDS(1, start="learned")
    fit = model.fit(made.data, "laplace", n_draws=400, n_starts=1, progress=False)
    assert fit.samples["first_state_root"].shape[2:] == (2, 2)
    assert not fit.undrawn_sites
    drawn = {name: value[0] for name, value in fit.samples.items()}
    assert (drawn["first_state_root"][:, 0, 1] == 0).all()
    other = model.fit(made.data, "vb", n_starts=1, progress=False)
    q = {name: value[0] for name, value in other.samples.items()}
    for name in ("own_dynamics", "coupling"):
        ratio = drawn[name].std(0) / np.where(drawn[name].std(0) > 0, q[name].std(0), 1.0)
        assert ratio.max() < 2.0
        assert ratio[drawn[name].std(0) > 0].min() > 0.95
        gap = np.abs(drawn[name].mean(0) - q[name].mean(0)) / np.where(drawn[name].std(0) > 0, drawn[name].std(0), 1.0)
        assert gap.max() < 0.5
