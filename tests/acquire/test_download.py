"""Downloads, from a real server on this machine that cuts, lies and forgets."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import resource
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from sclip_core import UserError
from sclip_core.acquire import transfer
from sclip_core.acquire.download import ByHand, fetch
from sclip_core.acquire.sources import Archive
from sclip_core.store.files import DiskError

from .server import DATE, Site, serving

CONTENT = random.Random(0).randbytes(3_000_000)
OTHER = random.Random(1).randbytes(3_000_000)
CUT = 1_200_000


def md5(content: bytes) -> str:
    return "md5:" + hashlib.md5(content).hexdigest()


class Told:
    """A progress that remembers; it can interrupt like Ctrl-C."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.started: list[tuple[str, int | None, int]] = []
        self.done = self.finished = 0
        self.interrupt_at = interrupt_at

    def start(self, name: str, total: int | None, done: int) -> None:
        self.started.append((name, total, done))
        self.done = done

    def advance(self, count: int) -> None:
        self.done += count
        if self.interrupt_at is not None and self.done >= self.interrupt_at:
            raise KeyboardInterrupt

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses, and no proxy between this machine and itself."""
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def site():
    with serving(Site(CONTENT)) as site:
        yield site


@pytest.fixture
def archive(site):
    return Archive("file.zip", url=site.url, checksum=md5(CONTENT), bytes=len(CONTENT))


@pytest.fixture
def unchecked(site):
    """One of which neither checksum nor size is known."""
    return Archive("file.zip", url=site.url, about="3 MB")


def refusal(*arguments, kind: type[UserError] = UserError, **keywords) -> str:
    """The line with which a download is refused."""
    with pytest.raises(kind) as error:
        fetch(*arguments, **keywords)
    line = str(error.value)
    assert "\n" not in line
    return line


def part(folder: Path) -> int:
    """Bytes that wait for the next start."""
    return (folder / "file.zip.part").stat().st_size


def names(folder: Path) -> set[str]:
    """What is there, but for the lock's file, of which it may leave the name behind."""
    return {path.name for path in folder.iterdir()} - {"file.zip.lock"}


def assert_whole(folder: Path, content: bytes = CONTENT) -> None:
    assert (folder / "file.zip").read_bytes() == content
    assert names(folder) == {"file.zip", "file.zip.verified.json"}


class TestPlain:
    """Nothing goes wrong."""

    def test_is_fetched(self, site, archive, tmp_path):
        folder = tmp_path / "a" / "b"
        assert fetch(archive, folder) == folder / "file.zip"
        assert_whole(folder)
        assert site.asked_ranges == [None]
        assert site.asked[0]["Accept-Encoding"] == "identity"

    def test_second_start_asks_nothing(self, site, archive, tmp_path):
        fetch(archive, tmp_path)
        fetch(archive, tmp_path)
        assert len(site.asked) == 1

    def test_second_start_reads_nothing(self, archive, tmp_path, monkeypatch):
        fetch(archive, tmp_path)
        monkeypatch.setattr(hashlib, "file_digest", pytest.fail)
        fetch(archive, tmp_path)

    def test_what_was_put_there_is_read_once(self, site, archive, tmp_path, monkeypatch):
        (tmp_path / "file.zip").write_bytes(CONTENT)
        fetch(archive, tmp_path)
        monkeypatch.setattr(hashlib, "file_digest", pytest.fail)
        fetch(archive, tmp_path)
        assert site.asked == []

    def test_what_changed_is_read_again(self, archive, tmp_path):
        fetch(archive, tmp_path)
        (tmp_path / "file.zip").write_bytes(OTHER)
        assert "is not the published file" in refusal(archive, tmp_path)

    @pytest.mark.parametrize("length", [True, False])
    def test_of_unknown_size_and_checksum(self, site, unchecked, tmp_path, length):
        site.length = length
        fetch(unchecked, tmp_path)
        fetch(unchecked, tmp_path)
        assert_whole(tmp_path)
        assert len(site.asked) == 1

    def test_is_quiet(self, unchecked, tmp_path, caplog, capsys):
        caplog.set_level(logging.INFO)
        fetch(unchecked, tmp_path)
        assert caplog.text == ""
        assert capsys.readouterr() == ("", "")

    def test_progress(self, archive, tmp_path):
        told = Told()
        fetch(archive, tmp_path, told)
        assert told.started[-1] == ("file.zip", len(CONTENT), 0)
        assert (told.done, told.finished) == (len(CONTENT), 1)

    def test_without_requests(self, archive, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "requests", None)
        assert "pip install 'sclip-benchmark[data]'" in refusal(archive, tmp_path)


class TestCuts:
    """The connection breaks."""

    def test_goes_on_where_it_was_cut(self, site, archive, tmp_path):
        site.cuts = [CUT]
        told = Told()
        fetch(archive, tmp_path, told)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, f"bytes={CUT}-"]
        assert site.asked[1]["If-Range"] == '"one"'
        assert told.started[-1] == ("file.zip", len(CONTENT), CUT)
        assert (told.done, told.finished) == (len(CONTENT), 1)

    def test_several_times(self, site, archive, tmp_path):
        site.cuts = [CUT, 0, 500_000, 7]
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        starts = [CUT, CUT, CUT + 500_000, CUT + 500_007]
        assert site.asked_ranges == [None, *(f"bytes={start}-" for start in starts)]

    def test_gives_up_and_goes_on_at_the_next_start(self, site, archive, tmp_path):
        site.cuts = [CUT, 0]
        line = refusal(archive, tmp_path, tries=2)
        assert site.url in line
        assert "what was fetched is kept: run this command again" in line
        assert part(tmp_path) == CUT
        assert not (tmp_path / "file.zip").exists()
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges[-1] == f"bytes={CUT}-"

    def test_tries_are_counted_in_a_row(self, site, archive, tmp_path, monkeypatch):
        monkeypatch.setattr(transfer, "GAIN", 200_000)
        site.cuts = [200_000] * 9
        fetch(archive, tmp_path, tries=2)
        assert_whole(tmp_path)
        assert len(site.asked) == 10

    def test_a_server_that_always_cuts_at_one_place(self, site, archive, tmp_path, monkeypatch):
        monkeypatch.setattr(transfer, "GAIN", CUT)
        site.ranges, site.cuts = False, [CUT] * 99
        refusal(archive, tmp_path, tries=4)
        assert len(site.asked) == 4

    def test_server_without_ranges(self, site, archive, tmp_path):
        site.ranges, site.cuts = False, [CUT]
        told = Told()
        fetch(archive, tmp_path, told)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, f"bytes={CUT}-"]
        assert told.done == len(CONTENT)

    def test_of_unknown_length(self, site, archive, tmp_path):
        site.length, site.cuts = False, [CUT]
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, f"bytes={CUT}-"]

    def test_by_date_where_the_etag_is_weak(self, site, archive, tmp_path):
        site.etag, site.modified, site.cuts = 'W/"one"', DATE, [CUT]
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked[1]["If-Range"] == DATE

    def test_nothing_tells_versions_apart_but_the_checksum(self, site, archive, tmp_path):
        site.etag, site.cuts = None, [CUT]
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, f"bytes={CUT}-"]
        assert "If-Range" not in site.asked[1]

    def test_nothing_tells_versions_apart(self, site, unchecked, tmp_path):
        site.etag, site.cuts = None, [CUT]
        fetch(unchecked, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, None]

    def test_ctrl_c_and_on(self, site, archive, tmp_path):
        told = Told(interrupt_at=CUT)
        with pytest.raises(KeyboardInterrupt):
            fetch(archive, tmp_path, told)
        assert told.finished == 1
        there = part(tmp_path)
        assert CUT <= there < len(CONTENT)
        assert names(tmp_path) == {"file.zip.part", "file.zip.part.json"}
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, f"bytes={there}-"]

    def test_ctrl_c_while_it_is_checked(self, site, archive, tmp_path, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(hashlib, "file_digest", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fetch(archive, tmp_path)
        assert part(tmp_path) == len(CONTENT)
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert len(site.asked) == 1


class TestChanges:
    """The file on the server is not the one that was begun."""

    @pytest.mark.parametrize("if_range", [True, False])
    def test_between_two_tries(self, site, unchecked, tmp_path, if_range):
        site.cuts, site.if_range = [CUT, 0], if_range
        refusal(unchecked, tmp_path, tries=2)
        site.content, site.etag = OTHER, '"two"'
        fetch(unchecked, tmp_path)
        assert_whole(tmp_path, OTHER)
        ranges = [f"bytes={CUT}-"] if if_range else [f"bytes={CUT}-", None]
        assert site.asked_ranges[2:] == ranges

    def test_another_length_under_one_etag(self, site, unchecked, tmp_path):
        site.cuts = [CUT, 0]
        refusal(unchecked, tmp_path, tries=2)
        site.content = OTHER + b"more"
        fetch(unchecked, tmp_path)
        assert_whole(tmp_path, OTHER + b"more")

    def test_another_address(self, site, archive, tmp_path):
        site.cuts = [CUT]
        refusal(archive, tmp_path, tries=1)
        note = tmp_path / "file.zip.part.json"
        note.write_text(json.dumps({**json.loads(note.read_text()), "url": "http://other/"}))
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, None]

    @pytest.mark.parametrize("note", ["{", "[]", "", None])
    def test_part_of_which_nothing_is_known(self, site, archive, tmp_path, note):
        (tmp_path / "file.zip.part").write_bytes(OTHER[:CUT])
        if note is not None:
            (tmp_path / "file.zip.part.json").write_text(note)
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None]

    @pytest.mark.parametrize("told", [True, False])
    def test_part_larger_than_the_file(self, site, archive, tmp_path, told):
        """By its note, or by the server's 416."""
        note = {"url": site.url, "etag": '"one"', "total": len(CONTENT) if told else None}
        (tmp_path / "file.zip.part").write_bytes(CONTENT + b"more")
        (tmp_path / "file.zip.part.json").write_text(json.dumps(note))
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == ([None] if told else [f"bytes={len(CONTENT) + 4}-", None])

    @pytest.mark.parametrize("told", [True, False])
    def test_part_that_is_whole(self, site, archive, tmp_path, told):
        note = {"url": site.url, "etag": '"one"', "total": len(CONTENT) if told else None}
        (tmp_path / "file.zip.part").write_bytes(CONTENT)
        (tmp_path / "file.zip.part.json").write_text(json.dumps(note))
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == ([] if told else [f"bytes={len(CONTENT)}-"])

    def test_wrong_checksum_then_right(self, site, archive, tmp_path):
        site.content = OTHER
        line = refusal(archive, tmp_path)
        assert md5(CONTENT) in line
        assert md5(OTHER).removeprefix("md5:") in line
        assert names(tmp_path) == set()
        site.content = CONTENT
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, None]

    def test_another_size_is_not_fetched(self, site, archive, tmp_path):
        site.content = CONTENT[:-1]
        line = refusal(archive, tmp_path)
        assert "it has 2999999 bytes, 3000000 were expected" in line
        assert names(tmp_path) == set()

    def test_too_short_where_no_length_is_told(self, site, archive, tmp_path):
        site.content, site.length = CONTENT[:-1], False
        line = refusal(archive, tmp_path, tries=1)
        assert "2999999 of 3000000 bytes came" in line

    def test_web_page(self, site, unchecked, tmp_path):
        site.kind = "text/html; charset=utf-8"
        assert "answers with a web page" in refusal(unchecked, tmp_path)


class TestAnswers:
    """Other than the file."""

    @pytest.mark.parametrize("status", [401, 403, 404, 410, 416])
    def test_final(self, site, archive, tmp_path, status):
        site.statuses = [status]
        line = refusal(archive, tmp_path)
        assert f"the server answers {status}" in line
        assert f"fetch it yourself and put it at {tmp_path / 'file.zip'}" in line
        assert len(site.asked) == 1

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_busy(self, site, archive, tmp_path, status):
        site.cuts, site.statuses = [CUT], [0, status, status]
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert len(site.asked) == 4

    def test_busy_for_long(self, site, archive, tmp_path):
        site.statuses = [500] * 9
        assert "the server answers 500" in refusal(archive, tmp_path, tries=3)
        assert len(site.asked) == 3

    def test_nobody_listens(self, tmp_path):
        with serving(Site(CONTENT)) as site:
            pass
        line = refusal(Archive("file.zip", url=site.url), tmp_path)
        assert site.url in line
        assert "Connection refused" in line
        assert f"put it at {tmp_path / 'file.zip'}" in line

    def test_unknown_host(self, tmp_path, monkeypatch):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        url = "http://nowhere.invalid/file.zip"
        line = refusal(Archive("file.zip", url=url), tmp_path)
        assert line.startswith(f"{url} could not be fetched (Failed to resolve 'nowhere.invalid'")

    def test_no_address(self, tmp_path):
        line = refusal(Archive("file.zip", url="nonsense"), tmp_path)
        assert "nonsense could not be fetched (not a usable address: Invalid URL" in line

    def test_network_lost_on_the_way(self, site, archive, tmp_path, monkeypatch):
        """Once the server has answered, it may come back."""
        import requests
        from urllib3.exceptions import MaxRetryError

        real, calls = requests.get, []

        def get(*arguments, **keywords):
            calls.append(1)
            if len(calls) == 2:
                raise requests.ConnectionError(MaxRetryError(None, site.url, OSError("away")))
            return real(*arguments, **keywords)

        monkeypatch.setattr(requests, "get", get)
        site.cuts = [CUT]
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert len(calls) == 3


class TestByHand:
    """What only a person can fetch."""

    ARCHIVE = Archive(
        "gt.zip", page="https://example.org/downloads", why="it needs a login", about="241 MB"
    )

    def test_says_all_that_is_needed(self, tmp_path):
        line = refusal(self.ARCHIVE, tmp_path / "downloads", kind=ByHand)
        assert line == (
            "gt.zip (241 MB) has to be fetched by hand: it needs a login. Fetch it from "
            f"https://example.org/downloads, put it at {tmp_path / 'downloads' / 'gt.zip'}, "
            "then run this command again"
        )

    def test_is_taken_where_it_is(self, tmp_path):
        (tmp_path / "gt.zip").write_bytes(b"it")
        assert fetch(self.ARCHIVE, tmp_path) == tmp_path / "gt.zip"

    def test_is_checked(self, tmp_path):
        archive = Archive("gt.zip", page="p", checksum=md5(b"right"), bytes=5)
        path = tmp_path / "gt.zip"
        path.write_bytes(b"righ")
        line = refusal(archive, tmp_path)
        assert line == (
            f"{path} is not the published file (it has 4 bytes, 5 were expected): remove it, "
            "then run this command again"
        )
        path.write_bytes(b"wrong")
        line = refusal(archive, tmp_path)
        assert f"its md5 is {md5(b'wrong')[4:]}, {md5(b'right')[4:]} was expected" in line
        path.write_bytes(b"right")
        fetch(archive, tmp_path)

    def test_empty_or_a_folder(self, tmp_path):
        (tmp_path / "gt.zip").touch()
        assert "it has 0 bytes" in refusal(self.ARCHIVE, tmp_path)
        (tmp_path / "gt.zip").unlink()
        (tmp_path / "gt.zip").mkdir()
        assert "is not a file" in refusal(self.ARCHIVE, tmp_path)


class TestDisk:
    """The disk, and who else writes to it."""

    def test_full(self, archive, tmp_path):
        (tmp_path / "file.zip.part").symlink_to("/dev/full")
        line = refusal(archive, tmp_path, kind=DiskError)
        assert "No space left on device" in line
        assert "free some space: what was fetched is kept, run this command again" in line

    def test_full_on_the_way(self, site, archive, tmp_path):
        """A limit on the size of files stands in for a disk that is full after so many bytes."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, hard))
        try:
            refusal(archive, tmp_path, kind=DiskError)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert part(tmp_path) == CUT
        fetch(archive, tmp_path)
        assert_whole(tmp_path)
        assert site.asked_ranges == [None, f"bytes={CUT}-"]

    @pytest.mark.parametrize("there", [0, CUT])
    def test_too_little_room(self, site, archive, tmp_path, monkeypatch, there):
        if there:
            site.cuts = [there]
            refusal(archive, tmp_path, tries=1)
        free = len(CONTENT) - there - 1
        usage = type(shutil.disk_usage("/"))(10**9, 10**9 - free, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        line = refusal(archive, tmp_path)
        assert "GB more" in line
        assert "make room" in line
        assert not there or part(tmp_path) == there
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free + 1))
        fetch(archive, tmp_path)
        assert_whole(tmp_path)

    def test_folder_that_cannot_be(self, archive, tmp_path):
        (tmp_path / "file").touch()
        refusal(archive, tmp_path / "file" / "folder", kind=DiskError)

    def test_another_process(self, site, archive, tmp_path):
        lock = FileLock(tmp_path / "file.zip.lock")
        with lock:
            assert "another process is downloading" in refusal(archive, tmp_path)
        assert site.asked == []
        fetch(archive, tmp_path)
        assert_whole(tmp_path)


def test_what_came_stays_where_another_server_cannot_be_reached(archive, tmp_path):
    (tmp_path / f"{archive.name}.part").write_bytes(CONTENT[:100])
    note = json.dumps({"url": archive.url, "total": len(CONTENT), "etag": '"1"'})
    (tmp_path / f"{archive.name}.part.json").write_text(note)
    for url in ("http://127.0.0.1:9/file.zip", "http://[::1/file.zip", "ftp://127.0.0.1/file.zip"):
        said = refusal(replace(archive, url=url), tmp_path)
        assert "could not be fetched" in said
        assert (tmp_path / f"{archive.name}.part").read_bytes() == CONTENT[:100]
    fetch(archive, tmp_path)
    assert_whole(tmp_path)
