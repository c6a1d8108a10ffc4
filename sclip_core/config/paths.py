"""Paths that a user gives: paths of the local file system, never URLs."""

from __future__ import annotations

import re
from os import PathLike, fspath
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator

from sclip_core.config.errors import UserError, shown

# Two letters and more, as C:/ is a drive. A path made of a URL has one slash left: s3:/bucket.
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/]|$)")
ADVICE = "this version reads and writes local paths only: pass a local folder or file"
Value = TypeVar("Value")


def is_url(path: str | PathLike[str]) -> bool:
    """Whether a path has a scheme: ``s3://bucket`` has one, ``exp:1`` and ``hf-hub:a/b`` have not.

    A relative path whose first folder is called ``exp:`` is taken for a URL; its absolute path is
    not.
    """
    return URL.match(fspath(path)) is not None


def url_fault(path: str | PathLike[str]) -> str:
    """The message for a URL where a path is expected."""
    as_typed = URL.sub(r"\1://", fspath(path), count=1)
    return f"{shown(as_typed)} is a URL; {ADVICE}"


def local(path: Value) -> Value:
    """The value itself, unless it is a URL.

    Args:
        path: text or a path; any other value is returned unchecked.

    Raises:
        UserError: it is a URL.
    """
    if isinstance(path, str | PathLike) and is_url(path):
        raise UserError(url_fault(path))
    return path


def _listed(value: Any) -> Any:
    """One path, or several with commas between them."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, Path) else value


def no_url(value: Any) -> Any:
    """Refuse a URL: it would become a local folder of that name."""
    if isinstance(value, str | Path) and is_url(value):
        raise ValueError(f"is a URL; {ADVICE}")
    return value


HomePath = Annotated[
    Path, BeforeValidator(no_url), AfterValidator(lambda path: Path(expanduser(path)))
]
Paths = Annotated[tuple[HomePath, ...], BeforeValidator(_listed)]
