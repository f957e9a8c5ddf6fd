"""Sites: what a program samples is declared, once, with its axes and unit, of the shape that it has."""

import mrgp.models
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import mrgp
from mrgp.inference.density import free_sites
from mrgp.parts.latents import LatentLayout
from mrgp.parts.sites import LONG, SITES, Site, of_neurons, site_of

RNG = np.random.default_rng(0)
COUNTS = mrgp.MultiRegionData(
    {"V1": RNG.poisson(2.0, (6, 8, 3)), "V2": RNG.poisson(2.0, (6, 8, 2))}, 0.02,
    trial_coords={"condition": ["a", "b"] * 3},
)  # fmt: skip
MODELS = {
    "gpfa": mrgp.models.GPFA(2, noise="ar1"),
    "dlag": mrgp.models.DLAG(2, (1, 2), mean="psth", emission="negative_binomial"),
    "spectral": mrgp.models.DLAG(1, 1, kernel=mrgp.Spectral()),
    "adm": mrgp.models.ADM(2, 1),
    "mdlag": mrgp.models.MDLAG(3),
    "lds": mrgp.models.LDS(2, start="learned"),
    "gfa": mrgp.models.GFA(2),
    "pcca": mrgp.models.PCCA(1, 1),
}


def test_what_leaves_with_a_latent_is_its_own():
    model = MODELS["adm"].prepared(COUNTS)
    sites = {name: RNG.standard_normal(np.shape(site["value"])) for name, site in free_sites(model, COUNTS).items()}
    smaller, kept = model.fitting.keeping(sites, COUNTS.layout, np.array([1]))
    assert smaller.n_across == 1
    assert np.array_equal(kept["loadings"], sites["loadings"][:, 1:])
    for name in ("delay", "delay_spread", "delay_change"):
        assert np.array_equal(kept[name], sites[name][:, 1:])
    assert np.array_equal(kept["timescale_across"], sites["timescale_across"][1:])
    for name in ("timescale_within", "noise", "offset"):
        assert np.array_equal(kept[name], sites[name])


def test_sites_say_what_they_belong_to():
    known = ("loadings", "noise", "offset", "mean_change", "mean_spread", "dispersion")
    assert of_neurons([*known, "delay", "alpha", "timescale_across", "unheard_of"]) == set(known)
    assert site_of("unheard_of") is None
    assert "unheard_of" not in SITES
    own = site_of("sharpness_within")  # a parameter of a kernel that nobody has sampled yet
    assert own is not None
    assert own.dims == ("within_latent",)
    assert SITES["transition"].axes_of_across() == (-2, -1)
    assert SITES["delay_change"].shape(LatentLayout((3, 2, 4), 2, (0, 0, 0))) == (2, 2, None)


def test_a_name_stands_for_one_site():
    same = {"unit": "s", "trait": True, "bounded_by": "max_delay", "stride": LONG}
    again = Site("delay", "later_region", "across_latent", **same)
    assert again == SITES["delay"]
    with pytest.raises(ValueError, match="site 'delay' was declared with axes"):
        Site("delay", "neuron")
    Site("of_a_cell", "neuron")
    Site("of_a_cell", "region")  # the cell was changed and run again
    assert SITES["of_a_cell"].dims == ("region",)


def test_a_site_samples_inside_a_program():
    gain = Site("gain_of_this_test", "neuron", unit="Hz")
    with handlers.seed(rng_seed=0), handlers.trace() as trace:
        value = gain.sample(dist.Normal().expand((3,)).to_event(1))
    assert value.shape == (3,)
    assert trace["gain_of_this_test"]["infer"] == {"dims": ("neuron",), "unit": "Hz"}
