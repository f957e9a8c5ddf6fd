"""Method "nuts": draws from the posterior by Hamiltonian Monte Carlo.

The draws are made in coordinates in which the posterior is nearly round. The maximum and its curvature come first
(method "map"); chains then start around it, farther out than they will end.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from arviz import ess, from_dict, rhat
from numpyro import infer
from numpyro.infer.initialization import init_to_value

from mrgp.inference.driver import Driver
from mrgp.inference.method import Method
from mrgp.inference.mode.coordinates import DYNAMICS, REST, Coordinates, Whitened
from mrgp.inference.mode.mode import FEW, Mode, Posterior, mode_of
from mrgp.inference.mode.moves import carried
from mrgp.inference.quantity import OF_DRAWS, Quantity
from mrgp.inference.run import Options, Run

WIDER = 2.0  # starts of chains, in posterior standard deviations: wider than the posterior, so that R-hat can tell
ENOUGH, MIXED = 400, 1.01  # effective draws and R-hat at which summaries can be trusted (Vehtari et al. 2021)
FIELDS = {
    "diverging": "diverging",
    "accept_prob": "acceptance_rate",
    "num_steps": "n_steps",
    "energy": "energy",
    "potential_energy": "lp",
}
"""What NumPyro calls the statistics of each draw, and what ArviZ does."""


@dataclass(kw_only=True)
class Chains(Posterior):
    """State of the chains.

    Attributes:
        completes: Whether all other parameters are drawn too, given each draw.
        stats: What the sampler says of each draw, (chain, draw).
    """

    completes: bool
    stats: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class NUTS(Method):
    """Draws from the posterior by Hamiltonian Monte Carlo.

    Attributes:
        n_chains: Chains, run side by side.
        n_warmup, n_draws: Iterations of each chain, thrown away and kept.
        loadings: What becomes of loadings, noise and offsets. "sampled": drawn with the rest, the full posterior.
            "profiled": they take their best values given delays and timescales, to first order, so that what is drawn
            is the profile posterior of those. "following": the same, and then they are drawn from their posterior given
            each draw of those (see ``mode.moves``). "fixed": held at the maximum, where the recording enters
            through as few numbers as there are latents (of counts, pseudo-observations made at the maximum); the
            fastest, and a little too sure. None: sampled up to 400
            parameters in all, then profiled.
        target_accept: Probability of acceptance that the step is adapted to.
        max_tree_depth: Of a trajectory: at most 2 to this power steps.
    """

    n_chains: int = 4
    n_warmup: int = 200
    n_draws: int = 500
    loadings: Literal["sampled", "following", "profiled", "fixed"] | None = None
    target_accept: float = 0.8
    max_tree_depth: int = 8

    climbs: ClassVar[Quantity] = OF_DRAWS
    gives_draws: ClassVar[bool] = True
    listed: ClassVar[bool] = True
    draws_all: ClassVar[str] = "fit with loadings='sampled', or 'following'"

    def __post_init__(self) -> None:
        if min(self.n_chains, self.n_warmup, self.max_tree_depth) < 1 or self.n_draws < 4:
            raise ValueError("nuts: n_chains, n_warmup and max_tree_depth count at least 1, n_draws at least 4")
        if self.loadings not in (None, "sampled", "following", "profiled", "fixed"):
            raise ValueError(
                f"nuts: loadings are 'sampled', 'following', 'profiled' or 'fixed', not {self.loadings!r}"
            )
        if not 0 < self.target_accept < 1:
            raise ValueError(f"nuts: target_accept is a probability, not {self.target_accept}")

    def init(self, driver: Driver) -> Chains:
        loadings = self.loadings
        top = mode_of(driver)
        loadings = loadings or ("sampled" if top.objective.size <= FEW else "profiled")
        if loadings == "fixed":
            top = top.reduced(driver.options.progress)
        program = Whitened(top.program, following=loadings in ("following", "profiled"))
        coordinates = Coordinates.at(top.objective, top.curvature, program.following)
        return Chains(
            model=top.run.model, sites=top.run.sites, top=top, program=program, coordinates=coordinates, x={},
            completes=loadings == "following",
        )  # fmt: skip

    def step(self, driver: Driver, state: Chains) -> Chains:
        """Run all chains from around the maximum."""
        center, options = state.program.center(state.coordinates), driver.options
        draw_key, start_key = jax.random.split(jax.random.key(options.seed))
        keys = dict(zip(center, jax.random.split(start_key, len(center)), strict=True))
        starts = {n: WIDER * jax.random.normal(keys[n], (self.n_chains, *v.shape)) for n, v in center.items()}
        if self.n_chains == 1:
            starts = {name: value[0] for name, value in starts.items()}
        kernel = infer.NUTS(
            state.program, target_accept_prob=self.target_accept, max_tree_depth=self.max_tree_depth,
            init_strategy=init_to_value(values=center),
        )  # fmt: skip
        sampler = infer.MCMC(
            kernel, num_warmup=self.n_warmup, num_samples=self.n_draws, num_chains=self.n_chains,
            chain_method="sequential" if jax.default_backend() == "cpu" else "vectorized",
            progress_bar=options.progress,
        )  # fmt: skip
        sampler.run(
            draw_key, state.top.argument, state.coordinates, extra_fields=tuple(FIELDS), init_params=starts
        )
        state.x = sampler.get_samples(group_by_chain=True)
        extra = sampler.get_extra_fields(group_by_chain=True)
        state.stats = {theirs: np.asarray(extra[ours]) for ours, theirs in FIELDS.items()}
        state.stats["lp"] = -state.stats["lp"]
        state.converged, state.reason = True, "all draws are made"
        return state

    def finish(self, driver: Driver, state: Chains) -> Run:
        top, stats = state.top, state.stats
        worst, effective = mixing({name: np.asarray(value) for name, value in state.x.items()})
        notes = list(top.run.notes)
        if divergent := int(stats["diverging"].sum()):
            notes.append(f"{divergent} draws ended divergent trajectories: raise target_accept")
        reason = f"R-hat at most {worst:.3f}, at least {effective:.0f} effective draws"
        good = worst < MIXED and effective >= ENOUGH
        if not good:
            notes.append(f"the chains are too short or do not agree ({reason}): raise n_draws")
        program, coordinates, x = state.program, state.coordinates, state.x
        if state.completes:
            program, coordinates, x, doubt = _with_rest(top, x, driver.options)
            notes += [doubt] if doubt else []
        return top.finished(
            self.written_name(), program, coordinates, x, sample_stats=stats, converged=top.run.converged and good,
            reason=reason, iterations=self.n_chains * (self.n_warmup + self.n_draws),
            evaluations=top.run.evaluations + int(stats["n_steps"].sum()), notes=tuple(notes),
            trace=stats["lp"].ravel(),
        )  # fmt: skip


def _with_rest(
    top: Mode, x: dict[str, Any], options: Options
) -> tuple[Whitened, Coordinates, dict[str, Any], str | None]:
    """Add to each draw of the dynamics a draw of all other parameters.

    Returns the program and coordinates of the draws, the draws, and None; or the draws as they were, and why.
    """
    lean, whole = Whitened(top.program, following=True), Whitened(top.program)
    coordinates = Coordinates.at(top.objective, top.curvature)
    rest = whole.center(coordinates).get(REST)
    if rest is None:
        return lean, coordinates, x, None
    begin_key, move_key = jax.random.split(jax.random.key(options.seed + 1))
    lead = next(iter(x.values())).shape[:-1]
    begin = {**x, REST: jax.random.normal(begin_key, (*lead, len(rest)))}
    drawn = carried(whole, top.argument, coordinates, begin, move_key, held=DYNAMICS, progress=options.progress)
    if not drawn.settled:
        return lean, coordinates, x, top.unsettled(drawn.reason)
    return whole, coordinates, drawn.x, None


def mixing(x: dict[str, np.ndarray]) -> tuple[float, float]:
    """Find the largest R-hat and the smallest effective number of draws.

    One chain is compared with itself, half by half.
    """
    halves = {name: value[:, : value.shape[1] // 2 * 2] for name, value in x.items()}
    x = {name: value.reshape(2, -1, value.shape[2]) if len(value) == 1 else value for name, value in halves.items()}
    tree = from_dict({"posterior": x})
    worst = max(float(value.max()) for value in rhat(tree).data_vars.values())
    return worst, min(float(value.min()) for value in ess(tree).data_vars.values())
