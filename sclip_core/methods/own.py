"""``@method``: a training-free method of a user's own, in a file of their own.

docs/own-method.md takes a reader from nothing to a scored method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from sclip_core.config import Protocol, UserError, unknown
from sclip_core.config.methods import (
    ATTENTIONS,
    built_in_methods,
    forget_facts,
    parameters_text,
    register_facts,
)
from sclip_core.config.plugins import check_name, claim
from sclip_core.config.protocol import benchmark_name
from sclip_core.encoder.attention import BUILT_IN
from sclip_core.encoder.code import code_digest
from sclip_core.encoder.taps import Tap
from sclip_core.encoder.text import TEMPLATES
from sclip_core.encoder.views import VIEWS
from sclip_core.methods.declared import digest_of, with_fields
from sclip_core.methods.method import Method, Scene
from sclip_core.methods.registry import OWN

Written = TypeVar("Written", bound=Callable[..., Any])
Block = int | tuple[int, int]  # a block's output, or the mean of the outputs of several
SECOND_TAPS = ("tokens", "queries+keys", "penultimate")


class OwnFunction(Method):
    """A method that is a function of a scene; its keyword-only arguments are the fields."""

    function: ClassVar[Callable[..., Tensor]]
    blocks: ClassVar[tuple[Block, ...]] = (-1,)

    @classmethod
    def code(cls) -> str:
        """A digest of the function, and of what it reads."""
        reads = cls.blocks, cls.views, cls.second_taps, cls.reads_words, cls.reads_masks
        return digest_of(code_digest(cls.function), reads, cls.templates, cls.positions)

    def taps(self, layers: int) -> tuple[Tap, ...]:
        """What was declared, of a tower of so many blocks."""
        return taps_of(self.blocks, layers, self.name)

    def features(self, scene: Scene) -> Tensor:
        """What the function returns."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).function(scene, **values)


def method(
    name: str,
    *,
    taps: Sequence[Block] = (-1,),
    second_taps: Sequence[str] = (),
    second: str | None = None,
    views: Sequence[str] = ("original",),
    reads_words: bool = False,
    reads_masks: bool = False,
    needs_cls: bool = False,
    templates: str | None = None,
    title: str | None = None,
    protocol: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    benchmarks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Written], Written]:
    """Register a method of your own, for ``--method NAME``.

    It decorates a function of a ``Scene``, whose keyword-only arguments are its parameters, or a
    subclass of ``Method``, whose fields are; such a class says itself what it reads. The
    function returns what ``Method.features`` does.

    Args:
        name: of the method.
        taps: blocks whose outputs it reads, counted from 1, or from the last as negative numbers:
            -1 is what the last block reads; a pair is the mean of the blocks from one to another.
        second_taps: what it reads of a second network: ``tokens``, ``queries+keys``,
            ``penultimate``.
        second: the usual second network. [dino_vitb8]
        views: the versions of each window that the tower sees.
        reads_words: whether it reads ``scene.words``.
        reads_masks: whether it reads ``scene.regions``.
        needs_cls: whether it computes with the CLS token, which not all towers have.
        templates: the prompts of the words: ``openai``, ``simple`` or ``photo``.
        title: for people. [name]
        protocol: fields of ``Protocol`` that it sets, such as ``{"short_side": 448}``.
        parameters: other values for its parameters than the usual ones.
        benchmarks: by benchmark, fields of ``Protocol``, and ``parameters``, that it sets there.

    Raises:
        UserError: the name is invalid or taken, or an argument is wrong.
    """
    check_name("method", name)
    _check_reads(name, taps, second_taps, views, templates)
    reads: dict[str, Any] = {
        "second_taps": tuple(second_taps),
        "views": tuple(views),
        "blocks": tuple(taps),
    }
    reads |= {"reads_words": reads_words, "reads_masks": reads_masks, "needs_cls": needs_cls}
    facts: dict[str, Any] = {"title": title or name, "second": second, "templates": templates}
    facts |= {"protocol": dict(protocol or {}), "parameters": dict(parameters or {})}
    facts |= {"benchmarks": {key: dict(own) for key, own in (benchmarks or {}).items()}}

    def register(written: Written) -> Written:
        """Add it to the registry and return it unchanged."""
        _register(name, written, reads, facts)
        return written

    return register


def _check_reads(
    name: str,
    taps: Sequence[Block],
    second_taps: Sequence[str],
    views: Sequence[str],
    templates: str | None,
) -> None:
    """Refuse what nothing has."""
    taps_of(taps, 1000, name)  # towers have fewer: what is out of range shows later
    for tap in second_taps:
        if tap not in SECOND_TAPS:
            raise unknown("second tap", tap, SECOND_TAPS)
    for view in views:
        if view not in VIEWS:
            raise unknown("view", view, VIEWS)
    if templates is not None and templates not in TEMPLATES:
        raise unknown("templates", templates, TEMPLATES)


def _register(name: str, written: Any, reads: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Add a method to the registry, and what it sets to what settings know."""
    kind = _class_of(name, written, reads)
    checked = _settings(name, kind, facts["protocol"], facts["parameters"], facts["benchmarks"])
    known = {**facts, **checked, "ingredients": _ingredients(kind)}
    taken = (*built_in_methods(), *(ATTENTIONS & BUILT_IN.keys()))
    claim("method", name, written, lambda: OWN, kind, taken, partial(forget_facts, name))
    ATTENTIONS.discard(name)
    register_facts(name, {key: value for key, value in known.items() if value is not None})


def _class_of(name: str, written: Any, reads: Mapping[str, Any]) -> type[Method]:
    """The class of a method: what was written, or one around a function."""
    if not isinstance(written, type):
        kind: Any = with_fields(OwnFunction, f"method '{name}'", written, "scene")
        kind.function = staticmethod(written)
        for key, value in reads.items():
            setattr(kind, key, value)
    elif not issubclass(written, Method):
        raise UserError(
            f"method '{name}': expected a function of a scene, or a subclass of Method; found the "
            f"class {written.__qualname__}"
        )
    elif written.features is Method.features:
        raise UserError(f"method '{name}': {written.__qualname__} has no 'features(self, scene)'")
    else:
        kind = written
    kind.name = name
    checked: type[Method] = kind
    return checked


def taps_of(blocks: Sequence[Block], layers: int, name: str) -> tuple[Tap, ...]:
    """Taps by numbers of blocks.

    Args:
        blocks: as of ``method``.
        layers: of the tower.
        name: of the method, for the error.

    Raises:
        UserError: the tower has no such block, or it is the last one, which methods replace.
    """
    if isinstance(blocks, int | str):
        raise UserError(f"method '{name}': taps={blocks!r}: expected several: taps=({blocks},)")
    found = []
    for block in blocks:
        ends = block if isinstance(block, tuple | list) else (block, block)
        if len(ends) != 2 or not all(type(end) is int for end in ends):
            raise UserError(f"method '{name}' reads {block!r}: expected a block's number, or two")
        first, last = (end if end >= 0 else layers + end for end in ends)
        if not 0 <= first <= last < layers:
            raise UserError(
                f"method '{name}' reads block {block} of a tower of {layers}: expected one of "
                f"0 to {layers - 1}, or of -1 to -{layers}"
            )
        found.append(Tap(first, last))
    return tuple(dict.fromkeys(found))


def _ingredients(kind: type[Method]) -> list[str]:
    second = {"dino": bool(kind.second_taps), "sam": kind.reads_sam, "masks": kind.reads_masks}
    return ["clip", *(name for name, needed in second.items() if needed)]


def _settings(
    name: str,
    kind: type[Method],
    protocol: Mapping[str, Any],
    parameters: Mapping[str, Any],
    benchmarks: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What it sets, as facts, checked."""
    of_benchmarks = {}
    for benchmark, own in benchmarks.items():
        plain = {key: value for key, value in own.items() if key != "parameters"}
        _check(name, kind, {**protocol, **plain}, {**parameters, **own.get("parameters", {})})
        of_benchmarks[benchmark_name(benchmark)] = dict(own)
    _check(name, kind, protocol, parameters)
    return {
        "protocol": dict(protocol),
        "parameters": dict(parameters),
        "benchmarks": of_benchmarks,
    }


def _check(
    name: str, kind: type[Method], protocol: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    """See that settings of a method can be."""
    try:
        Protocol.checked({**protocol, "parameters": parameters_text(values)})
        kind.checked({k: v for k, v in values.items() if k in kind.model_fields})
    except UserError as error:
        raise UserError(f"method '{name}': {error}") from None
