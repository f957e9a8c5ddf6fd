"""Options that describe a model, and words about models for the help. Imports nothing heavy."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mrgp.cli.argument_types import bounds, count, flag, positive, positive_count
from mrgp.cli.catalogue import CHOICES, DEFAULTS, KERNELS, MEANT_FOR, METHODS, MODELS, OWN_DEFAULTS

FEW = 4  # models that are named rather than those beside them


def listed(names: Iterable[str]) -> str:
    """Names in a row, separated by commas."""
    return ", ".join(names)


def meant_for(option: str) -> str:
    """Names of the models that an option is for, or is not for if these are few."""
    others = [model for model in METHODS if model not in MEANT_FOR[option]]
    return f"all but {listed(others)}" if len(others) < FEW else listed(MEANT_FOR[option])


def default_of(option: str, model: str) -> Any:
    """Value of an option of a model where none is typed; None if nothing is to be said of it."""
    return OWN_DEFAULTS.get(option, {}).get(model, DEFAULTS.get(option))


def defaults_of(option: str) -> str:
    """Values of an option where none is typed, as its help says them."""
    own: dict[Any, list[str]] = {}
    for model, value in OWN_DEFAULTS.get(option, {}).items():
        own.setdefault(value, []).append(model)
    return "; ".join([str(DEFAULTS[option]), *(f"{listed(models)}: {value}" for value, models in own.items())])


def fitted_by(method: str) -> str:
    """Names of the models that have a method."""
    return listed(model for model, methods in METHODS.items() if method in methods)


def about_models(names: Iterable[str] = MODELS) -> str:
    """Names of models and what they are, a line each."""
    return "\n".join(f"{name:<{1 + max(map(len, MODELS))}}{MODELS[name]}" for name in names)


def add_choices(add: Callable[..., Any], options: Iterable[str], texts: Mapping[str, str] = {}) -> None:
    """Add some of the options that describe a model, by name.

    ``texts`` are the help of those that mean something else than to a fit.
    """
    for option in options:
        own = {"help": texts[option]} if option in texts else {}
        add(flag(option), dest=option, **MODEL_OPTIONS[option] | own)


MODEL_OPTIONS: dict[str, dict[str, Any]] = {
    "max_delay": {"type": positive, "metavar": "SECONDS", "help": f"{meant_for('max_delay')}: longest delay "
        "considered (5 bins); widened by itself if a delay comes close"},
    "hold_max_delay": {"action": "store_true", "default": None, "help": f"{meant_for('hold_max_delay')}: keep to "
        "--max-delay, also if a delay comes close"},
    "delay_timescale": {"type": positive, "metavar": "SECONDS", "help": f"{meant_for('delay_timescale')}: how fast "
        "delays may change (learned)"},
    "typical_spread": {"type": positive, "metavar": "SECONDS", "help": f"{meant_for('typical_spread')}: how far "
        "delays move, a priori (one bin)"},
    "kernel": {"choices": KERNELS, "metavar": "NAME", "help": f"{meant_for('kernel')}: how smooth latents are, or "
        f"whether they are rhythms: {listed(KERNELS)} ({DEFAULTS['kernel']})"},
    "timescale_bounds": {"type": bounds, "metavar": "LOW,HIGH", "help": f"{meant_for('timescale_bounds')}: shortest "
        "and longest timescale in seconds (none, but 0.1 s is typical)"},
    "gp_noise": {"type": positive, "metavar": "SHARE", "help": f"{meant_for('gp_noise')}: white share of every "
        f"latent's variance, between 0 and 1 ({DEFAULTS['gp_noise']})"},
    "mean": {"choices": CHOICES["mean"], "help": f"{meant_for('mean')}: constant, or psth: a smooth course of every "
        f"neuron, for each value of the trials' column condition (.npz: trial_condition) ({DEFAULTS['mean']})"},
    "mean_timescale": {"type": positive, "metavar": "SECONDS", "help": f"{meant_for('mean_timescale')}: how fast the "
        f"mean of psth may change ({DEFAULTS['mean_timescale']})"},
    "noise": {"choices": CHOICES["noise"], "help": f"{meant_for('noise')}: private noise is new in every bin, or ar1: "
        f"correlated, as in smoothed counts ({DEFAULTS['noise']})"},
    "emission": {"choices": CHOICES["emission"], "help": "values with Gaussian noise, or spike counts "
        f"({defaults_of('emission')})"},
    "start_state": {"choices": CHOICES["start_state"], "help": f"{meant_for('start_state')}: a trial begins anywhere "
        f"in a process that always was, or where it is learned to begin ({DEFAULTS['start_state']})"},
    "shape": {"type": positive, "metavar": "A", "help": f"{meant_for('shape')}: of the Gamma priors of relevance and "
        f"noise precision ({DEFAULTS['shape']:g}: none to speak of)"},
    "rate": {"type": positive, "metavar": "B", "help": f"{meant_for('rate')}: the same ({DEFAULTS['rate']:g})"},
    "n_global": {"type": count, "metavar": "K", "help": f"{meant_for('n_global')}: states that drive all regions and "
        "that no neuron reads (0)"},
    "lag": {"type": positive, "metavar": "SECONDS", "help": f"{meant_for('lag')}: how much later than the next bin "
        "regions hear each other, a whole number of bins (0)"},
    "n_latents": {"type": positive_count, "metavar": "K", "help": f"{meant_for('n_latents')}: latents that follow the "
        f"flow ({DEFAULTS['n_latents']})"},
    "n_factors": {"type": positive_count, "metavar": "K", "help": f"{meant_for('n_factors')}: factors that neurons "
        f"read ({DEFAULTS['n_factors']})"},
    "n_states": {"type": positive_count, "metavar": "K", "help": f"{meant_for('n_states')}: states of the dynamics; "
        "of switchinglds those that it switches between "
        f"({defaults_of('n_states')})"},
    "n_inputs": {"type": count, "metavar": "K", "help": f"{meant_for('n_inputs')}: inputs that are inferred; 0: "
        f"nothing drives the dynamics ({DEFAULTS['n_inputs']})"},
    "n_initial": {"type": positive_count, "metavar": "K", "help": f"{meant_for('n_initial')}: numbers that say where "
        f"a trial starts ({DEFAULTS['n_initial']})"},
    "n_messages": {"type": positive_count, "metavar": "K", "help": f"{meant_for('n_messages')}: numbers of a message "
        f"from region to region ({DEFAULTS['n_messages']})"},
    "channels": {"choices": CHOICES["channels"], "help": f"{meant_for('channels')}: how regions tell each other what "
        f"they do ({DEFAULTS['channels']})"},
    "controller": {"choices": CHOICES["controller"], "help": f"{meant_for('controller')}: inputs are inferred from the "
        f"bins so far, or from later ones too ({DEFAULTS['controller']})"},
    "dynamics": {"choices": CHOICES["dynamics"], "help": f"{meant_for('dynamics')}: network that moves the states on "
        f"({DEFAULTS['dynamics']})"},
    "condition_means": {"action": "store_true", "default": None, "help": f"{meant_for('condition_means')}: trials "
        "start around a mean of their condition (one for all)"},
    "drift": {"choices": CHOICES["drift"], "help": f"{meant_for('drift')}: slow: what neurons read is off by "
        f"what changes slowly from trial to trial of a session ({DEFAULTS['drift']})"},
    "recurrent": {"action": argparse.BooleanOptionalAction, "default": None, "help": f"{meant_for('recurrent')}: "
        "latents tell which state comes next, or switches are a Markov chain (they tell)"},
    "populations": {"choices": CHOICES["populations"], "help": f"{meant_for('populations')}: groups of neurons that "
        f"read latents of their own: the regions, or unknown ones, which are found ({DEFAULTS['populations']})"},
    "most_populations": {"type": positive_count, "metavar": "N", "help": f"{meant_for('most_populations')}: unknown "
        f"populations, at most ({DEFAULTS['most_populations']})"},
    "refinement": {"type": count, "metavar": "N", "help": f"{meant_for('refinement')}: gradient steps that better "
        "what the guide says of each trial, after training (0)"},
}  # fmt: skip
"""Options that describe a model, in the order of the help, as ``add_argument`` takes them."""
