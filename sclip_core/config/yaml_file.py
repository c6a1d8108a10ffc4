"""Reading YAML from an untrusted source: plain values only, with aliases that cannot explode.

A few lines of aliases can stand for billions of values. PyYAML shares them, but code that prints or
flattens them does not, and merge keys (``<<``) are copied by PyYAML itself. Both are counted before
anything is constructed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import yaml

MOST_VALUES = 100_000  # in a file, aliases expanded
DEEPEST = 100  # levels of nesting
INT = "tag:yaml.org,2002:int"
MERGE = "tag:yaml.org,2002:merge"  # the key <<, which may stand several times
LONGEST = 400  # characters of a whole number; Python refuses to print one of 4,300 digits


def load_yaml(text: str | bytes, typed: bool = True, unique: bool = False) -> Any:
    """The one document in a text, as ``yaml.safe_load`` returns it; tags are never executed.

    Args:
        text: of a file.
        typed: False: each value is its text, ``on`` too, which else is a truth value.
        unique: refuse a key that stands twice in a mapping, of which PyYAML takes the last.

    Raises:
        ValueError: not YAML, a tag that is not one of YAML's own, aliases that expand to too much,
            a number of too many digits, or a key twice.
    """
    try:
        loader, node = _composed(text, typed)
        if node is None:
            return None
        size, depth = _measured(node, {})
        if size > MOST_VALUES or depth > DEEPEST:
            raise ValueError(
                f"its aliases stand for more than {MOST_VALUES:,} values, or {DEEPEST} within "
                "each other: write it without"
            )
        if unique:
            _refuse_doubled(node, set())
        return loader.construct_document(node)
    except Exception as error:  # PyYAML's constructors raise a dozen kinds, of "!!bool x" KeyError
        kind = "" if isinstance(error, yaml.YAMLError | ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{kind}{' '.join(str(error).split())}") from None


def _composed(text: str | bytes, typed: bool) -> tuple[Any, yaml.Node | None]:
    """A loader of a text and its document.

    By libyaml where there is one, which takes a tenth of the time; what it refuses is read again
    by PyYAML's own parser, which says more about the place.
    """
    name = "SafeLoader" if typed else "BaseLoader"
    with suppress(yaml.YAMLError):
        if yaml.__with_libyaml__ and _is_shallow(text):
            quick = getattr(yaml, f"C{name}")(text)
            return quick, quick.get_single_node()
    loader = getattr(yaml, name)(text)
    return loader, loader.get_single_node()


def _is_shallow(text: str | bytes) -> bool:
    """Whether libyaml can make nodes of a text: of very deep ones it overflows the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return False
    return True


def _measured(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node expands to, and how deeply they are nested; visits each node once."""
    if id(node) in known:
        return known[id(node)]
    if node.tag == INT and len(node.value) > LONGEST:
        raise ValueError(f"a number of {len(node.value):,} digits: at most {LONGEST}")
    known[id(node)] = MOST_VALUES + 1, DEEPEST + 1  # for an alias within itself, which never ends
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    inner = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
    measures = [_measured(part, known) for part in inner]
    size = 1 + sum(size for size, _ in measures)
    depth = 1 + max((depth for _, depth in measures), default=0)
    known[id(node)] = min(size, MOST_VALUES + 1), min(depth, DEEPEST + 1)
    return known[id(node)]


def _refuse_doubled(node: yaml.Node, seen: set[int]) -> None:
    """See that no mapping has a key twice; visits each node once."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    keys: dict[str, int] = {}
    for part in node.value:
        if not isinstance(part, tuple):
            _refuse_doubled(part, seen)
            continue
        key, value = part
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            line = key.start_mark.line + 1
            if key.value in keys:
                raise ValueError(
                    f"'{key.value}' stands twice, in lines {keys[key.value]} and {line}: "
                    "leave one out"
                )
            keys[key.value] = line
        _refuse_doubled(value, seen)
