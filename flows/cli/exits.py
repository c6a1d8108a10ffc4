"""What becomes of a command that does not end well: an exit code and one line."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from cyclopts import CycloptsError

from flows.cli.commands import READ_ONLY, app
from sclip_core.config import UserError, printable, refused_by_system
from sclip_core.store.files import FULL

# Of files that are written the store says where; what remains is the stream that we print to.
NO_OUTPUT = FULL | {errno.EBADF, errno.EIO}


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see ``flows.cli.main``.

    Returns:
        The exit code.
    """
    try:
        code = int(app(arguments, exit_on_error=False, print_error=False) or 0)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _mistake(str(error))
    except CycloptsError as error:
        return _mistake(f"{' '.join(str(error).split())} See `sclip --help`.")
    except BrokenPipeError:  # `sclip query ... | head`: who reads has had enough
        _to_nowhere(sys.stdout)
        words = sys.argv[1:] if arguments is None else arguments
        if words[:1] and words[0] in READ_ONLY:
            return 0
        _say("stopped, as nobody reads on; what was computed is kept")
        return 1
    except OSError as error:
        return _refused_by_the_system(error)
    except Exception as error:
        return _out_of_memory() if refused_by_system(error) else _fault()


def _refused_by_the_system(error: OSError) -> int:
    """Say in one line what the system refused: output, or a file that nobody expected to fail."""
    if error.filename is None and error.errno in NO_OUTPUT:
        _to_nowhere(sys.stdout)
        _say(f"the output cannot be written: {error.strerror}")
        return 1
    # What is not there was there before: that is for us to find, as are faults without a file.
    if error.filename is None or isinstance(error, FileNotFoundError):
        return _fault()
    return _mistake(f"{error.filename}: {error.strerror}; mend that and run again")


def _out_of_memory() -> int:
    """Say what takes less memory."""
    return _mistake(
        "not enough memory; what was computed is kept: end other programs, or pass --batch-size 1, "
        "--workers 0 or a smaller --short-side, and run again"
    )


def _to_nowhere(stream: TextIO) -> None:
    """Let what a stream still holds vanish at exit, not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fault() -> int:
    """Show a fault of the program."""
    with suppress(OSError):
        traceback.print_exc()
    _say("this is a fault of ours, see above; no artifact is lost")
    return 1


def _mistake(line: str) -> int:
    """Say what the user can mend, in one line."""
    _say(line)
    return 2


def _say(line: str) -> None:
    with suppress(OSError):  # /dev/full
        print(f"sclip: {printable(line)}", file=sys.stderr)
