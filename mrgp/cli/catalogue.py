"""Names that the command line knows, so that it answers questions without the classes.

Written by ``python -m mrgp.cli.make_catalogue``, from the classes: to change it, change them, and run that again.
"""

from typing import Any

MODELS = {
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
"""Models, and what they are."""

CLASSES = {
    "dlag": "DLAG",
    "adm": "ADM",
    "mdlag": "MDLAG",
    "gpfa": "GPFA",
    "lds": "LDS",
    "coupledlds": "CoupledLDS",
    "fa": "FA",
    "pcca": "PCCA",
    "gfa": "GFA",
    "gpvae": "GPVAE",
    "ctae": "CTAE",
    "lfads": "LFADS",
    "mrlfads": "MRLFADS",
    "neuralode": "NeuralODE",
    "switchinglds": "SwitchingLDS",
}
"""Models, and their classes."""

METHODS: dict[str, tuple[str, ...]] = {
    "dlag": ("map", "laplace", "svi", "nuts"),
    "adm": ("map", "laplace", "svi", "nuts"),
    "mdlag": ("vb", "map", "laplace", "svi", "nuts"),
    "gpfa": ("map", "laplace", "svi", "nuts"),
    "lds": ("map", "em"),
    "coupledlds": ("map", "em", "vb", "laplace"),
    "fa": ("map",),
    "pcca": ("map",),
    "gfa": ("vb", "map"),
    "gpvae": ("amortised_svi",),
    "ctae": ("amortised_svi",),
    "lfads": ("amortised_svi",),
    "mrlfads": ("amortised_svi",),
    "neuralode": ("amortised_svi",),
    "switchinglds": ("variational_em",),
}
"""Models, and methods, default first."""

ALL_METHODS = ("map", "vb", "em", "laplace", "svi", "nuts", "amortised_svi", "variational_em")
"""Every way to fit."""

POSTERIOR = ("laplace", "svi", "nuts")
"""Methods that draw from a posterior."""

HOLD_NOTHING = ("em", "amortised_svi", "variational_em")
"""Methods that update every parameter, so that none can be fixed."""

INFERRED: dict[str, tuple[str, ...]] = {
    "vb": ("loadings", "noise", "offset", "alpha"),
}
"""Methods, and the parameters that each infers, so that they cannot be fixed."""

UNUSED: dict[str, tuple[str, ...]] = {
    "amortised_svi": ("n_starts", "tolerance"),
}
"""Methods, and the options of runs that have no effect on each."""

OF_METHODS: dict[str, tuple[str, ...]] = {
    "batch_size": ("svi", "amortised_svi"),
    "warm_up": ("amortised_svi",),
}
"""Options that are settings of methods, and the methods."""

MEANT_FOR: dict[str, tuple[str, ...]] = {
    "n_across": ("dlag", "adm", "mdlag", "gpfa", "lds", "fa", "pcca", "gfa", "gpvae", "ctae"),
    "n_within": ("dlag", "adm", "mdlag", "coupledlds", "pcca", "gfa", "gpvae", "ctae", "switchinglds"),
    "mean": ("dlag", "adm", "mdlag", "gpfa", "lds", "coupledlds", "fa", "pcca", "gfa"),
    "mean_timescale": ("dlag", "adm", "mdlag", "gpfa", "lds", "coupledlds", "fa", "pcca", "gfa"),
    "noise": ("dlag", "adm", "mdlag", "gpfa"),
    "max_delay": ("dlag", "adm", "mdlag", "gpvae", "mrlfads"),
    "hold_max_delay": ("dlag", "adm", "mdlag"),
    "kernel": ("dlag", "adm", "mdlag", "gpfa", "gpvae"),
    "timescale_bounds": ("dlag", "adm", "mdlag", "gpfa", "gpvae"),
    "likelihood": ("dlag", "adm", "mdlag", "gpfa"),
    "gp_noise": ("dlag", "adm", "mdlag", "gpfa", "gpvae"),
    "emission": ("dlag", "adm", "mdlag", "gpfa", "lds", "coupledlds", "fa", "pcca", "gfa", "gpvae", "ctae", "lfads",
        "mrlfads", "neuralode", "switchinglds"),
    "order": ("dlag", "adm", "mdlag", "gpfa", "gpvae"),
    "lift": ("dlag", "mdlag", "gpfa"),
    "delay_timescale": ("adm",),
    "typical_spread": ("adm",),
    "shape": ("mdlag", "gfa"),
    "rate": ("mdlag", "gfa"),
    "start_state": ("lds", "coupledlds"),
    "n_global": ("coupledlds",),
    "lag": ("coupledlds",),
    "n_latents": ("neuralode",),
    "n_factors": ("lfads", "mrlfads"),
    "n_states": ("lfads", "mrlfads", "switchinglds"),
    "n_inputs": ("lfads", "mrlfads"),
    "n_initial": ("lfads", "mrlfads"),
    "n_messages": ("mrlfads",),
    "channels": ("mrlfads",),
    "controller": ("mrlfads",),
    "dynamics": ("lfads", "mrlfads"),
    "condition_means": ("lfads",),
    "drift": ("lfads", "mrlfads", "neuralode"),
    "recurrent": ("switchinglds",),
    "populations": ("switchinglds",),
    "most_populations": ("switchinglds",),
    "refinement": ("gpvae", "lfads", "mrlfads", "neuralode"),
}
"""Options that describe a model, and the models that have a use for each."""

FIELDS = {
    "start_state": "start",
    "condition_means": "conditions",
}
"""Choices of models that the command line has under another name."""

CHOICES: dict[str, tuple[str, ...]] = {
    "mean": ("constant", "psth"),
    "noise": ("white", "ar1"),
    "likelihood": ("markov", "dense", "spectral"),
    "emission": ("gaussian", "poisson", "negative_binomial"),
    "lift": ("readout", "ar"),
    "start_state": ("stationary", "learned"),
    "channels": ("rates", "graph", "attention"),
    "controller": ("filtering", "smoothing"),
    "dynamics": ("residual", "gru"),
    "drift": ("none", "slow"),
    "populations": ("known", "unknown"),
}
"""Options that take one of several names."""

DEFAULTS: dict[str, Any] = {
    "mean": "constant",
    "mean_timescale": 0.05,
    "noise": "white",
    "kernel": "squared_exponential",
    "likelihood": "markov",
    "gp_noise": 0.001,
    "emission": "gaussian",
    "order": 6,
    "lift": "readout",
    "shape": 1e-12,
    "rate": 1e-12,
    "start_state": "stationary",
    "n_latents": 3,
    "n_factors": 20,
    "n_states": 32,
    "n_inputs": 1,
    "n_initial": 32,
    "n_messages": 2,
    "channels": "rates",
    "controller": "filtering",
    "dynamics": "residual",
    "drift": "none",
    "recurrent": True,
    "populations": "known",
    "most_populations": 6,
    "n_starts": 6,
    "tolerance": 0.01,
    "max_iterations": 1000,
    "batch_size": 64,
    "warm_up": 50,
}
"""Values of options where none is typed."""

OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "emission": {"ctae": "poisson", "lfads": "poisson", "mrlfads": "poisson", "neuralode": "poisson"},
    "order": {"gpvae": 4},
    "n_factors": {"mrlfads": 16},
    "n_states": {"mrlfads": 48, "switchinglds": 2},
    "n_initial": {"mrlfads": 16},
    "dynamics": {"mrlfads": "gru"},
}
"""The same, of models of which they are other values."""

SIZES: dict[str, tuple[str, ...]] = {
    "dlag": ("n_across", "n_within"),
    "adm": ("n_across", "n_within"),
    "mdlag": ("n_across", "n_within"),
    "gpfa": ("n_across", "n_within"),
    "lds": ("n_across", "n_within"),
    "coupledlds": ("n_within", "n_global"),
    "fa": ("n_across", "n_within"),
    "pcca": ("n_across", "n_within"),
    "gfa": ("n_across", "n_within"),
    "gpvae": ("n_across", "n_within"),
    "ctae": ("n_across", "n_within"),
    "switchinglds": ("n_states", "n_within"),
}
"""Models whose sizes are compared by cross-validation, and these."""

NEEDS_WITHIN = ("dlag", "adm", "pcca", "ctae")
"""Models that compare regions, so that private latents are part of the question."""

CALIBRATED = ("dlag", "adm", "mdlag", "gpfa")
"""Models whose delays and kernel parameters can be drawn from a posterior."""

SIMULATED = ("dlag", "adm", "mdlag", "gpfa", "lds", "coupledlds", "fa", "pcca", "gfa")
"""Models from which a recording can be drawn before they are fitted."""

WITH_GUIDE = ("gpvae", "lfads", "mrlfads", "neuralode")
"""Models whose latents are inferred by a guide."""

TALKING = ("mrlfads",)
"""Models whose regions send messages to each other."""

AUTOENCODERS = ("ctae",)
"""Models whose latents are read from the values, so that they have no likelihood and draw nothing."""

COUNTED = ("poisson", "negative_binomial")
"""Emissions of spike counts."""

KERNELS = {
    "squared_exponential": "SquaredExponential",
    "matern12": "Matern12",
    "matern32": "Matern32",
    "matern52": "Matern52",
    "rational_quadratic": "RationalQuadratic",
    "spectral": "Spectral",
}
"""Kernels, and their classes."""

SETTINGS = {
    "mean_timescale": ("mean", "psth"),
    "most_populations": ("populations", "unknown"),
}
"""Options that are settings of another option's value."""

ORDERS = {
    "readout": (2, 6),
}
"""Lifts of which the order is bounded: states of one latent in the markov likelihood, from and to."""

TRANSFORMS = ("sqrt", "anscombe")
"""Transforms of counts."""

FORMATS = {
    ".npz": "one array (trials, bins, neurons) per region, by its name, and bin_width in seconds; NaN = missing",
    ".npy": "one array (trials, bins, neurons), regions side by side, with --bin-width; mapped, not read",
    ".nc": "as `mrgp simulate` writes it",
    ".zarr": "as mrgp.save_recording writes it, a folder (needs zarr)",
    ".mat": "of the DLAG, mDLAG and pCCA toolboxes (seqTrue or Ytrain, binWidth in ms, yDims), or arrays as in an .npz",
    ".nwb": "sorted units and trials, counted in bins of --bin-width (needs pynwb)",
    "Phy": "folder of Kilosort or Phy (spike_times.npy), with --trials, counted in bins of --bin-width",
    "ALF": "session or probe, a folder with spikes.times.npy (ONE, IBL), counted in bins of --bin-width",
}
"""Recordings that can be read, by the suffix of their files or the name of their folders."""

FOLDERS = {
    "ALF": ("*spikes.times*.npy", "*/*spikes.times*.npy", "*/*/*spikes.times*.npy", "*/*/*/*spikes.times*.npy",
        "*/*/*/*/*spikes.times*.npy"),
    "Phy": ("spike_times.npy",),
}
"""Recordings that are folders, and patterns of files, of which each holds one."""

WRITTEN = (".npz", ".nc", ".zarr")
"""Suffixes of files that a recording can be written to."""

COUNTED_FILES = {
    ".nwb": "spike times",
    "Phy": "spike times",
    "ALF": "spike times",
}
"""Files of what is counted in bins, and what it is."""

READING: dict[str, tuple[str, Any]] = {
    "n_neurons": ("counts", "N,N"),
    "window": ("numbers", ("FROM", "TO")),
    "align": ("text", "COLUMN"),
    "trials": ("text", "TABLE"),
    "region_of_unit": ("text", "COLUMN"),
    "region_map": ("groups", "NAME=A+B,.."),
    "merge_layers": ("switch", ""),
    "min_neurons": ("count", "N"),
    "units": ("groups", "COLUMN=A+B,.."),
    "condition_of_trial": ("text", "COLUMN"),
    "sample_rate": ("positive", "HZ"),
    "probes": ("names", "A,B"),
    "atlas": ("text", "FILE"),
}
"""Options on how some files are read: the values that each takes, and words for what is typed."""

READING_HELP = {
    "n_neurons": "per region, for a .npy file, or a .mat file that does not say it",
    "window": ".nwb, Phy, ALF: trials are this long around an event, such as -0.2 0.5 (from their start to their stop)",
    "align": ".nwb, Phy, ALF: the event, a column of the trials (start_time)",
    "trials": ".nwb, Phy, ALF: the table of trials: a name in an .nwb (trials), else a .csv or .tsv file",
    "region_of_unit": ".nwb, Phy, ALF: of the units (location or acronym, else of electrodes or channels)",
    "region_map": ".nwb, Phy, ALF: regions under other names, joined",
    "merge_layers": ".nwb, Phy, ALF: join layers of areas of the Allen atlas: VISp2/3 is VISp",
    "min_neurons": ".nwb, Phy, ALF: leave out regions of fewer units (1)",
    "units": ".nwb, Phy, ALF: units with these values in a column",
    "condition_of_trial": ".nwb, Phy, ALF: of the trials: what --mean psth tells apart (condition)",
    "sample_rate": "Phy: samples per second (as params.py says)",
    "probes": "ALF: probes or sortings of a session (all)",
    "atlas": "ALF: acronyms of regions: a .csv, id and acronym",
}
"""The same options, and what they are."""

ONLY_FOR: dict[str, tuple[str, ...]] = {
    "window": (".nwb", "Phy", "ALF"),
    "align": (".nwb", "Phy", "ALF"),
    "trials": (".nwb", "Phy", "ALF"),
    "region_of_unit": (".nwb", "Phy", "ALF"),
    "region_map": (".nwb", "Phy", "ALF"),
    "merge_layers": (".nwb", "Phy", "ALF"),
    "min_neurons": (".nwb", "Phy", "ALF"),
    "units": (".nwb", "Phy", "ALF"),
    "condition_of_trial": (".nwb", "Phy", "ALF"),
    "sample_rate": ("Phy",),
    "probes": ("ALF",),
    "atlas": ("ALF",),
}
"""Options on how files are read that are refused for others."""

HYPOTHESES = ("none", "constant", "varying")
"""Hypotheses on delays."""
