"""What is known of a method before its code is needed: ingredients, settings by benchmark.

A YAML in ``config/methods`` for each method of the project; a method of a user's own registers the
same. Policies of the last block's attention need none: they follow the benchmark's protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from itertools import product
from typing import Any

from sclip_core.config.errors import UserError, shown
from sclip_core.config.yaml_file import load_yaml

INGREDIENTS = {
    "clip": "CLIP alone",
    "dino": "+ DINO",
    "sam": "+ SAM",
    "masks": "+ masks",
}  # classes of methods, by the most that they need
KEYS = {
    "title",
    "ingredients",
    "second",  # the usual second network
    "templates",  # of the words
    "protocol",
    "parameters",
    "benchmarks",
}
_own: dict[str, dict[str, Any]] = {}  # of users
STEPS_WITH_MASKS = {"vote"}  # steps after the decision that read masks; users add their own
# Names of attentions, which are methods too; those of users are added when they register.
ATTENTIONS = {"csa", "vanilla", "maskclip", "clearclip", "naclip", "kk"}


@cache
def _built_in() -> dict[str, dict[str, Any]]:
    folder = resources.files("sclip_core.config") / "methods"
    found = {
        file.name.removesuffix(".yaml"): load_yaml(file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }
    return dict(sorted(found.items()))


def built_in_methods() -> tuple[str, ...]:
    """The names of the project's methods."""
    return tuple(_built_in())


def method_table() -> dict[str, dict[str, Any]]:
    """What is known of each method that is more than an attention, by name."""
    return {**_built_in(), **_own}


def register_facts(name: str, facts: Mapping[str, Any]) -> None:
    """Let a method of a user's own be known to settings.

    Args:
        name: of the method.
        facts: as a YAML of ``config/methods`` has them.

    Raises:
        UserError: a key that no method has.
    """
    unexpected = set(facts) - KEYS
    if unexpected:
        raise UserError(
            f"method '{name}' has settings {', '.join(sorted(unexpected))}: expected "
            f"{', '.join(sorted(KEYS))}"
        )
    _own[name] = dict(facts)


def forget_facts(name: str) -> None:
    """Undo ``register_facts``."""
    _own.pop(name, None)


def is_attention(name: object) -> bool:
    """Whether a name is an attention's, with or without its arch: ``naclip:vanilla``."""
    return str(name).partition(":")[0] in ATTENTIONS


def ingredients_of(method: str | None) -> tuple[str, ...]:
    """What a method needs: ``clip``, and of ``dino``, ``sam``, ``masks`` what it does."""
    return tuple(method_table().get(method or "", {}).get("ingredients", ["clip"]))


def ingredient_class(needs: Iterable[str]) -> str:
    """The class of what a run needs, ``clip``, ``dino``, ``sam``, ``masks``: by the most of it."""
    return INGREDIENTS[max(needs, key=list(INGREDIENTS).index)]


def reads_masks(method: str | None) -> bool:
    """Whether a method needs masks."""
    return "masks" in ingredients_of(method)


def steps_read_masks(after: Any) -> bool:
    """Whether a step after the decision needs masks; ``after`` as a file or a flag has it."""
    names = after.split(",") if isinstance(after, str) else after
    known = names if isinstance(names, list | tuple) else ()  # anything else is refused later
    return any(str(name).strip() in STEPS_WITH_MASKS for name in known)


def reads_second(method: str | None) -> bool:
    """Whether a method needs a second network's features: DINO's or SAM's."""
    return bool({"dino", "sam"} & set(ingredients_of(method)))


def usual_second(method: str | None) -> str:
    """The second network that a method is published with; of a user's method DINO ViT-B/8."""
    found: str = method_table().get(method or "", {}).get("second", "dino_vitb8")
    return found


def template_set(method: str | None) -> str | None:
    """The templates that a method's words are put into; None: the usual ones."""
    found: str | None = method_table().get(method or "", {}).get("templates")
    return found


def method_protocol(method: str | None, benchmark: str | None) -> dict[str, Any]:
    """What a method sets of the protocol.

    Args:
        method: its name; of an attention, or None: nothing is set.
        benchmark: canonical name of a benchmark, whose own values win; None: another dataset.

    Returns:
        Fields of ``Protocol``; ``parameters`` as text.
    """
    facts = method_table().get(method or "")
    if facts is None:
        return {}
    own = (facts.get("benchmarks") or {}).get(benchmark or "") or {}
    parameters = {**(facts.get("parameters") or {}), **(own.get("parameters") or {})}
    plain = {key: value for key, value in own.items() if key != "parameters"}
    values = {**(facts.get("protocol") or {}), **plain, "method": method}
    return {**values, "parameters": parameters_text(parameters)} if parameters else values


def parameters_of(text: str) -> dict[str, Any]:
    """The values in ``"beta=1.2 gamma=3"``, by name.

    Raises:
        ValueError: a part is no ``name=value``.
    """
    return {name: _scalar(value) for name, value in _spelled_out(text).items()}


def parameters_text(values: Mapping[str, Any]) -> str:
    """Parameters as text, in the order of their names: ``"beta=1.2 gamma=3"``."""
    return " ".join(f"{name}={_spelled(value)}" for name, value in sorted(values.items()))


def canonical_parameters(value: Any) -> Any:
    """A mapping or a text of parameters as the one text that stands for them."""
    if isinstance(value, Mapping):
        return parameters_text(value)
    return parameters_text(parameters_of(value)) if isinstance(value, str) else value


def parameter_points(value: Any, method: str | None, usual: str = "") -> list[str]:
    """Every combination of a method's parameters, of which each may have several values.

    Args:
        value: text such as ``"beta=1,1.2 gamma=3"``, or a mapping of names to values or lists. A
            name like ``proxyclip.beta`` is that method's alone.
        method: the others' parameters are left out.
        usual: what the method sets by itself, for names that are not given.

    Returns:
        Texts as of ``parameters_text``, the last name varying fastest.

    Raises:
        UserError: a part is no ``name=value``.
    """
    if isinstance(value, list | tuple):  # several points already
        return [one for part in value for one in parameter_points(part, method, usual)]
    try:
        given = _spelled_out(value) if isinstance(value, str) else dict(value or {})
    except (TypeError, ValueError) as error:
        raise UserError(f"settings: parameters={shown(value)}: {error}") from None
    chosen: dict[str, list[Any]] = {name: [v] for name, v in parameters_of(usual).items()}
    for name, values in given.items():
        owner, _, plain = name.rpartition(".")
        if owner in ("", method):
            several = values.split(",") if isinstance(values, str) else values
            several = several if isinstance(several, list | tuple) else [several]
            chosen[plain] = [_scalar(one) if isinstance(one, str) else one for one in several]
    names = sorted(chosen)
    points = product(*(chosen[name] for name in names))
    return [parameters_text(dict(zip(names, point, strict=True))) for point in points]


def _spelled_out(text: str) -> dict[str, str]:
    """The parts of a text of parameters, by name."""
    found = {}
    for part in text.replace(";", " ").split():
        name, equals, value = part.partition("=")
        if not (equals and name.rpartition(".")[2].isidentifier() and value):
            raise ValueError(f"expected name=value, such as beta=1.2, found {shown(part)}")
        found[name] = value
    return found


def _scalar(text: str) -> Any:
    """The number, switch or word that a text spells."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
