"""The files in a zip or tar, one after the other; a damaged archive is refused."""

from __future__ import annotations

import functools
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from sclip_core.acquire import AGAIN, SILENT, Progress
from sclip_core.config import UserError

CHUNK = 2**20  # bytes
DAMAGED = (
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
    """A file in an archive."""

    name: str
    size: int  # bytes
    end: int  # where it ends in the archive, in bytes
    fault: str | None  # why it is not to be unpacked
    open: Callable[[], IO[bytes] | None]


def members(path: Path, progress: Progress = SILENT) -> Generator[Member]:
    """The files in a zip or tar, told apart by content, in the order of their bytes.

    Args:
        path: the archive.
        progress: shows how much of the archive has been read, in bytes.

    Raises:
        UserError: it is damaged, or neither zip nor tar.
    """
    with _reading(path):
        with open(path, "rb") as file:
            zipped = file.read(4) in (b"PK\3\4", b"PK\5\6")  # the latter: an empty one
        read, size = 0, path.stat().st_size
        progress.start(path.name, size, 0)
        try:
            for member in _of_zip(path) if zipped else _of_tar(path):
                yield member
                here = max(read, min(member.end, size))  # of a compressed tar, end is beyond
                progress.advance(here - read)
                read = here
        finally:
            progress.finish()


def chunks(path: Path, member: Member) -> Iterator[bytes]:
    """The content of a member; a fault of the archive is not mistaken for one of the disk.

    Raises:
        UserError: the archive is damaged.
    """
    with _reading(path):
        stream = member.open()
        while stream and (chunk := stream.read(CHUNK)):
            yield chunk


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what readers raise for a damaged archive into one line."""
    try:
        yield
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(":")
        raise UserError(
            f"{path} cannot be unpacked ({reason}): it is damaged, or no zip or tar; remove it, "
            f"then {AGAIN}"
        ) from None


def _of_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as file:
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
            yield Member(info.filename.removeprefix("./"), info.file_size, end, fault, content)


def _of_tar(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as file:
        for info in file:
            if info.isdir():
                continue
            fault = None if info.isreg() else "is a link or device"
            end = info.offset_data + info.size
            content = functools.partial(file.extractfile, info)
            yield Member(info.name.removeprefix("./"), info.size, end, fault, content)
        stream: Any = file.fileobj
        stream.seek(file.offset)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile does not look
            raise tarfile.ReadError("its end is missing")
        while stream.read(CHUNK):  # padding; at its end a .gz compares its CRC
            pass
