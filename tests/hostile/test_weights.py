"""Weights from anywhere: one line, nothing executed, little memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from sclip_core import SCLIP
from sclip_core.config import UserError
from sclip_core.tensors import read_state
from tests.conftest import TINY

MEMORY = 300  # megabytes that a refusal may take, the reader's own libraries included


class Shell:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def with_header(length: int, header: bytes = b"{}") -> bytes:
    return struct.pack("<Q", length) + header


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return with_header(len(text), text) + data


def tensor(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"w": {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}}


HEADERS = {
    "2**63": with_header(2**63),
    "2**64-1": with_header(2**64 - 1),
    "2**40": with_header(2**40),
    "nothing": b"",
    "shorter": with_header(400),
    "no JSON": with_header(9, b"{" * 9),
    "deep": with_header(50_000, b'{"a":' * 10_000),
    "huge tensor": safetensors(tensor([2**40], 0, 2**42)),
    "overflow": safetensors(tensor([2**62, 4], 0, 0)),
    "backwards": safetensors(tensor([1], 4, 0), bytes(4)),
    "not in the file": safetensors(tensor([1], 2**40, 2**40 + 4), bytes(4)),
}


def refused(path: Path) -> str:
    """The line with which a file is refused."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError) as found:
        read_state(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY * 1024
    line = str(found.value)
    assert line.isprintable()
    assert len(line) < 1000
    assert path.name in line
    return line


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_safetensors(tmp_path, name):
    path = tmp_path / "w.safetensors"
    path.write_bytes(HEADERS[name])
    refused(path)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("written", ["pickle", "torch", "legacy", "script"])
def test_pickled_code(tmp_path, ending, written):
    made, path = tmp_path / "made", tmp_path / f"w{ending}"
    if written == "pickle":
        path.write_bytes(pickle.dumps({"w": Shell(made)}))
    elif written == "script":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("w/constants.pkl", pickle.dumps(Shell(made)))
            archive.writestr("w/data.pkl", pickle.dumps(Shell(made)))
            archive.writestr("w/version", "3\n")
    else:
        torch.save({"w": Shell(made)}, path, _use_new_zipfile_serialization=written == "torch")
    refused(path)
    assert not made.exists()


def zip_bomb(member: str, megabytes: int = 600) -> bytes:
    """An archive whose member is zeros, which deflate makes a thousandth of."""
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if member != "w/data.pkl":
            archive.writestr("w/data.pkl", pickle.dumps({}, 2))
        archive.writestr("w/version", "3\n")
        with archive.open(member, "w", force_zip64=True) as file:
            block = bytes(10_000_000)
            for _ in range(megabytes // 10):
                file.write(block)
    return into.getvalue()


@pytest.mark.parametrize("member", ["w/data.pkl", "w/data/0", "w/constants.pkl"])
def test_zip_bombs(tmp_path, member):
    path = tmp_path / "w.pt"
    path.write_bytes(zip_bomb(member))
    refused(path)


def test_tensors_that_share_a_byte(tmp_path):
    """A state_dict of a few bytes with a tensor of terabytes, all of them the same number."""
    path = tmp_path / "w.pt"
    torch.save({"w": torch.zeros(1).expand(2**40)}, path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"w\.pt"):
        SCLIP.load(**{**TINY, "pretrained": str(path)}, device="cpu")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY * 1024


@pytest.mark.parametrize("key", ["visual.proj", "positional_embedding"])
def test_a_tensor_of_the_model_that_shares_a_byte(tmp_path, key):
    state = dict(read_state(Path(TINY["pretrained"])))
    state[key] = torch.zeros(1).expand(2**40)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt holds another architecture"):
        SCLIP.load(**{**TINY, "pretrained": str(tmp_path / "w.pt")}, device="cpu")
