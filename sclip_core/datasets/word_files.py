"""Files of words: read as text, and told apart by a digest of the words that they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sclip_core.config import UserError
from sclip_core.store.keys import canonical_json


def words_sha256(words: Sequence[Sequence[str]], distractors: Sequence[str] = ()) -> str:
    """The digest of the words of each class, in the order of the classes.

    Args:
        words: of each class, as the queries have them.
        distractors: words of no class, which change the digest where there are any.

    Returns:
        The sha256, as hex digits, of JSON without spaces: ``[["cat","kitten"],["grass"]]``.

    >>> words_sha256([["cat", "kitten"], ["grass"]])[:12]
    '11e7e79e6cc3'
    """
    lists: Any = [list(each) for each in words]
    content = {"words": lists, "distractors": list(distractors)} if distractors else lists
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark, any line ends as newlines."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"no vocabulary file at {path}: expected a file with one class a line, "
            "or words, such as 'cat, kitten; grass'"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save the vocabulary as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read the vocabulary {path}: {error.strerror}") from None
