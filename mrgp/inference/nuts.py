"""Method "nuts": draws from the posterior by Hamiltonian Monte Carlo.

The draws are made in coordinates in which the posterior is nearly round. The maximum and its curvature come first
(method "map"); chains then start around it, farther out than they will end.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from arviz import ess, from_dict, rhat
from numpyro.infer import MCMC, NUTS
from numpyro.infer.initialization import init_to_value

from mrgp.inference.method import Model, Options, Run, Start
from mrgp.inference.mode.coordinates import DYNAMICS, REST, Coordinates, Whitened
from mrgp.inference.mode.mode import FEW, Summit, summit
from mrgp.inference.mode.moves import carried
from mrgp.recordings.checks import warn
from mrgp.recordings.recording import MultiRegionData

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


@dataclass(frozen=True)
class NutsSettings:
    """Settings of method "nuts".

    Attributes:
        n_chains: Chains, run side by side.
        n_warmup, n_draws: Iterations of each chain, thrown away and kept.
        loadings: What becomes of loadings, noise and offsets. "sampled": drawn with the rest, the full posterior.
            "profiled": they take their best values given delays and timescales, to first order, so that what is drawn
            is the profile posterior of those. "following": the same, and then they are drawn from their posterior given
            each draw of those (see ``mode.moves``). "fixed": held at the maximum, where the recording enters
            through as few numbers as there are latents; the fastest, and a little too sure. None: sampled up to 400
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

    def __post_init__(self) -> None:
        if min(self.n_chains, self.n_warmup, self.max_tree_depth) < 1 or self.n_draws < 4:
            raise ValueError("nuts: n_chains, n_warmup and max_tree_depth count at least 1, n_draws at least 4")
        if self.loadings not in (None, "sampled", "following", "profiled", "fixed"):
            raise ValueError(
                f"nuts: loadings are 'sampled', 'following', 'profiled' or 'fixed', not {self.loadings!r}"
            )
        if not 0 < self.target_accept < 1:
            raise ValueError(f"nuts: target_accept is a probability, not {self.target_accept}")


def fit_nuts(model: Model, data: MultiRegionData, options: Options, start: Start | None = None) -> Run:
    """Find the maximum and its curvature, and draw from around it."""
    settings: NutsSettings = options.settings
    top = summit(model, data, options, start)
    loadings = settings.loadings or ("sampled" if top.objective.size <= FEW else "profiled")
    if loadings == "fixed":
        top = top.reduced(options.progress)
    program = Whitened(top.program, following=loadings in ("following", "profiled"))
    coordinates = Coordinates.at(top.objective, top.curvature, program.following)
    center = program.center(coordinates)
    draw_key, start_key = jax.random.split(jax.random.key(options.seed))
    keys = dict(zip(center, jax.random.split(start_key, len(center)), strict=True))
    starts = {n: WIDER * jax.random.normal(keys[n], (settings.n_chains, *v.shape)) for n, v in center.items()}
    if settings.n_chains == 1:
        starts = {name: value[0] for name, value in starts.items()}
    kernel = NUTS(
        program, target_accept_prob=settings.target_accept, max_tree_depth=settings.max_tree_depth,
        init_strategy=init_to_value(values=center),
    )  # fmt: skip
    sampler = MCMC(
        kernel, num_warmup=settings.n_warmup, num_samples=settings.n_draws, num_chains=settings.n_chains,
        chain_method="sequential" if jax.default_backend() == "cpu" else "vectorized", progress_bar=options.progress,
    )  # fmt: skip
    sampler.run(draw_key, top.argument, coordinates, extra_fields=tuple(FIELDS), init_params=starts)
    x = sampler.get_samples(group_by_chain=True)
    extra = sampler.get_extra_fields(group_by_chain=True)
    stats = {theirs: np.asarray(extra[ours]) for ours, theirs in FIELDS.items()}
    stats["lp"] = -stats["lp"]
    mixing, effective = _mixing({name: np.asarray(value) for name, value in x.items()})
    notes = list(top.run.notes)
    if divergent := int(stats["diverging"].sum()):
        notes.append(f"{divergent} draws ended divergent trajectories: raise target_accept")
    reason = f"R-hat at most {mixing:.3f}, at least {effective:.0f} effective draws"
    good = mixing < MIXED and effective >= ENOUGH
    if not good:
        notes.append(f"the chains are too short or do not agree ({reason}): raise n_draws")
    if loadings == "following":
        program, coordinates, x, doubt = _with_rest(top, x, options)
        notes += [doubt] if doubt else []
    for note in notes[len(top.run.notes) :]:
        warn(note)
    return top.finished(
        "nuts", program, coordinates, x, sample_stats=stats, converged=top.run.converged and good, reason=reason,
        iterations=settings.n_chains * (settings.n_warmup + settings.n_draws),
        evaluations=top.run.evaluations + int(stats["n_steps"].sum()), notes=tuple(notes),
        trace=stats["lp"].ravel(),
    )  # fmt: skip


def _with_rest(
    top: Summit, x: dict[str, Any], options: Options
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


def _mixing(x: dict[str, np.ndarray]) -> tuple[float, float]:
    """Find the largest R-hat and the smallest effective number of draws.

    One chain is compared with itself, half by half.
    """
    halves = {name: value[:, : value.shape[1] // 2 * 2] for name, value in x.items()}
    x = {name: value.reshape(2, -1, value.shape[2]) if len(value) == 1 else value for name, value in halves.items()}
    tree = from_dict({"posterior": x})
    worst = max(float(value.max()) for value in rhat(tree).data_vars.values())
    return worst, min(float(value.min()) for value in ess(tree).data_vars.values())
