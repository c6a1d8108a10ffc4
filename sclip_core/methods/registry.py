"""Methods by name: the project's own, and those that users register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from sclip_core.config import Protocol, UserError, unknown
from sclip_core.config.methods import method_table
from sclip_core.config.own_code import file_of
from sclip_core.config.plugins import load_entry_points
from sclip_core.config.protocol import Checked
from sclip_core.encoder.attention import BUILT_IN as ATTENTIONS
from sclip_core.encoder.attention import POLICIES, Attention
from sclip_core.encoder.towers import Facts
from sclip_core.masks.fill import RULES
from sclip_core.methods.declared import OwnPart
from sclip_core.methods.method import Method
from sclip_core.methods.own_parts import DECISIONS, OwnDecision, OwnRule
from sclip_core.methods.steps import Step, steps_of
from sclip_core.segmentation.refiners import Refining, find_refiner

BUILT_IN = {  # name: module and class; a run imports what it uses
    "sc-clip": "sc_clip.SCCLIP",
    "pearl": "pearl.PEARL",
    "resclip": "resclip.ResCLIP",
    "itaclip": "itaclip.ITACLIP",
    "gem": "gem.GEM",
    "proxyclip": "proxyclip.ProxyCLIP",
    "gla-clip": "gla_clip.GLACLIP",
    "corrclip": "corrclip.CorrCLIP",
    "ov-stitcher": "ov_stitcher.OVStitcher",
    "trident": "trident.Trident",
}
ARGMAX = "argmax"  # the decision that is built in
OWN: dict[str, type[Method]] = {}  # of users


@dataclass(frozen=True)
class Chosen:
    """What labels the pixels of a run: each part with its parameters."""

    attention: Attention
    """Of the last block, where ``method`` is None."""
    method: Method | None
    refiner: Refining | None
    """None: PAMR."""
    after: tuple[Step, ...]
    decision: OwnDecision | None = None
    """None: the best class, and the thresholds."""
    rule: OwnRule | None = None
    """Of hybrid mode; None: one of the project's own."""

    @property
    def name(self) -> str:
        """Of the method, or of the attention with its arch."""
        return self.method.name if self.method else str(self.attention)

    def code_files(self) -> dict[str, str]:
        """The file of each part that a user wrote, by the name of its digest in keys."""
        written: dict[str, Any] = {}
        if self.method is not None:
            written["method_code"] = getattr(self.method, "function", type(self.method))
        else:
            written["attention_code"] = POLICIES[self.attention.policy][0]
        for part in (self.refiner, self.decision, self.rule):
            if isinstance(part, OwnPart):
                written[f"{part.kind}_code"] = part.function
        written |= {f"{step.name}_code": step.function for step in self.after if step.own}
        files = {key: file_of(function) for key, function in written.items()}
        return {key: Path(file).name for key, file in files.items() if file}

    @property
    def reads_masks(self) -> bool:
        """Whether the features, or a step after the decision, depend on masks."""
        of_features = self.method is not None and self.method.reads_masks
        return of_features or any(step.reads_masks for step in self.after)


def method_class(name: str) -> type[Method] | None:
    """The class of a method; None: there is none of that name, which may be an attention's."""
    if name not in {**OWN, **BUILT_IN} and name.partition(":")[0] not in POLICIES:
        load_entry_points()
    if name in OWN:
        return OWN[name]
    if name not in BUILT_IN:
        return None
    module, _, kind = BUILT_IN[name].rpartition(".")
    found: type[Method] = getattr(import_module(f"sclip_core.methods.{module}"), kind)
    return found


def choose(protocol: Protocol, attention: str = "csa") -> Chosen:
    """What a protocol asks for, with its parameters given to whom they belong.

    Args:
        protocol: ``method``, ``refiner``, ``after`` and ``parameters``.
        attention: of the last block, where the protocol names no method.

    Raises:
        UserError: an unknown name, or a parameter that nothing chosen has or that is out of range.
    """
    values = protocol.parameter_values
    kind = method_class(protocol.method) if protocol.method else None
    if protocol.method and kind is None:
        if protocol.method.partition(":")[0] not in POLICIES:
            raise unknown("method", protocol.method, [*method_table(), *OWN, *POLICIES])
        attention = protocol.method
    policy = Attention.parse(attention)
    refining, deciding = find_refiner(protocol.refiner), _decision(protocol.decision)
    rule = RULES.get(getattr(protocol, "rule", None) or "")
    ruling = type(rule) if isinstance(rule, OwnRule) else None
    after = steps_of(protocol.after)
    models = [kind, refining, deciding, ruling, *(type(step.own) for step in after if step.own)]
    known = [set(model.model_fields) for model in models if model is not None]
    known += [] if kind is not None else [set(policy.declared)]
    _check_known(values, set().union(*known), protocol.method or str(policy))

    def of(model: type[Checked] | None) -> Any:
        if model is None:
            return None
        return model.checked({k: v for k, v in values.items() if k in model.model_fields})

    own = {k: v for k, v in values.items() if kind is None and k in policy.declared}
    return Chosen(
        attention=policy.with_parameters(own) if own else policy,
        method=of(kind),
        refiner=of(refining),
        after=tuple(replace(s, own=of(type(s.own))) if s.own else s for s in after),
        decision=of(deciding),
        rule=of(ruling),
    )


def _decision(name: str) -> type[OwnDecision] | None:
    """The class of a decision; None: the usual one."""
    if name == ARGMAX:
        return None
    if name not in DECISIONS:
        raise unknown("decision", name, [ARGMAX, *DECISIONS])
    return DECISIONS[name]


def check_cls(method: Method | None, model: str, tower: Facts) -> None:
    """Refuse a method that computes with a CLS token on a tower that has none for it.

    Args:
        method: of a run; None: an attention, which needs none.
        model: its name, for the error.
        tower: of the model.

    Raises:
        UserError: it needs one; says which methods do not.
    """
    if method is None or not method.needs_cls or tower.has_cls:
        return
    raise UserError(
        f"method '{method.name}' needs a CLS token, and {model} {tower.cls}: "
        f"take {', '.join(without_cls())}"
    )


def without_cls() -> list[str]:
    """Names of the project's methods that need no CLS token, attentions first."""
    kinds = {name: method_class(name) for name in BUILT_IN}
    return [*ATTENTIONS, *(name for name, kind in kinds.items() if kind and not kind.needs_cls)]


def _check_known(values: Mapping[str, Any], known: set[str], method: str) -> None:
    """Refuse parameters that nothing chosen has."""
    for name in values:
        if name not in known:
            if not known:
                raise UserError(f"method '{method}' has no parameters, found {name}: leave it out")
            raise unknown(f"parameter of method {method}:", name, sorted(known))


def identity_of(method: Method) -> dict[str, Any]:
    """What decides a method's features, as plain JSON values for a key."""
    identity: dict[str, Any] = {"method": method.name, "method_version": method.version}
    given = method.changed()
    if given:
        identity["parameters"] = given
    if method.name in OWN:
        identity["method_code"] = method.code()
    return identity
