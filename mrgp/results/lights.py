"""Rules of the diagnostics of a fit: from numbers to a state, and to words on what to do.

Each is a function of numbers alone, so that a report of any fit, and a test, can ask it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mrgp.runtime.account import Light, State, capitalised, counted, graded
from mrgp.runtime.sentences import joined

MIXED, UNMIXED = 1.01, 1.05  # R-hat (Vehtari et al. 2021 ask for less than 1.01)
ENOUGH, TOO_FEW = 400.0, 100.0  # effective draws: quantiles of intervals need a few hundred
DIVERGENT = 0.01  # share of draws, from which on the sampler has missed a part of the posterior
SOME_MISSING, MOST_MISSING = 0.1, 0.5  # of all entries
SOME_LEFT_OUT, MOST_LEFT_OUT = 0.1, 0.5  # of a region's neurons
CROWDED, FULL = 0.5, 1.0  # latents per neuron of a region: with as many, noise is told from signal by time alone
OPEN = 0.5  # of the range that delays may lie in: an interval as wide says hardly more than the prior
AT_END = 0.02  # on a logarithmic scale, of the range of timescales
DECISIVE = 5.0  # nats, odds of 150 to 1: starts that differ by more lead to different fits
READABLE, UNRELIABLE = 0.7, 1.0  # Pareto k (Vehtari et al. 2024)
MANY_FAILED = 0.2  # share of fits: those that fail may be the hard ones
MOST_NAMED = 6


def listed(names: Sequence[str]) -> str:
    """Name things in a row, only the first few of many."""
    shown = list(names[:MOST_NAMED])
    rest = len(names) - len(shown)
    return joined([*shown, f"{rest} more"] if rest else shown, "and")


def none_of(count: int, total: int) -> str:
    """Write a count of things that are wrong beside how many there are: "none of 3", "1 of 3"."""
    return f"{count or 'none'} of {total}"


def convergence(converged: bool, reason: str, iterations: int) -> Light:
    """Judge if the search came to rest."""
    count = counted(iterations, "iteration")
    number = reason if count in reason else f"{count}: {reason}"
    if converged:
        return Light("Convergence", State.GOOD, number, "The search came to rest, by the tolerance that was asked for.")
    return Light("Convergence", State.BAD, number, (
        "The search ended before it came to rest, so that every number below may still move. Run it again with more "
        "iterations (--max-iterations) or draws, or go on from this fit (--start fit.nc)."
    ))  # fmt: skip


def failed(n_failed: int, n: int, follows: str, what: str = "Fits") -> Light:
    """Judge fits of a study that failed, of which ``follows`` says what that means there."""
    state = graded(n_failed / n, 0.0, MANY_FAILED)
    said = {
        State.GOOD: f"All {what.lower()} succeeded.",
        State.LOOK: follows,
        State.BAD: f"Many {what.lower()} failed. {follows}",
    }
    return Light(f"{what} that failed", state, none_of(n_failed, n), said[state])


def gain_over_own_means(gain: float, n_further: int, is_bound: bool) -> Light:
    """Judge log p(y) above that of the model in which neurons have their own means alone.

    Args:
        gain: In nats.
        n_further: Parameters that the fit has beyond that model; 0 where they do not count one by one.
        is_bound: The fit's log p(y) is a lower bound.
    """
    number = f"{'at least ' * is_bound}{gain:+,.0f} nats"
    state = State.BAD if not gain >= 0 else State.LOOK if gain < n_further else State.GOOD
    said = {
        State.GOOD: "The fit explains the recording better than the mean and the variance, or rate, of every neuron"
        + (f", and by more than its {n_further:,} further parameters could by chance (a nat each)." * (n_further > 0)
           or "."),
        State.LOOK: f"The fit gains less than its {n_further:,} further parameters could by chance (a nat each, as "
        "Akaike counts): there may be nothing shared here. Take fewer latents, or score it on unseen trials "
        "(mrgp evaluate).",
        State.BAD: "The fit explains the recording worse than each neuron's own mean: do not rely on it. Check the "
        "units of the recording and neurons that stand out, or start with another --seed.",
    }  # fmt: skip
    return Light("Above each neuron's own mean", state, number, said[state])


def delays_at_bound(at_bound: Sequence[str], n_delays: int, bound: float, is_held: bool) -> Light:
    """Judge if delays press against the longest that was considered, ``bound`` in seconds."""
    number = f"{none_of(len(at_bound), n_delays)} at {1e3 * bound:.0f} ms"
    if not at_bound:
        return Light("Delays within their bound", State.GOOD, number, "No delay is stopped by the longest considered.")
    held, them = " and leave --hold-max-delay out" if is_held else "", "it" if len(at_bound) == 1 else "them"
    return Light("Delays within their bound", State.BAD, number, (
        f"The bound stopped {listed(at_bound)}, not the recording: nothing is known of {them}. "
        f"Raise --max-delay{held}; if it is at the bound again, the latent is hardly shared: take one fewer across."
    ))  # fmt: skip


def intervals(is_sound: bool, widest: float, bound: float, of_bound: bool = False) -> Light:
    """Judge intervals of delays: the curvature they come from, and the widest in seconds.

    The curvature is that of log p(y), or ``of_bound``: of a lower bound of it.
    """
    number = f"the widest {1e3 * widest:.1f} ms, of {2e3 * bound:.0f} ms that delays may lie in"
    if not is_sound:
        return Light("Intervals of delays", State.BAD, number, (
            "The fit is at no proper maximum of delays and timescales, so that their intervals mean nothing. Let it "
            "converge (--tolerance 0.001), or take fewer latents, or --method nuts."
        ))  # fmt: skip
    is_wide = not widest <= OPEN * 2 * bound
    state = State.LOOK if is_wide or of_bound else State.GOOD
    said = "The curvature at the maximum is sound, and intervals are narrow beside the range that was allowed."
    if is_wide:
        said = (
            "An interval covers more than half of all that was allowed: the recording says little of that delay. More "
            "trials or neurons, or fewer latents, would say more."
        )
    if of_bound:
        said += (
            " They come from a lower bound of log p(y), as log p of counts is computed, which can make them too "
            "narrow: compare mrgp.bootstrap_delays."
        )
    return Light("Intervals of delays", state, number, said)


def timescales(found: Mapping[str, float], low: float, high: float, is_asked: bool) -> Light:
    """Judge if timescales lie at the ends of what can be told, ``low`` to ``high`` in seconds.

    Args:
        found: Timescale of each latent in seconds; 0 of white ones, which have none.
        low, high: The bounds that were asked for, or else a bin and a trial.
        is_asked: They are those that were asked for.
    """
    margin = AT_END * np.log(high / low)
    short = [name for name, value in found.items() if value > 0 and np.log(value / low) <= margin]
    long = [name for name, value in found.items() if value > 0 and np.log(value / high) >= -margin]
    number = f"{none_of(len(short) + len(long), len(found))} at {1e3 * low:.0f} or {1e3 * high:.0f} ms"
    ends = "the ends of --timescale-bounds" if is_asked else "one bin and one trial"
    if not short and not long:
        return Light("Timescales within range", State.GOOD, number, f"All lie between {ends}, away from both.")
    said = []
    if short:
        said.append(
            f"{listed(short)} {'is' if len(short) == 1 else 'are'} as fast as can be told, which noise is too: take "
            "fewer latents, or shorter bins."
        )
    if long:
        said.append(
            f"{listed(long)} hardly {'changes' if len(long) == 1 else 'change'} in a trial: this may be drift or the "
            "stimulus rather than a signal; try --mean psth, or --remove-mean."
        )
    return Light("Timescales within range", State.LOOK, number, " ".join(map(capitalised, said)))


def sharing(readers: Mapping[str, Sequence[str]]) -> Light:
    """Judge if two regions at least read each across latent; ``readers`` are by latent."""
    alone = {name: regions for name, regions in readers.items() if len(regions) < 2}
    number = f"{len(readers) - len(alone)} of {len(readers)} shared"
    if not alone:
        return Light("Shared latents are shared", State.GOOD, number, (
            "Two regions or more read each across latent: it makes 2% of what their neurons share, or more."
        ))  # fmt: skip
    said = [f"{name} is read by {regions[0]} only" if regions else f"no region reads {name}"
            for name, regions in alone.items()]  # fmt: skip
    return Light("Shared latents are shared", State.LOOK, number, (
        f"{capitalised(listed(said))}: its delay means nothing, and there may be a latent too many. Lower --n-across, "
        "or let mrgp cv choose."
    ))  # fmt: skip


def crowding(latents: Mapping[str, int], neurons: Mapping[str, int]) -> Light:
    """Judge the number of latents that each region reads beside its number of neurons."""
    worst = max(latents, key=lambda name: latents[name] / neurons[name])
    share = latents[worst] / neurons[worst]
    number = f"{counted(latents[worst], 'latent')} for {counted(neurons[worst], 'neuron')} of {worst}"
    state = graded(share, CROWDED, np.nextafter(FULL, 0))
    said = {
        State.GOOD: "Every region has at least twice as many neurons as latents.",
        State.LOOK: "There is more than a latent for every two neurons: check by mrgp cv that so many are needed.",
        State.BAD: "There are as many latents as neurons: signal and private noise are hardly told apart. Lower "
        "--n-across or --n-within.",
    }
    return Light("Latents beside neurons", state, number, said[state])


def mixing(r_hat: float, effective: float) -> Light:
    """Judge chains of draws by the largest R-hat and the smallest number of effective draws."""
    order = [State.GOOD, State.LOOK, State.BAD]
    state = max(graded(r_hat, MIXED, UNMIXED), graded(effective, ENOUGH, TOO_FEW), key=order.index)
    said = {
        State.GOOD: "Chains agree, and there are draws enough for intervals.",
        State.LOOK: "Chains agree roughly: means are fine, ends of intervals less so. Take more draws.",
        State.BAD: "Chains do not agree or hardly move: the draws are not yet of the posterior. Take more draws, or "
        "fewer latents.",
    }
    return Light("Mixing of chains", state, f"R-hat {r_hat:.3f}, {effective:.0f} effective draws", said[state])


def divergences(n_divergent: int, n_draws: int) -> Light:
    """Judge divergent trajectories among draws."""
    state = graded(n_divergent / n_draws, 0.0, DIVERGENT)
    said = {
        State.GOOD: "No trajectory diverged.",
        State.LOOK: "A few trajectories diverged: the posterior may have a corner that they missed. Raise "
        "target_accept and compare.",
        State.BAD: "More than one of a hundred trajectories diverged: a part of the posterior was missed. Raise "
        "target_accept.",
    }
    return Light("Divergent trajectories", state, none_of(n_divergent, n_draws), said[state])


def pareto_k(largest: float, of: str = "") -> Light:
    """Judge the largest Pareto k of importance weights over trials."""
    state = graded(largest, READABLE, UNRELIABLE)
    said = {
        State.GOOD: "Weights behave for every trial: leave-one-out can be read.",
        State.LOOK: "Some trial weighs so much that its score is uncertain: do not read small differences.",
        State.BAD: "Some trial is so unlike the others that its score cannot be had from the fit to all: look at it, "
        "or choose by mrgp cv.",
    }
    return Light(f"Pareto k{of and f' of {of}'}", state, f"{largest:.2f}", said[state])


def missing(share: float) -> Light:
    """Judge the share of entries that were not observed."""
    state = graded(share, SOME_MISSING, MOST_MISSING)
    said = {
        State.GOOD: "Missing entries are left out of the likelihood, none is filled in.",
        State.LOOK: "Missing entries are left out of the likelihood, none is filled in; but check that what is missing "
        "does not depend on what would have been recorded.",
        State.BAD: "Most of the recording is missing: results lean on few entries. Leave out the neurons or trials "
        "that are mostly empty.",
    }
    return Light("Missing entries", state, f"{100 * share:.3g}%", said[state])


def left_out(out: Mapping[str, int], of: Mapping[str, int]) -> Light:
    """Judge how many neurons of each region were left out of the recording."""
    worst = max(out, key=lambda name: out[name] / of[name])
    state = graded(out[worst] / of[worst], SOME_LEFT_OUT, MOST_LEFT_OUT)
    number = ", ".join(f"{n} of {of[name]} of {name}" for name, n in out.items() if n)
    said = {
        State.GOOD: "Few neurons were left out, as dead or by choice.",
        State.LOOK: "More than a tenth of a region's neurons were left out, as dead or by choice: results are of the "
        "others.",
        State.BAD: "Most neurons of a region were left out, as dead or by choice: check how the recording was read.",
    }
    return Light("Neurons left out", state, number, said[state])


def starts(heights: Sequence[float]) -> Light:
    """Judge how far starts of a search agree, by what each had reached in nats."""
    ordered = sorted(heights, reverse=True)
    if len(ordered) < 2:
        return Light("Starts", State.LOOK, "1 start", "Another start may lead to a better fit: take more (--n-starts).")
    gap = ordered[0] - ordered[1]
    state = graded(gap, DECISIVE, np.inf)
    said = "The best two starts reach the same height."
    if state is not State.GOOD:
        said = "Only one start reached the best: another may lead higher still. Take more (--n-starts)."
    number = f"the best of {len(ordered)} is {gap:.1f} nats ahead"
    return Light("Starts", state, number, said)
