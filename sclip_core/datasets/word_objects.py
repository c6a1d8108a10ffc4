"""Classes in JSON and YAML: lists of names, lists of records, objects by number or by name."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sclip_core.config import UserError
from sclip_core.config.errors import shown
from sclip_core.config.yaml_file import load_yaml

SEPARATOR = ", "
NOT_STRUCTURED = object()
KEYS = ("names", "classes", "categories", "class_names", "labels", "id2label", "thing_classes")
NAMES = ("name", "class_name", "label", "class", "category", "title", "readable")
NUMBERS = ("id", "value", "index", "class_id", "category_id", "label_id")
WORDS = ("synonyms", "words", "aliases")
YAML_LINE = re.compile(rf"(?:{'|'.join(KEYS)})\s*:\s*(?:[\[{{].*)?$")

ASSIGNED = re.compile(
    r"^(?:(?:const|let|var)\s+)?\w+\s*(?::[^=\n]+)?=\s*(?=[\[({])"
)  # ``CLASSES = (``
TUPLE = re.compile(r"\(\s*['\"\[(].*\)$", re.DOTALL)  # as Python prints it

Numbered = list[tuple[list[str], int | None]]


def loaded(text: str, suffix: str) -> Any:
    """What a text in JSON or YAML holds; ``NOT_STRUCTURED`` for one in lines.

    Raises:
        UserError: the file's name says JSON or YAML, and it is not.
    """
    stripped = ASSIGNED.sub("", text.strip()).rstrip(",;")
    is_tuple = TUPLE.match(stripped) is not None
    if suffix == ".json" or stripped[:1] in ("[", "{") or is_tuple:
        try:
            return json.loads(stripped)
        except (ValueError, RecursionError) as error:
            fault = f"is not valid JSON: {' '.join(str(error).split())}"
        try:  # as Python prints a list
            return ast.literal_eval(stripped)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
        if suffix == ".json":
            raise UserError(fault)
        return _in_brackets(stripped)
    first = next((line for line in text.split("\n") if line.strip()[:1] not in ("", "#")), "")
    if suffix in (".yaml", ".yml") or YAML_LINE.match(first):
        try:
            return load_yaml(text)
        except ValueError as error:
            if suffix:
                raise UserError(f"is not valid YAML: {' '.join(str(error).split())}") from None
    return NOT_STRUCTURED


def _in_brackets(text: str) -> Any:
    """A list without quotes, ``[sky, road]``, as YAML has it; ``NOT_STRUCTURED`` for others."""
    if text[:1] == "[" and text[-1:] == "]" and text.count("[") == 1:
        with suppress(ValueError):
            return load_yaml(text)
    return NOT_STRUCTURED


def entries_of(found: Any) -> tuple[str, Numbered]:
    """The words of each class and its number, and what they were read from.

    Raises:
        UserError: it is no list of classes, or could be read in two ways.
    """
    if isinstance(found, Mapping):
        keys = [key for key in KEYS if isinstance(found.get(key), list | tuple | Mapping)]
        if len(keys) > 1:
            raise UserError(f"has both '{keys[0]}' and '{keys[1]}': leave the classes in one")
        if keys:
            said, entries = entries_of(found[keys[0]])
            return f"'{keys[0]}', {said}", entries
        return _of_mapping(found)
    if not isinstance(found, list | tuple) or not found:
        raise UserError(f"expected a list of classes, found {shown(found)}")
    if all(isinstance(one, Mapping) for one in found):
        return _of_records(found)
    entries = [(_words(one, f"entry {k}"), None) for k, one in enumerate(found, 1)]
    return f"a list of {len(found)}: entry k is label k-1", entries


def _words(one: Any, place: str) -> list[str]:
    """The words of one class: a text, in which ``", "`` separates them, or a list."""
    several = one.split(SEPARATOR) if isinstance(one, str) else one
    if not isinstance(several, list | tuple) or not all(isinstance(w, str) for w in several):
        raise UserError(f"{place}: expected a word or a list of words, found {shown(one)}")
    return list(several)


def _of_mapping(found: Mapping[Any, Any]) -> tuple[str, Numbered]:
    """Classes by number, ``{"0": "sky"}``, or numbers by class, ``{"sky": 0}``."""
    if found and all(_number(key) is not None for key in found):
        entries = [(_words(words, f"class {n}"), _number(n)) for n, words in found.items()]
        return _in_order("an object: its numbers are the values in the label maps", entries)
    if found and all(_number(value) is not None for value in found.values()):
        entries = [(_words(words, f"class {n}"), _number(n)) for words, n in found.items()]
        return _in_order("an object: its numbers are the values in the label maps", entries)
    raise UserError(
        f"expected a list of classes, an object such as {{'0': 'sky'}}, or one with the classes "
        f"under one of {', '.join(KEYS)}; found {shown(dict(found))}"
    )


def _of_records(found: Any) -> tuple[str, Numbered]:
    """Classes of records such as ``{"id": 0, "name": "sky"}``."""
    name = next((key for key in NAMES if all(key in one for one in found)), None)
    if name is None:
        raise UserError(f"expected records with a 'name', found {shown(dict(found[0]))}")
    number = next((key for key in NUMBERS if all(key in one for one in found)), None)
    entries: Numbered = []
    for k, one in enumerate(found, 1):
        words = _words(one[name], f"entry {k}")
        for key in WORDS:
            more = _words(one[key], f"entry {k}") if key in one else []
            words += [word for word in more if word not in words]
        value = _number(one[number]) if number else None
        if number and value is None:
            raise UserError(f"entry {k}: expected a number in '{number}', found {one[number]!r}")
        entries.append((words, value))
    if number is None:
        return f"{len(found)} records: record k is label k-1", entries
    return _in_order(f"records: their '{number}' is the value in the label maps", entries)


def _in_order(said: str, entries: Numbered) -> tuple[str, Numbered]:
    """The entries in the order of their numbers, which all differ."""
    numbers = [number or 0 for _, number in entries]
    twice = next((n for n in numbers if numbers.count(n) > 1), None)
    if twice is not None:
        raise UserError(f"two classes have the number {twice}: give each one of its own")
    return said, sorted(entries, key=lambda entry: entry[1] or 0)


def _number(value: Any) -> int | None:
    """A value that is a number from 0, as a number or as text."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
