"""Base of models with automatic relevance determination.

It gives them their loadings, and variational Bayes as their method.
"""

from dataclasses import InitVar, dataclass
from typing import Any, ClassVar

from mrgp.families.model import Preset
from mrgp.parts.loadings import Loadings, Relevance


@dataclass(frozen=True)
class RelevancePreset(Preset, abstract=True):
    """Model whose regions choose the latents that they read.

    Args:
        shape, rate, offset_precision: Short for those of :class:`mrgp.parts.loadings.Relevance`.
    """

    loadings: Loadings = Relevance()  # noqa: RUF009  a frozen part
    shape: InitVar[float | None] = None
    rate: InitVar[float | None] = None
    offset_precision: InitVar[float | None] = None

    methods: ClassVar[tuple[str, ...]] = ("vb", "map")

    def __post_init__(self, mean_timescale: Any, noise: str | None, *priors: float | None) -> None:  # type: ignore[override]
        super().__post_init__(mean_timescale, noise)
        named = dict(zip(("shape", "rate", "offset_precision"), priors, strict=True))
        given = {name: float(value) for name, value in named.items() if value is not None}
        model = type(self).__name__
        try:
            object.__setattr__(self, "loadings", self.loadings.replace(**given))
        except TypeError as error:
            raise ValueError(f"{model}: {', '.join(given)} are of loadings='relevance'") from error
        except ValueError as error:
            raise ValueError(f"{model}: {error}") from error
        self._check_loadings()
