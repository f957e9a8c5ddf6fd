"""Methods to fit a model, by the names that users type."""

from collections.abc import Callable
from typing import Any

from mrgp.inference.em import fit_em
from mrgp.inference.laplace import LaplaceSettings, fit_laplace
from mrgp.inference.map import fit_map
from mrgp.inference.method import Run
from mrgp.inference.nuts import NutsSettings, fit_nuts
from mrgp.inference.svi import SVISettings, fit_svi
from mrgp.inference.variational_bayes.vb import fit_vb

METHODS: dict[str, Callable[..., Run]] = {
    "map": fit_map, "vb": fit_vb, "em": fit_em, "laplace": fit_laplace, "svi": fit_svi, "nuts": fit_nuts,
}  # fmt: skip
"""Ways to fit by name; a preset says in ``methods`` which of them it has."""

SETTINGS: dict[str, Any] = {"laplace": LaplaceSettings, "svi": SVISettings, "nuts": NutsSettings}
"""What methods can be told beyond the arguments that all have."""
