"""Every law of delays: what its program samples is what its table says, within the bound, which can be widened."""

import numpy as np
import pytest
import registry
from numpyro import handlers

from mrgp.parts.delays import bounds
from mrgp.parts.delays.base import Extent
from mrgp.parts.sites import SITES

EXTENT = Extent(n_regions=3, n_across=2, bin_width=registry.BIN_WIDTH, n_bins=12, covered=10)
LAWS = registry.PARTS["delays"]
BOUNDED = [law for law in LAWS if law.bound(registry.BIN_WIDTH) > 0]


def drawn(law, extent=EXTENT, seed=0):
    """Delays in bins, (1 or time, region, latent), and the sites that they were made of."""
    with handlers.seed(rng_seed=seed), handlers.trace() as trace:
        delay = np.asarray(law.sample(extent))
    return delay, trace


def values(trace):
    return {name: np.asarray(site["value"]) for name, site in trace.items()}


def level(law, delay):
    """Sites at which all delays stay at one of so many seconds."""
    sites = values(drawn(law)[1])
    return {name: np.full_like(value, delay if name == "delay" else 0.0) for name, value in sites.items()}


@pytest.fixture(params=LAWS, ids=lambda law: type(law).__name__)
def law(request):
    """Every law in turn."""
    return request.param


@pytest.fixture(params=BOUNDED, ids=lambda law: type(law).__name__)
def bounded(request):
    """Every law of delays that have a bound, in turn."""
    return request.param


def test_its_program_gives_a_table_of_delays(law):
    delay, trace = drawn(law)
    assert delay.shape == (EXTENT.n_bins if law.moves else 1, 3, 2)
    assert not delay[:, 0].any()  # the first region is the clock
    assert np.abs(delay).max() * EXTENT.bin_width <= law.bound(EXTENT.bin_width)
    assert (np.ptp(delay, axis=0)[1:].max() > 0) == law.moves
    assert np.array_equal(delay[EXTENT.covered - 1 :], np.repeat(delay[-1:], len(delay[EXTENT.covered - 1 :]), 0))
    assert set(law.dynamics(EXTENT)) | set(law.held) <= trace.keys()
    for name, site in trace.items():
        assert (site["infer"]["dims"], site["infer"]["unit"]) == (SITES[name].dims, SITES[name].unit)
        assert site["value"].ndim == len(SITES[name].dims)


def test_its_table_is_what_the_program_reads(law):
    many = [drawn(law, seed=seed) for seed in range(3)]
    sites = [values(trace) for _, trace in many]
    tables = [law.table(one, EXTENT) for one in sites]
    for (delay, _), table in zip(many, tables, strict=True):
        read = np.moveaxis(table, -1, 0) if law.moves else table[None]
        np.testing.assert_allclose(read / EXTENT.bin_width, delay, atol=1e-12)
    stacked = {name: np.stack([one[name] for one in sites]) for name in sites[0]}
    if stacked:
        np.testing.assert_allclose(law.table(stacked, EXTENT), tables)


def test_without_latents_it_has_nothing_to_find(law):
    extent = EXTENT._replace(n_across=0)
    delay, _ = drawn(law, extent)
    assert delay.shape[1:] == (3, 0)
    assert law.dynamics(extent) == ()
    assert not bounds.are_read(law, extent)


def test_its_search_is_of_constant_delays(law):
    simple = law.for_search()
    assert not simple.moves
    assert simple.bound(EXTENT.bin_width) == law.bound(EXTENT.bin_width)
    sites = values(drawn(simple)[1])
    full = {**sites, **law.first_guess(sites, EXTENT)}
    assert full.keys() == drawn(law)[1].keys()
    here, there = bounds.levels(law, full, EXTENT), bounds.levels(simple, sites, EXTENT)
    np.testing.assert_allclose(here, there, atol=1e-9)


def test_its_bound_is_widened_where_a_delay_comes_close(bounded):
    longest = bounded.longest
    assert bounds.widened(bounded, level(bounded, 0.5 * longest), EXTENT) is None
    near = level(bounded, -0.97 * longest)
    assert bounds.widened(bounded, near, EXTENT) == bounded.replace(longest=bounds.WIDER * longest)
    assert bounds.widened(bounded.replace(hold=True), near, EXTENT) is None
    far = bounded.replace(longest=0.11)  # half a trial is 0.12 s
    assert bounds.widened(far, level(far, 0.109), EXTENT).longest == pytest.approx(0.12)
    assert bounds.widened(bounded.replace(longest=0.12), level(bounded, 0.119), EXTENT) is None


def test_its_bound_admits_the_delays_of_another_fit(bounded):
    bin_width, longest = EXTENT.bin_width, bounded.longest
    assert bounds.admitting(bounded, level(bounded, 0.9 * longest), bin_width) is bounded
    beyond = level(bounded, 1.2 * longest)
    assert bounds.admitting(bounded, beyond, bin_width).longest == pytest.approx(1.5 * 1.2 * longest)
    with pytest.raises(ValueError, match=r"start has a delay of 60\.0 ms, beyond the max_delay of 50\.0 ms"):
        bounds.admitting(bounded.replace(hold=True), beyond, bin_width)
    clipped = bounds.clipped(bounded, beyond, bin_width)["delay"]
    np.testing.assert_allclose(clipped, 0.8 * longest)


def test_a_law_without_delays_has_no_bound_to_widen(law):
    if law not in BOUNDED:
        assert not bounds.are_read(law, EXTENT)
        assert not drawn(law)[0].any()
        assert bounds.far_reaching(law, EXTENT) is law
        assert bounds.admitting(law, {}, EXTENT.bin_width) is law
        assert bounds.widened(law, {}, EXTENT) is None
