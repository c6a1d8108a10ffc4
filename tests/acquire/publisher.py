"""A publisher's archives of the miniature sets, on a web server on this machine."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sclip_core.acquire import obtain as obtain_module
from sclip_core.acquire.sources import Archive, Source, source_of

from . import trees
from .trees import CITYSCAPES, COCO, CONTEXT, SETS, VOC


class Publisher:
    """Archives of the miniature sets in a folder that is served."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.url = ""

    def zip(self, name: str, members: dict[str, Path]) -> None:
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            for member, path in members.items():
                archive.write(path, member)

    def tar(self, name: str, members: dict[str, Path]) -> None:
        with tarfile.open(self.folder / name, "w") as archive:
            for member, path in members.items():
                archive.add(path, member)
            readme = tarfile.TarInfo("VOCdevkit/README")  # not needed
            archive.addfile(readme, io.BytesIO())


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """All sets' archives as published, but small; what needs a login is not served."""
    drawn, folder = tmp_path / "drawn", tmp_path / "published"
    folder.mkdir()
    for name in ("voc21", "coco_stuff", "ade20k", "cityscapes", "context60"):
        SETS[name][0](drawn)
    trees.coco_instances(drawn)
    site = Publisher(folder)

    def below(where: Path, prefix: str, pattern: str = "*") -> dict[str, Path]:
        paths = [p for p in where.rglob(pattern) if p.is_file()]
        return {f"{prefix}{p.relative_to(where).as_posix()}": p for p in paths}

    coco, cities = drawn / COCO, drawn / CITYSCAPES
    site.tar("VOCtrainval_11-May-2012.tar", below(drawn / VOC, "VOCdevkit/VOC2012/"))
    site.tar("VOCtrainval_03-May-2010.tar", below(drawn / CONTEXT, "VOCdevkit/VOC2010/", "*.jpg"))
    site.zip("val2017.zip", below(coco / "images/val2017", "val2017/"))
    stuff = below(coco / "annotations/val2017", "val2017/")
    training = {"train2017/000000000009.png": next(iter(stuff.values()))}
    site.zip("stuffthingmaps_trainval2017.zip", {**stuff, **training})
    site.zip(
        "annotations_trainval2017.zip",
        {"annotations/instances_val2017.json": coco / "annotations/instances_val2017.json"},
    )
    site.zip("ADEChallengeData2016.zip", below(drawn / trees.ADE, "ADEChallengeData2016/"))
    by_hand = tmp_path / "by hand"
    by_hand.mkdir()
    (by_hand / "trainval_merged.json").write_bytes(
        (drawn / CONTEXT / "trainval_merged.json").read_bytes()
    )
    site.folder = by_hand
    site.zip("leftImg8bit_trainvaltest.zip", below(cities / "leftImg8bit", "leftImg8bit/"))
    site.zip("gtFine_trainvaltest.zip", below(cities / "gtFine", "gtFine/"))

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            site.asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    site.url = f"http://127.0.0.1:{server.server_port}"

    def small(archive: Archive) -> Archive:
        url = archive.url and f"{site.url}/{archive.name}"
        return replace(archive, url=url, checksum=None, bytes=None)

    def small_source(name: str) -> Source:
        found = source_of(name)
        others = {key: tuple(map(small, value)) for key, value in found.others.items()}
        return replace(found, archives=tuple(map(small, found.archives)), others=others)

    monkeypatch.setattr(obtain_module, "source_of", small_source)
    monkeypatch.delenv(obtain_module.MIRROR, raising=False)
    yield site
    server.shutdown()
    server.server_close()
