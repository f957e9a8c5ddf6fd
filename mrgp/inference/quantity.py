"""Quantities that the trace of a run holds."""

from typing import NamedTuple


class Quantity(NamedTuple):
    """Quantity that the trace of a run holds, in nats.

    Attributes:
        symbols: Its name, written out.
        short: The same beside a progress bar.
        has_priors: Whether it has the parameters' prior densities in it.
        is_bound: Whether it is a lower bound of log p(y).
        rises: Whether it is climbed; of draws it only moves about.
        summarised: Under which name summaries of fits give the last of it, if they do.
    """

    symbols: str
    short: str = "log p"
    has_priors: bool = False
    is_bound: bool = False
    rises: bool = True
    summarised: str | None = None

    @property
    def remark(self) -> str:
        """Remark on what the value holds beside the likelihood, to stand behind it."""
        return ", with the prior of the parameters" * self.has_priors


JOINT = Quantity("log p(y, parameters)", has_priors=True, summarised="log_joint")
LIKELIHOOD = Quantity("log p(y | parameters)")
BOUND = Quantity("bound of log p(y)", short="bound", is_bound=True, summarised="bound")
OBJECTIVE = Quantity("objective", short="objective", summarised="objective")  # of autoencoders
OF_DRAWS = Quantity("log density of each draw", rises=False)
