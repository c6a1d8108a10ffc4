"""The files in an archive, zip or tar, one after the other; what is torn is refused."""

from __future__ import annotations

import functools
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from sclip_core.acquire.progress import AGAIN, Progress
from sclip_core.config import UserError

CHUNK = 2**20  # bytes
TORN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    OSError,
    ValueError,
)


class Member(NamedTuple):
    """A file in an archive, zip or tar."""

    name: str
    size: int  # bytes
    end: int  # byte of the archive
    fault: str | None  # why it is not to be unpacked
    crc: int | None
    open: Callable[[], IO[bytes] | None]


@contextmanager
def opened(path: Path) -> Iterator[Iterator[Member]]:
    """The members of a zip or tar, in the order of their bytes."""
    with ExitStack() as stack:
        with _reading(path):
            with open(path, "rb") as file:
                zipped = file.read(4) in (b"PK\3\4", b"PK\5\6")  # the latter: an empty one
            if zipped:
                members = _of_zip(stack.enter_context(zipfile.ZipFile(path)))
            else:
                members = _of_tar(stack.enter_context(tarfile.open(path)))
        yield members


def followed(path: Path, members: Iterator[Member], progress: Progress | None) -> Iterator[Member]:
    """The members, while progress is told how far in the archive they are."""
    last, size = 0, path.stat().st_size
    while True:
        with _reading(path):
            member = next(members, None)
        if member is None:
            return
        yield member
        here = max(last, min(member.end, size))  # of a compressed tar, end is not in its file
        if progress:
            progress.advance(here - last)
        last = here


def chunks(path: Path, member: Member) -> Iterator[bytes]:
    """A member's content; what is wrong with the archive is not taken for the disk's fault."""
    with _reading(path):
        stream = member.open()
    while stream:
        with _reading(path):
            chunk = stream.read(CHUNK)
        if not chunk:
            return stream.close()
        yield chunk


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Around what reads the archive: each of the ways to be torn becomes one line."""
    try:
        yield
    except TORN as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(":")
        raise UserError(
            f"{path} cannot be unpacked ({reason}): it is torn, or no zip or tar; remove it, "
            f"then {AGAIN}"
        ) from None


def _of_zip(file: zipfile.ZipFile) -> Iterator[Member]:
    for info in sorted(file.infolist(), key=lambda i: i.header_offset):
        if info.is_dir():
            continue
        fault = None
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            fault = "is a link or device"
        elif info.flag_bits & 1:
            fault = "is encrypted"
        end = info.header_offset + info.compress_size
        content = functools.partial(file.open, info)
        name = info.filename.removeprefix("./")
        yield Member(name, info.file_size, end, fault, info.CRC, content)


def _of_tar(file: tarfile.TarFile) -> Iterator[Member]:
    for info in file:
        if info.isdir():
            continue
        fault = None if info.isreg() else "is a link or device"
        content = functools.partial(file.extractfile, info)
        name = info.name.removeprefix("./")
        yield Member(name, info.size, info.offset_data + info.size, fault, None, content)
    stream: Any = file.fileobj
    stream.seek(file.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile would stop in silence
        raise tarfile.ReadError("its end is missing")
    while stream.read(CHUNK):  # padding; at its end a .gz compares its CRC
        pass
