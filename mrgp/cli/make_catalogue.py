"""Write the names that the command line knows: ``python -m mrgp.cli.make_catalogue``.

All of ``catalogue.py`` is read off the classes, but for what stands at the top of this module: words and order of the
help, which choices of a model are options, under which name, and one rule that no class states.
"""

import inspect
import json
import re
import typing
import warnings
from dataclasses import MISSING, InitVar, fields
from pathlib import Path
from textwrap import fill
from typing import Any

import jax
from numpyro import handlers
from numpyro.infer.util import log_density

import mrgp.models
from mrgp.cli.reading_options import folders, help_of_reading, only_for, options_of_reading, readers
from mrgp.families.model import Model
from mrgp.inference.method import Method
from mrgp.likelihoods.likelihood import Kalman
from mrgp.likelihoods.statespace.rational import SQUARED_EXPONENTIAL
from mrgp.part import Part
from mrgp.parts.emissions.autocorrelated import NOISES
from mrgp.parts.kernels import Kernel, Matern52
from mrgp.parts.loadings import Relevance
from mrgp.parts.means import PSTH
from mrgp.parts.populations import Unknown
from mrgp.recordings.layout import Layout
from mrgp.recordings.preprocessing import TRANSFORMS
from mrgp.recordings.recording import stand_in
from mrgp.runtime.files import write_atomically
from mrgp.studies.calibration.calibrate import methods_with_draws, ranked_priors
from mrgp.studies.compare.compare_delays import KNOWN

WORDS = {
    "dlag": "latents across regions, each with a constant delay per region, and within regions",
    "adm": "the same with delays that vary during the trial",
    "mdlag": "as dlag, and finds out which regions read which latent",
    "gpfa": "one population of smooth latents, no delays",
    "lds": "one population whose latents drive each other, no delays",
    "coupledlds": "regions with linear dynamics of their own that drive each other",
    "fa": "one population of white latents",
    "pcca": "white latents across and within regions",
    "gfa": "as pcca, and finds out which regions read which latent",
    "gpvae": "as dlag, with networks that read latents, and regions of any kind (images, spikes)",
    "ctae": "latents across and within regions, read by transformers; an autoencoder",
    "lfads": "one population with learned dynamics, driven by inputs that are inferred",
    "mrlfads": "regions with learned dynamics that send each other messages, after learned delays",
    "neuralode": "one population whose latents follow a learned flow, also over irregular bins",
    "switchinglds": "populations that drive each other linearly, differently in every hidden state",
}
"""Models in the order of the help; words may lean on those before. A model that is not here comes last, with the first
line of its docstring."""

OPTIONS: dict[str, Any] = {
    "n_across": 2,
    "n_within": 1,
    "mean": "psth",
    "mean_timescale": 0.1,
    "noise": "ar1",
    "max_delay": 0.05,
    "hold_max_delay": True,
    "kernel": Matern52(),
    "timescale_bounds": (0.01, 1.0),
    "likelihood": "dense",
    "gp_noise": 0.01,
    "emission": "poisson",
    "order": 4,
    "lift": "ar",
    "delay_timescale": 0.1,
    "typical_spread": 0.01,
    "shape": 1.0,
    "rate": 1.0,
    "start_state": "learned",
    "n_global": 1,
    "lag": 0.04,
    "n_latents": 2,
    "n_factors": 2,
    "n_states": 2,
    "n_inputs": 2,
    "n_initial": 2,
    "n_messages": 1,
    "channels": "graph", "controller": "smoothing",
    "dynamics": "gru",
    "condition_means": True,
    "drift": "slow",
    "recurrent": False,
    "populations": "unknown",
    "most_populations": 4,
    "refinement": 10,
}
"""Options that describe a model, each with a value other than the default, by which a model is asked whether it has a
use for it. The first of several that are out of place is the one that an error names."""

FIELDS = {"start_state": "start", "condition_means": "conditions"}
"""Options of another name: `mrgp fit --start` is a fit to go on from, `mrgp simulate --conditions` are their names."""

OF_METHODS = ("batch_size", "warm_up")  # settings of methods that are options

WITH = {"mean_timescale": {"mean": "psth"}, "most_populations": {"populations": "unknown"}}
"""Settings of another option's value."""

LEFT_OUT = {
    "duration": "set by the fit",
    "loadings": "the model says it, and shape and rate its settings",
    "delays": "the model says it, and max_delay and others its settings",
    "absent": "pairs of names of regions, given in Python",
    **dict.fromkeys(("edge_shape", "edge_rate"), "a prior that seldom changes, chosen in Python"),
    "shared_covariance": "how exact a bound is, chosen in Python",
    **dict.fromkeys(("shared_only", "alignment", "orthogonality"), "a weight of training, chosen by mrgp.tune"),
    **dict.fromkeys(
        ("hidden", "encoder", "heads", "reader", "width", "depth", "message_noise"), "of networks, chosen in Python"
    ),
    "n_substeps": "of networks, chosen in Python: one is enough for flows that a bin can follow",
    "timescale": "of networks, chosen in Python: it is learned",
}
"""Choices of models that are no options, and why."""

NO_DEFAULT = {"n_across"}  # is asked for

SHORT = {"noise"}  # a short form of another choice, whose first name is the default
NEED_TIMESCALES = {"likelihood", "gp_noise"}  # models of white latents take these too, but to no end

BLANK = stand_in(Layout(("V1", "V2"), (3, 3), 0.02), 1, 8)
FILE = Path(__file__).with_name("catalogue.py")
WIDTH = 120


def models() -> dict[str, type[Any]]:
    """Every model by name, in the order of the help."""
    zoo: list[type[Model]] = [getattr(mrgp.models, name) for name in mrgp.models.__all__]
    known = {model.written_name(): model for model in zoo}
    return {name: known[name] for name in [*WORDS, *sorted(known.keys() - WORDS.keys())]}


def kernels() -> dict[str, type[Kernel]]:
    """Kernels with a timescale that need no arguments, by the name that is typed."""
    named = {}
    for kernel in Kernel.__subclasses__():
        arguments = inspect.signature(kernel).parameters.values()
        plain = kernel.__module__ == Kernel.__module__ and all(a.default is not a.empty for a in arguments)
        if plain and kernel().has_timescale:
            named[re.sub(r"(?<!^)(?=[A-Z])", "_", kernel.__name__).lower()] = kernel
    return named


def is_for(option: str, model: type[Any]) -> bool:
    """True if a model has an option, and works with a value that is not the default."""
    field, value = FIELDS.get(option, option), OPTIONS[option]
    if field not in inspect.signature(model).parameters:
        return False
    if option in NEED_TIMESCALES and not model().kernel.has_timescale:
        return False
    try:
        changed = model(**{field: value}, **WITH.get(option, {}))
        changed.assignment(BLANK.layout)
        if isinstance(value, str):  # another program or another likelihood: is there one?
            check_density(changed)
    except ValueError:
        return False
    return True


def check_density(model: Model) -> None:
    """Raise ValueError if a model has no density of a recording. Nothing is computed."""
    program = handlers.seed(model.prepared(BLANK), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise is no spike count
        jax.eval_shape(lambda: log_density(program, (BLANK,), {}, {})[0])


def can_be_calibrated(model: type[Any]) -> bool:
    """True if a method draws delays or timescales from a posterior."""
    if not set(methods_with_draws()) & set(model.methods):
        return False
    try:
        return bool(ranked_priors(model(1), BLANK))
    except ValueError:
        return False


def choices(option: str, model: type[Any]) -> tuple[str, ...]:
    """Names that an option takes, none where it takes values."""
    annotation: Any = typing.get_type_hints(model)[FIELDS.get(option, option)]
    if isinstance(annotation, type) and issubclass(annotation, Part) and annotation.short:
        usual = type(getattr(model(), FIELDS.get(option, option)))
        reached = {noise for noise in NOISES.values() if noise is not usual}  # by `noise`
        return tuple(part.written_name() for part in alone(annotation) if part not in reached)
    inner = annotation.type if isinstance(annotation, InitVar) else annotation
    named = next((kind for kind in (inner, *typing.get_args(inner)) if typing.get_origin(kind) is typing.Literal), None)
    return () if named is None else typing.get_args(named)


def alone(family: type[Part]) -> list[type[Part]]:
    """Members of a family that need no settings beside their name."""
    return [m for m in family.members().values() if all(f.default is not MISSING for f in fields(m))]  # type: ignore


def defaults(meant_for: dict[str, list[str]]) -> dict[str, Any]:
    """Defaults of options, of the first model that each is for, and of a fit's arguments."""
    of_options = {option: models()[names[0]] for option, names in meant_for.items() if option not in NO_DEFAULT}
    own = {option: default_of(option, model) for option, model in of_options.items()}
    own |= {"mean_timescale": PSTH().timescale, "most_populations": Unknown().most}
    own |= {"shape": Relevance().shape, "rate": Relevance().rate}
    own |= {name: choices(name, models()[meant_for[name][0]])[0] for name, value in own.items() if name in SHORT}
    own["kernel"] = next(name for name, kernel in kernels().items() if isinstance(own["kernel"], kernel))
    of_fit = inspect.signature(Model.fit).parameters
    own |= {name: of_fit[name].default for name in ("n_starts", "tolerance", "max_iterations")}
    own |= {setting: getattr(Method.member(ways[-1])(), setting) for setting, ways in settings_of_methods().items()}
    return {name: value for name, value in own.items() if value}


def default_of(option: str, model: type[Any]) -> Any:
    """Value of an option of a model where none is typed, as it is typed."""
    value = getattr(model(), FIELDS.get(option, option))
    return value.written_name() if isinstance(value, Part) and value.short else value


def own_defaults(meant_for: dict[str, list[str]], usual: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Defaults of models that differ from those of the first model that an option is for."""
    named = {option: names for option, names in meant_for.items() if option in usual and option not in SHORT}
    own = {o: {name: default_of(o, models()[name]) for name in names[1:]} for o, names in named.items()}
    plain = {o: {n: v for n, v in by.items() if isinstance(v, str | int | float)} for o, by in own.items()}
    differing = {o: {n: v for n, v in by.items() if v != usual[o]} for o, by in plain.items()}
    return {option: by_model for option, by_model in differing.items() if by_model}


def built_in_methods() -> dict[str, type[Method]]:
    """Methods of the package that a model has, by name."""
    ways = [way for way in Method.members().values() if way.__module__.startswith("mrgp.")]
    return {way.written_name(): way for way in ways if any(way.is_for(model()) for model in models().values())}


def settings_of_methods() -> dict[str, list[str]]:
    """Settings that are options, and the methods that have each."""
    named = {name: {f.name for f in fields(way)} for name, way in built_in_methods().items()}  # type: ignore[arg-type]
    return {setting: [name for name, own in named.items() if setting in own] for setting in OF_METHODS}


def entries() -> list[tuple[str, str, Any, str]]:
    """Names, types, values and docstrings of the catalogue."""
    known = models()
    for name, model in known.items():
        if undecided := {field.name for field in fields(model)} - {FIELDS.get(o, o) for o in OPTIONS} - LEFT_OUT.keys():
            raise ValueError(f"{name}: {', '.join(sorted(undecided))} is neither in OPTIONS nor in LEFT_OUT")
    words = {name: WORDS.get(name) or str(model.__doc__).partition("\n")[0] for name, model in known.items()}
    meant_for = {option: [name for name, model in known.items() if is_for(option, model)] for option in OPTIONS}
    named = {option: choices(option, known[names[0]]) for option, names in meant_for.items()}
    counted = [e for e in named["emission"] if known[meant_for["emission"][0]](1, emission=e).emission.is_of_counts]  # type: ignore
    needing = [name for name in meant_for["n_within"] if known[name].regions_needed > 1]
    ways, usual = built_in_methods(), defaults(meant_for)
    by_networks = [n for n, model in known.items() if all(ways[method].trains_guide for method in model.methods)]
    with_guide = [name for name in by_networks if not known[name].is_autoencoder]
    tuples = "dict[str, tuple[str, ...]]"
    return [
        ("MODELS", "", words, "Models, and what they are."),
        ("CLASSES", "", {name: model.__name__ for name, model in known.items()}, "Models, and their classes."),
        ("METHODS", tuples, {n: model.methods for n, model in known.items()}, "Models, and methods, default first."),
        ("ALL_METHODS", "", list(ways), "Every way to fit."),
        ("POSTERIOR", "", [name for name, way in ways.items() if way.gives_draws],
            "Methods that draw from a posterior."),
        ("HOLD_NOTHING", "", [name for name, way in ways.items() if not way.holds_sites],
            "Methods that update every parameter, so that none can be fixed."),
        ("INFERRED", tuples, {name: way.infers for name, way in ways.items() if way.infers},
            "Methods, and the parameters that each infers, so that they cannot be fixed."),
        ("UNUSED", tuples, {name: tuple(way.unused) for name, way in ways.items() if way.unused},
            "Methods, and the options of runs that have no effect on each."),
        ("OF_METHODS", tuples, settings_of_methods(), "Options that are settings of methods, and the methods."),
        ("MEANT_FOR", tuples, meant_for, "Options that describe a model, and the models that have a use for each."),
        ("FIELDS", "", FIELDS, "Choices of models that the command line has under another name."),
        ("CHOICES", tuples, {option: names for option, names in named.items() if names},
            "Options that take one of several names."),
        ("DEFAULTS", "dict[str, Any]", usual, "Values of options where none is typed."),
        ("OWN_DEFAULTS", "dict[str, dict[str, Any]]", own_defaults(meant_for, usual),
            "The same, of models of which they are other values."),
        ("SIZES", tuples, {name: model.sizes for name, model in known.items() if model.sizes},
            "Models whose sizes are compared by cross-validation, and these."),
        ("NEEDS_WITHIN", "", needing, "Models that compare regions, so that private latents are part of the question."),
        ("CALIBRATED", "", [name for name, model in known.items() if can_be_calibrated(model)],
            "Models whose delays and kernel parameters can be drawn from a posterior."),
        ("SIMULATED", "", [name for name, model in known.items() if model.is_simulated],
            "Models from which a recording can be drawn before they are fitted."),
        ("WITH_GUIDE", "", with_guide, "Models whose latents are inferred by a guide."),
        ("TALKING", "", [name for name, model in known.items() if model.sends_messages],
            "Models whose regions send messages to each other."),
        ("AUTOENCODERS", "", [name for name, model in known.items() if model.is_autoencoder],
            "Models whose latents are read from the values, so that they have no likelihood and draw nothing."),
        ("COUNTED", "", counted, "Emissions of spike counts."),
        ("KERNELS", "", {name: kernel.__name__ for name, kernel in kernels().items()}, "Kernels, and their classes."),
        ("SETTINGS", "", {option: entry for option, others in WITH.items() for entry in others.items()},
            "Options that are settings of another option's value."),
        ("ORDERS", "", {Kalman().lift: (min(SQUARED_EXPONENTIAL), max(SQUARED_EXPONENTIAL))},
            "Lifts of which the order is bounded: states of one latent in the markov likelihood, from and to."),
        ("TRANSFORMS", "", tuple(TRANSFORMS), "Transforms of counts."),
        ("FORMATS", "", {kind: reader.about for reader in readers() for kind in reader.formats()},
            "Recordings that can be read, by the suffix of their files or the name of their folders."),
        ("FOLDERS", "", folders(), "Recordings that are folders, and patterns of files, of which each holds one."),
        ("WRITTEN", "", [suffix for reader in readers() if reader.writes for suffix in reader.suffixes],
            "Suffixes of files that a recording can be written to."),
        ("COUNTED_FILES", "", {kind: r.counted for r in readers() if r.counted for kind in r.formats()},
            "Files of what is counted in bins, and what it is."),
        ("READING", "dict[str, tuple[str, Any]]", options_of_reading(),
            "Options on how some files are read: the values that each takes, and words for what is typed."),
        ("READING_HELP", "", help_of_reading(), "The same options, and what they are."),
        ("ONLY_FOR", tuples, only_for(), "Options on how files are read that are refused for others."),
        ("HYPOTHESES", "", KNOWN, "Hypotheses on delays."),
    ]  # fmt: skip


def written(value: Any, inside: bool = False) -> str:
    """Source of a value: tables a row a line, everything else on one line."""
    if isinstance(value, dict) and inside:
        return f"{{{', '.join(f'{written(key)}: {written(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, dict):
        rows = (f"    {written(key)}: {written(entry, inside=True)}," for key, entry in value.items())
        return "\n".join(["{", *(row for long in rows for row in wrapped(long)), "}"])
    if isinstance(value, list | tuple):
        inner = ", ".join(map(written, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def wrapped(row: str) -> list[str]:
    """Lines of a row, of which those after the first stand further in."""
    return fill(row, WIDTH, subsequent_indent=8 * " ", break_long_words=False).splitlines()


def catalogue() -> str:
    """Source of the catalogue."""
    head = '''"""Names that the command line knows, so that it answers questions without the classes.

Written by ``python -m mrgp.cli.make_catalogue``, from the classes: to change it, change them, and run that again.
"""

from typing import Any
'''
    blocks = [
        f'{name}{f": {kind}" if kind else ""} = {written(value)}\n"""{about}"""\n'
        for name, kind, value, about in entries()
    ]
    return "\n".join([head, *blocks])


if __name__ == "__main__":
    write_atomically(FILE, lambda path: path.write_text(catalogue()))
