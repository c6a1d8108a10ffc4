"""How the command ends: its exit code and, where something went wrong, one line on why."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress

from cyclopts import CoercionError, CycloptsError, UnusedCliTokensError

from flows.cli.commands import READ_ONLY, app
from sclip_core.config.errors import (
    UserError,
    WorkerLostError,
    printable,
    refused_by_system,
    shown,
)
from sclip_core.config.own_code import called_from_us, said
from sclip_core.store.files import FULL

# Of files that are written the store says where; what remains is the stream that we print to.
NO_OUTPUT = FULL | {errno.EBADF, errno.EIO}
# Switches, and the settings that take what people write after them.
SWITCHES = {
    **dict.fromkeys(("--pamr", "--use-pamr"), "--pamr-steps"),
    **dict.fromkeys(("--slide", "--slide-inference"), "--slide-crop"),
    "--use-sam": "--sam-model",
}
NO_MEMORY = (
    "not enough memory; what was computed is kept: close other programs, or pass --batch-size 1, "
    "--workers 0 or a smaller --short-side, and run again"
)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see ``flows.cli.main``.

    Returns:
        The exit code: 0 done, 2 a mistake of the user's, 1 anything else.
    """
    try:
        code = int(app(arguments, exit_on_error=False, print_error=False) or 0)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _end(1 if isinstance(error, WorkerLostError) else 2, str(error))
    except CycloptsError as error:
        words = sys.argv[1:] if arguments is None else arguments
        return _end(2, f"{_as_typed(error, words)} See `sclip --help`.")
    except BrokenPipeError:  # `sclip query ... | head`: the reader has had enough
        _discard_output()
        words = sys.argv[1:] if arguments is None else arguments
        if words[:1] and words[0] in READ_ONLY:
            return 0
        return _end(1, "output pipe closed; what was computed is kept")
    except OSError as error:
        if error.filename is None and error.errno in NO_OUTPUT:
            _discard_output()
            return _end(1, f"the output cannot be written: {error.strerror}")
        # A file that is missing was there before: that is a bug, as are errors without a file.
        if error.filename is None or isinstance(error, FileNotFoundError):
            return _fault(error)
        return _end(2, f"{error.filename}: {error.strerror}; fix that and run again")
    except Exception as error:
        return _end(2, NO_MEMORY) if refused_by_system(error) else _fault(error)


def _as_typed(error: CycloptsError, words: Sequence[str]) -> str:
    """What is wrong with the words of a command; of a switch with a value, what takes the value."""
    for flag, value in _flags_with_values(words):
        unused = isinstance(error, UnusedCliTokensError) and value in (error.unused_tokens or ())
        if unused or (isinstance(error, CoercionError) and flag in SWITCHES):
            setting = SWITCHES.get(flag)
            meant = f": did you mean {setting} {value}?" if setting else ": leave it out."
            return f"{flag} takes no value, found {shown(value)}{meant}"
    return " ".join(str(error).split())


def _flags_with_values(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each long flag with what stands after it, in ``--flag value`` and ``--flag=value``."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, _, value = word.partition("=")
        if flag.startswith("--") and (value or after):
            yield flag, value or after


def _discard_output() -> None:
    """Let what standard output still holds vanish at exit, instead of failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fault(error: Exception) -> int:
    """End for an error that nothing foresaw: of the user's own code, or a fault of ours."""
    place = called_from_us(error)
    if place:
        file, line = place
        return _end(2, f"{file}, line {line}: {said(error)}; mend it: what was computed is kept")
    with suppress(OSError):
        traceback.print_exc()
    return _end(1, "internal error, see above; please report it; no artifact is lost")


def _end(code: int, line: str) -> int:
    with suppress(OSError):  # /dev/full
        print(f"sclip: {printable(line)}", file=sys.stderr)
    return code
