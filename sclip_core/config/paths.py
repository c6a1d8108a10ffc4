"""Paths that a user gives: of this machine's file system, never URLs."""

from __future__ import annotations

import re
from os import PathLike, fspath
from typing import TypeVar

from sclip_core.config.errors import UserError, shown

# Two letters and more, as C:/ is a drive. A path made of a URL has one slash left: s3:/bucket.
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/]|$)")
ADVICE = "this version reads and writes local paths only: pass a local folder or file"
Value = TypeVar("Value")


def is_url(path: str | PathLike[str]) -> bool:
    """Whether a path has a scheme, as ``s3://bucket`` has, and ``exp:1`` and ``hf-hub:a/b`` not.

    A relative path whose first folder is called ``exp:`` looks like one; its absolute path does
    not.
    """
    return URL.match(fspath(path)) is not None


def url_fault(path: str | PathLike[str]) -> str:
    """What is wrong with a URL in place of a path."""
    as_typed = URL.sub(r"\1://", fspath(path), count=1)
    return f"{shown(as_typed)} is a URL; {ADVICE}"


def local(path: Value) -> Value:
    """The same value, if it is not the URL of something elsewhere.

    Args:
        path: text or a path; anything else is for others to check.

    Raises:
        UserError: it is a URL.
    """
    if isinstance(path, str | PathLike) and is_url(path):
        raise UserError(url_fault(path))
    return path
