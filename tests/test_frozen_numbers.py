"""Numbers of every model, frozen: whatever is moved inside the package, densities, refusals, fits and files stay.

Cases are in ``data/frozen``: models with settings, recordings, and sites of round numbers. ``python
tests/test_frozen_numbers.py --write`` makes the numbers of all of them anew, for a change that is meant to move them,
and those of a case that was added there.
"""

import json
import sys
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density

import mrgp

DATA = Path(__file__).parent / "data"
FROZEN, FILES = DATA / "frozen", DATA / "fits"
BIN = 0.02  # seconds
KERNELS = {
    "matern12": mrgp.Matern12(),
    "matern32": mrgp.Matern32(),
    "matern52": mrgp.Matern52(),
    "rational_quadratic": mrgp.RationalQuadratic(2.0),
    "white": mrgp.White(),
    "spectral": mrgp.Spectral(mrgp.Matern32()),
    "spectral_fixed": mrgp.Spectral(frequency=4.0),
    "sum": 3 * mrgp.SquaredExponential() + mrgp.Stretched(mrgp.Matern12(), 0.2),
}
EXACT = 1e-9  # relative: rounding; other instruction sets of a processor change 3e-13 at most
LIFTED = 1e-6  # of the kernel whose state space is searched for: other instruction sets change 1e-7
SEARCHED = 1e-6  # of counts: their inner search ends where a step gains under 1e-3 nats, sooner or later by rounding
NATS = 0.01  # the gain at which a climb ends
SDS = 0.15  # what 0.01 nats are in posterior sds of a parameter: the square root of twice as much
SHARE = 0.02  # of timescales, latents and predictions: they follow parameters of which 0.15 sds are a percent or two


def read(name: str) -> dict[str, Any]:
    path = FROZEN / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


RECORDINGS, SITES, DENSITIES, REFUSALS, FITS = map(read, ("recordings", "sites", "densities", "refusals", "fits"))


def recording(name: str) -> mrgp.MultiRegionData:
    made = RECORDINGS[name]
    regions = {region: np.array(values, float) for region, values in made["regions"].items()}
    return mrgp.MultiRegionData(regions, BIN, trial_coords={"condition": made["condition"]})


def model_of(case: dict[str, Any]) -> Any:
    settings = dict(case["settings"])
    if "kernel" in settings:
        settings["kernel"] = KERNELS[settings["kernel"]]
    if "window" in settings:
        settings["window"] = mrgp.Window(settings["window"])
    return getattr(mrgp.models, case["model"])(**settings)


@partial(jax.jit, static_argnums=0)
def densities(model: Any, data: Any, sites: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    """log p(y, sites) and log p(y_trial | sites) by one program."""
    total, trace = log_density(model, (data,), {}, sites)
    return total, trace["y"]["fn"].log_prob(trace["y"]["value"])


def scored(case: dict[str, Any], sites: dict[str, Any]) -> dict[str, Any]:
    arrays = {site: np.array(value) for site, value in sites.items()}
    total, trials = densities(model_of(case), recording(case["recording"]), arrays)
    return {"log_joint": float(total), "log_likelihood": np.asarray(trials).tolist()}


def refusal(case: dict[str, Any]) -> str:
    """The sentence by which settings, or the density of a recording, are refused; empty where they are not."""

    def density(model: Any, data: Any) -> jax.Array:
        observed = handlers.trace(handlers.seed(model, 0)).get_trace(data)["y"]
        return observed["fn"].log_prob(observed["value"])

    try:
        jax.eval_shape(partial(density, model_of(case)), recording(case["recording"]))
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def tolerance_of(case: dict[str, Any]) -> float:
    """How far a log density may be from the frozen one, relative."""
    if case["settings"].get("emission", "gaussian") != "gaussian":
        return SEARCHED
    return LIFTED if case["settings"].get("kernel") == "rational_quadratic" else EXACT


def told(fit: Any) -> dict[str, Any]:
    """What a fit says of delays, timescales, latents and the recording, in a few numbers."""
    latents, predicted = fit.latents(), fit.predict()
    across = latents.across_mean.values
    regions = [name for name in predicted if str(name).endswith("_mean")]
    says = {
        "log_joint": float(fit.trace[-1]),
        "delays": fit.delays.values.tolist(),
        "timescales": [*fit.timescales.across.values.tolist(), *fit.timescales.within.values.tolist()],
        "latents_rms": np.sqrt((across**2).mean((0, 1))).tolist(),
        "latents_size": np.abs(across[0, [3, 9, 15], 0]).tolist(),
        "predicted": [float(np.abs(predicted[name]).sum()) for name in regions],
        "log_likelihood": fit.log_likelihood().values.tolist(),
    }
    if fit.has_delays:
        intervals = fit.delay_intervals()
        says |= {bound: intervals[bound].values.tolist() for bound in ("lower", "upper")}
    return says


def fitted(case: dict[str, Any]) -> Any:
    options = {"seed": 0, "n_starts": 1, "progress": False, **case["options"]}
    return model_of(case).fit(recording(case["recording"]), **options)


# --- tests

def marked(cases: dict[str, Any]) -> list[Any]:
    """Cases by name; compiling all takes minutes, so most are slow."""
    return [pytest.param(name, marks=() if case["quick"] else pytest.mark.slow) for name, case in cases.items()]


@pytest.mark.parametrize("name", marked(DENSITIES))
def test_densities_stay(name):
    """log p(y, sites) and each trial's log p(y | sites) of every model that can be made."""
    case = DENSITIES[name]
    found = scored(case, SITES[case["sites"]])
    for quantity, value in found.items():
        np.testing.assert_allclose(value, case[quantity], rtol=tolerance_of(case), err_msg=quantity)


def test_refusals_stay():
    """Combinations that make no model are refused, in the same words."""
    assert {name: refusal(case) for name, case in REFUSALS.items()} == {
        name: case["sentence"] for name, case in REFUSALS.items()
    }


@pytest.mark.filterwarnings("ignore:latents explain all")  # of few neurons
@pytest.mark.parametrize("name", marked(FITS))
def test_fits_stay(name):
    """The same optimum, with the same uncertainty, to what ends a climb."""
    case = FITS[name]
    found, frozen = told(fitted(case)), case["told"]
    np.testing.assert_allclose(found.pop("log_joint"), frozen["log_joint"], atol=NATS, rtol=0)
    if "lower" in frozen:
        sd = (np.array(frozen["upper"]) - frozen["lower"]) / (2 * 1.645)  # of an interval of 90%
        for quantity in ("delays", "lower", "upper"):
            assert np.all(np.abs(np.array(found.pop(quantity)) - frozen[quantity]) <= SDS * sd + 1e-12), quantity
    for quantity, value in found.items():
        least = 0.0 if quantity.startswith("timescale") else SHARE  # those are far below 1, in seconds
        np.testing.assert_allclose(value, frozen[quantity], rtol=SHARE, atol=least, err_msg=quantity)


@pytest.mark.parametrize("name", [name for name, case in FITS.items() if case["saved"]])
def test_files_of_fits_are_read(name):
    """A fit saved by an earlier version says what it said."""
    case = FITS[name]
    fit = mrgp.load_fit(FILES / f"{name}.nc")
    scores = fit.log_likelihood(recording(case["recording"]))
    np.testing.assert_allclose(scores, case["told"]["log_likelihood"], rtol=tolerance_of(case))
    np.testing.assert_allclose(fit.delays, case["told"]["delays"], rtol=EXACT)
    assert float(fit.trace[-1]) == case["told"]["log_joint"]
    if "lower" in case["told"]:
        np.testing.assert_allclose(fit.delay_intervals().lower, case["told"]["lower"], rtol=EXACT)
    if case["options"].get("method") == "laplace":
        assert {len(draws[0]) for draws in fit.samples.values()} == {case["options"]["n_draws"]}


# --- written


TYPICAL = {"timescale": 0.06, "delay_spread": 0.01}  # seconds, by the words of a site's name


def some_sites(case: dict[str, Any]) -> dict[str, Any]:
    """Values in the support of every site, of four digits, the same wherever a site has the same shape."""
    sites = {}

    def drawn(site: dict[str, Any]) -> Any:
        if site["type"] != "sample" or site["is_observed"]:
            return None
        name, transform = site["name"], biject_to(site["fn"].support)
        rng, shape = np.random.default_rng(zlib.crc32(name.encode())), transform.inverse_shape(site["fn"].shape())
        typical = sum(np.log(seconds) for words, seconds in TYPICAL.items() if words in name)
        value = np.asarray(transform(typical + 0.5 * rng.standard_normal(shape)))
        sites[name] = np.reshape([float(f"{number:.4g}") for number in value.flat], value.shape)
        return sites[name]

    handlers.trace(handlers.substitute(model_of(case), substitute_fn=drawn)).get_trace(recording(case["recording"]))
    return {name: value.tolist() for name, value in sites.items()}


def write(name: str, entries: dict[str, Any]) -> None:
    """One entry a line; the old file stays until the new one is whole."""
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
    whole = FROZEN / f"{name}.new"
    whole.write_text(f"{{\n{lines}\n}}\n")
    whole.replace(FROZEN / f"{name}.json")


def write_densities() -> None:
    made, refused, shared = {}, {}, {}
    for name, case in (DENSITIES | REFUSALS).items():
        plain = {key: case[key] for key in ("model", "settings", "recording", "quick")}
        if sentence := refusal(plain):
            refused[name] = {**plain, "sentence": sentence}
            continue
        sites = SITES[case["sites"]] if "sites" in case else some_sites(case)
        first = next((key for key, known in shared.items() if known == sites), name)
        shared[first] = sites
        made[name] = {**plain, "sites": first, **scored(plain, sites)}
        print(f"{name}: {made[name]['log_joint']:.3f} nats", flush=True)
    write("densities", made)
    write("refusals", refused)
    write("sites", shared)


def write_fits() -> None:
    made = {}
    for name, case in FITS.items():
        fit = fitted(case)
        made[name] = {**case, "told": told(fit)}
        if case["saved"]:
            fit.save(FILES / f"{name}.nc")
        print(f"{name}: {fit.trace[-1]:.3f} nats, {fit.reason}", flush=True)
    write("fits", made)


def main(arguments: list[str]) -> None:
    if arguments != ["--write"]:
        print(f"--write makes {len(DENSITIES)} densities, {len(REFUSALS)} refusals and {len(FITS)} fits anew in {DATA}")
        return
    FILES.mkdir(exist_ok=True)
    write_densities()
    write_fits()


if __name__ == "__main__":
    main(sys.argv[1:])
