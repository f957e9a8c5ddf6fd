"""Recordings with a name: arguments of :func:`mrgp.simulate.simulate` that others can ask for."""

from typing import Any

import numpy as np

from mrgp.simulate import Simulation, simulate

_BIN = 0.02  # seconds
_LARGE: dict[str, Any] = {  # what the published benchmark recordings share; timescales of 4.47 and 1.41 bins
    "n_trials": 50,
    "n_bins": 200,
    "snr": 0.6,
    "noise": 0.05,
    "offset": 0.0,
    "timescale_across": np.sqrt([20.0, 2.0]) * _BIN,
    "timescale_within": np.sqrt(20.0) * _BIN,
}
_SMALL = _LARGE | {"n_trials": 20, "n_bins": 50, "snr": 3.0}
_FIVE = {"regions": {f"V{r}": 100 for r in range(1, 6)}}
_TWO_DELAYS = {"delay": np.outer([0, 1], [2.25, 0.75]) * _BIN}
_FALLING = [0, 1, 5 / 6, 2 / 3, 1 / 2]  # region by region, share of the longest delay
_BUMPS = {"delay": np.outer(_FALLING, [2.7, 1]) * _BIN, "delay_shape": "gaussian_bump"}
_BUMP_CENTERS = np.add.outer([0, 0, 0.05, 0.1, 0.15], [0.085, 0.685])  # later from region to region

SCENARIOS: dict[str, dict[str, Any]] = {
    "dlag": _LARGE | _TWO_DELAYS | {"regions": {"V1": 100, "V2": 100}},
    "dlag_ssm": _LARGE | _FIVE | {"delay": np.outer(_FALLING, [3, 1]) * _BIN},
    "adm": _LARGE
    | _FIVE
    | _BUMPS
    | {"shape_parameters": {"center": _BUMP_CENTERS, "width": np.tile([0.045, 0.125], (5, 1))}},
    "mdlag": _LARGE
    | {"regions": {"V1": 100, "V2": 100, "V3": 100}, "n_within": 0, "snr": 0.4}
    | {"delay": np.outer([0, 1, 0.5], [3, 1]) * _BIN},
    "small_constant": _SMALL | _TWO_DELAYS,
    "small_bump": _SMALL
    | _BUMPS
    | {"delay": np.outer([0, 1], [0.96, 0.62]) * _BIN}
    | {"shape_parameters": {"center": [[0.05, 0.64]] * 2, "width": [[0.07, 0.2]] * 2}},
    "demo": {"n_trials": 40, "n_bins": 50, "timescale_across": (0.12, 0.06), "heterogeneity": 0.3}
    | {"delay": [[0, 0], [0.03, -0.02]]},  # one latent leads in V1, the other in V2
}
"""Arguments of :func:`mrgp.simulate.simulate` by name: the literature's benchmarks, delayed exactly, and a demo."""


def simulate_scenario(name: str, seed: int = 0, **overrides: Any) -> Simulation:
    """Draw the recording of one of SCENARIOS, with any arguments of :func:`mrgp.simulate.simulate` changed.

    Raises:
        ValueError: There is no such scenario, or :func:`mrgp.simulate.simulate` refuses its arguments.
    """
    if name not in SCENARIOS:
        raise ValueError(f"there is no scenario {name!r}: choose from {', '.join(SCENARIOS)}")
    return simulate(**(SCENARIOS[name] | {"seed": seed} | overrides))
