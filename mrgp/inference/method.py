"""Ways to infer a model's parameters, each a part with a name and settings of its own."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from mrgp.inference.driver import Driver
from mrgp.inference.quantity import JOINT, OBJECTIVE, Quantity
from mrgp.inference.run import AnyModel, Options, Run, State
from mrgp.part import Part
from mrgp.recordings.recording import MultiRegionData
from mrgp.runtime.sentences import MAP, Argument, Sentence


class Method(Part, family="method", tag="name", short=True):
    """Way to infer a model's parameters from a recording.

    A method of one's own is a frozen dataclass, whose fields are its settings, with ``init`` and ``step``: any model is
    then fitted by it, ``model.fit(data, method=MyMethod())`` or by its name. The driver repeats ``step`` until the
    state has a ``reason`` to end, and sees to progress bar, Ctrl-C, checkpoint and warnings.

    Attributes:
        climbs: What the trace of its runs holds.
        gives_draws: Whether it ends with draws of the posterior.
        ends_at_maximum: Whether its sites are at a maximum of log p(y, parameters), so that the Gaussian there says how
            sure they are.
        infers: Sites that cannot be held at a value, since the method has a distribution of its own for them.
        holds_sites: Whether any site can be held.
        unused: Options of a fit that it has no use for, and what to do instead of each.
        removes_latents: Whether it leaves out latents that no region reads.
        listed: Whether only models that name it among their ``methods`` have it.
        trains_guide: Whether it trains a guide, which infers the latents of a trial from the trial.
        draws_all: How to get draws of everything that is inferred, for messages.
        for_calibration: Settings under which its draws are calibrated.
        title, unit: Of the progress bar, what is done and what is counted; no bar without a title.
        finds: What may not have converged, in one word.
    """

    climbs: ClassVar[Quantity] = JOINT
    gives_draws: ClassVar[bool] = False
    ends_at_maximum: ClassVar[bool] = False
    infers: ClassVar[tuple[str, ...]] = ()
    holds_sites: ClassVar[bool] = True
    unused: ClassVar[Mapping[str, str]] = {}
    removes_latents: ClassVar[bool] = False
    listed: ClassVar[bool] = False
    trains_guide: ClassVar[bool] = False
    draws_all: ClassVar[str] = "score held-out trials by mrgp.cross_validate"
    for_calibration: ClassVar[Mapping[str, Any]] = {}
    title: ClassVar[str | None] = None
    unit: ClassVar[str] = " iterations"
    finds: ClassVar[str] = "fit"

    def objection(self, model: AnyModel, data: MultiRegionData) -> Sentence | None:
        """Reason why it cannot fit a model to a recording, or None."""
        return model.why_no_maximum(data)

    def longest(self, options: Options) -> int | None:
        """Largest number of steps of a run, for its progress bar; None where none is known."""
        return None

    def init(self, driver: Driver) -> State:
        """State from which a run begins."""
        raise NotImplementedError

    def step(self, driver: Driver, state: Any) -> Any:
        """Move the state on, and return it or another; its ``reason`` ends the run."""
        raise NotImplementedError

    def finish(self, driver: Driver, state: Any) -> Run:
        """Make the result of the last state."""
        return driver.result(state)

    def cannot_hold(self, names: Collection[str]) -> Sentence | None:
        """Reason why the sites ``names`` cannot be held at values, or None."""
        itself = f"method {self.written_name()!r}"
        if names and not self.holds_sites:
            return f"{itself} updates every parameter: to fix one, use ", MAP
        if inferred := sorted(set(self.infers) & set(names)):
            return f"{itself} infers {', '.join(inferred)}: fix delays or kernel parameters, or use ", MAP
        return None

    def has_no_use_for(self, options: Options) -> Sentence | None:
        """Reason why options that are not the default mean nothing to it, or None."""
        for field in dataclasses.fields(options):
            if field.name in self.unused and getattr(options, field.name) != field.default:
                itself = f"method {self.written_name()!r} has no use for "
                return itself, Argument(field.name), f": {self.unused[field.name]}"
        return None

    @property
    def settings_of_run(self) -> Mapping[str, Any]:
        """Settings by name that a run cannot change as it goes on from its checkpoint."""
        return {}

    # ---- names ---------------------------------------------------------------------------------------------------

    @classmethod
    def known(cls, name: str) -> type["Method"]:
        """Find the class of a name; the base class where it is not defined here."""
        try:
            return cls.member(name)
        except ValueError:
            return cls

    @classmethod
    def is_for(cls, model: AnyModel) -> bool:
        """True if a model can be fitted by it."""
        return not cls.listed or cls.written_name() in model.methods

    @classmethod
    def climbs_of(cls, model: AnyModel) -> Quantity:
        """Quantity in the trace of a model's runs.

        Of autoencoders it is what is trained, which is no log p(y).
        """
        return OBJECTIVE if model.is_autoencoder else cls.climbs

    @classmethod
    def chosen(cls, method: "Method | str", settings: Mapping[str, Any], model: AnyModel) -> "Method":
        """Find the method of a name, with ``settings``, or change those of a method.

        Of a method that is named, settings that are not given are those that the model has for it, if any.

        Raises:
            ValueError: it is no method of the model.
            TypeError: it has no such setting.
        """
        kind = cls.known(method) if isinstance(method, str) else type(method)
        is_known = issubclass(kind, cls) and kind is not cls
        if not (is_known and kind.is_for(model)):
            name, listed = kind.written_name() if is_known else method, ", ".join(model.methods)
            raise ValueError(f"method is one of {listed} for {type(model).__name__}, not {name!r}")
        known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
        if unknown := sorted(settings.keys() - set(known)):
            has = f"it has {', '.join(known)}" if known else "it has no settings of its own"
            raise TypeError(f"method {kind.written_name()!r} knows no setting {', '.join(unknown)}: {has}")
        if not isinstance(method, str):
            return method.replace(**settings)
        usual = {name: value for name, value in model.usual_settings.items() if name in known}
        return kind(**usual | dict(settings))
