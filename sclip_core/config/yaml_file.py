"""Reading YAML that may come from anywhere: plain values only, and no more of them than it seems.

A few lines of aliases stand for billions of values, which PyYAML does not make, but whoever prints
or flattens them does; merge keys (``<<``) PyYAML itself multiplies. Both are counted before
anything is made of them.
"""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 100_000  # of a file, with what its aliases stand for
DEEPEST = 100  # values in values
INT = "tag:yaml.org,2002:int"
LONGEST = 400  # characters of a whole number; Python refuses to print one of 4,300 digits


def load_yaml(text: str | bytes) -> Any:
    """The one document in a text, as ``yaml.safe_load`` gives it: no tag is ever executed.

    Raises:
        ValueError: no YAML, a tag that is none of YAML's own, aliases that stand for too much, or
            a number of too many digits.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        size, depth = _measured(node, {})
        if size > MOST_VALUES or depth > DEEPEST:
            raise ValueError(
                f"its aliases stand for more than {MOST_VALUES:,} values, or {DEEPEST} within "
                "each other: write it without"
            )
        return loader.construct_document(node)
    except Exception as error:  # PyYAML's constructors raise a dozen kinds, of "!!bool x" KeyError
        kind = "" if isinstance(error, yaml.YAMLError | ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{kind}{' '.join(str(error).split())}") from None


def _measured(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, and how deep they are; each node is looked at once."""
    if id(node) in known:
        return known[id(node)]
    if node.tag == INT and len(node.value) > LONGEST:
        raise ValueError(f"a number of {len(node.value):,} digits: at most {LONGEST}")
    known[id(node)] = MOST_VALUES + 1, DEEPEST + 1  # for an alias within itself, that has no end
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    inner = [part for pair in parts for part in (pair if isinstance(pair, tuple) else (pair,))]
    measures = [_measured(part, known) for part in inner]
    size = 1 + sum(size for size, _ in measures)
    depth = 1 + max((depth for _, depth in measures), default=0)
    known[id(node)] = min(size, MOST_VALUES + 1), min(depth, DEEPEST + 1)
    return known[id(node)]
