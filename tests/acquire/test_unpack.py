"""Archives, unpacked below a root; torn, evil and incomplete ones are refused."""

from __future__ import annotations

import errno
import io
import os
import random
import resource
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from sclip_core import UserError
from sclip_core.acquire import members
from sclip_core.acquire import unpack as module
from sclip_core.acquire.sources import Archive
from sclip_core.acquire.unpack import Unpacked, unpack, unpacked
from sclip_core.store.files import DiskError

IMAGE = random.Random(0).randbytes(5000)
FILES = {
    "set/images/a.jpg": IMAGE,
    "set/images/deep/b.jpg": b"b",
    "set/images/c.png": b"of another kind",
    "set/labels/a.png": b"label of a",
    "set/labels/deep/b.png": b"label of b",
    "other/images/d.jpg": b"not needed",
}
RULES = {"set/images/{id}.jpg": "data/img/{id}.jpg", "set/labels/{id}.png": "data/gt/{id}_L.png"}
PLACES = {
    "data/img/a.jpg": IMAGE,
    "data/img/deep/b.jpg": b"b",
    "data/gt/a_L.png": b"label of a",
    "data/gt/deep/b_L.png": b"label of b",
}
SPLIT = "set/lists/val.txt"


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("set")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("set")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_gz(path: Path, files: dict[str, bytes]) -> Path:
    return make_tar(path, files, "w:gz")


@pytest.fixture(params=[make_zip, make_tar, make_gz], ids=["zip", "tar", "tar.gz"])
def make(request, tmp_path):
    """Make an archive of each kind; its name does not tell which."""
    return lambda files: request.param(tmp_path / "archive", files)


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "root"


def asked(rules: dict[str, str] | None = None, split: str | None = None) -> Archive:
    return Archive("archive", unpack=RULES if rules is None else rules, split=split)


def tree(root: Path) -> dict[str, bytes]:
    """All files below a folder but for the record."""
    paths = [path for path in root.rglob("*") if path.is_file() or path.is_symlink()]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in files.items() if not name.startswith("downloads/")}


def refusal(*arguments, kind: type[UserError] = UserError, **keywords) -> str:
    """The line with which an archive is refused; it is not taken for done."""
    with pytest.raises(kind) as error:
        unpack(*arguments, **keywords)
    assert "\n" not in str(error.value)
    assert not unpacked(arguments[0], arguments[2])
    return str(error.value)


class TestPlaces:
    """What goes where."""

    def test_what_is_needed_is_at_its_place(self, make, root):
        assert unpack(asked(), make(FILES), root) == Unpacked(4, 0)
        assert tree(root) == PLACES

    def test_leading_dot(self, make, root):
        unpack(asked(), make({f"./{name}": content for name, content in FILES.items()}), root)
        assert tree(root) == PLACES

    def test_name_without_a_pattern(self, make, root):
        unpack(asked({"set/images/a.jpg": "one.jpg"}), make(FILES), root)
        assert tree(root) == {"one.jpg": IMAGE}

    def test_signs_of_regular_expressions_are_themselves(self, make, root):
        files = {"s.t/(a)+.jpg": b"1", "s_t/(a)+.jpg": b"2"}
        unpack(asked({"s.t/{id}+.jpg": "{id}"}), make(files), root)
        assert tree(root) == {"(a)": b"1"}

    def test_larger_than_a_chunk(self, make, root, monkeypatch):
        monkeypatch.setattr(members, "CHUNK", 999)
        unpack(asked(), make(FILES), root)
        assert tree(root) == PLACES
        assert unpack(asked(), make(FILES), root) == Unpacked(0, 4)

    def test_files_can_be_read_by_all(self, make, root):
        unpack(asked(), make(FILES), root)
        assert stat.S_IMODE((root / "data/img/a.jpg").stat().st_mode) == 0o644

    def test_progress_comes_to_the_end(self, root, tmp_path):
        told = []

        class Progress:
            def start(self, name, total, done):
                told.append((name, total, done))

            def advance(self, count):
                assert count >= 0
                told.append(count)

            def finish(self):
                told.append("done")

        path = make_tar(tmp_path / "archive", FILES)
        unpack(asked(), path, root, Progress())
        assert told[0] == ("archive", path.stat().st_size, 0)
        assert told[-1] == "done"
        assert 0 < sum(told[1:-1]) <= path.stat().st_size


class TestSplit:
    """Only what a list names."""

    @pytest.mark.parametrize("first", [True, False])
    def test_wherever_the_list_is(self, make, root, first):
        lists = {SPLIT: b"deep/b\r\n\n"}
        files = {**lists, **FILES} if first else {**FILES, **lists}
        assert unpack(asked(split=SPLIT), make(files), root) == Unpacked(3, 0)
        needed = {name: content for name, content in PLACES.items() if "deep" in name}
        assert tree(root) == {**needed, **{SPLIT: b"deep/b\r\n\n"}}

    def test_without_the_list(self, make, root):
        assert f"has no {SPLIT}" in refusal(asked(split=SPLIT), make(FILES), root)
        assert tree(root) == {}

    @pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
    def test_list_of_nothing(self, make, root, content):
        path = make({SPLIT: content, **FILES})
        assert f"has a {SPLIT} that" in refusal(asked(split=SPLIT), path, root)

    def test_listed_but_not_there(self, make, root):
        path = make({SPLIT: b"a\nz\n", **FILES})
        line = refusal(asked(split=SPLIT), path, root)
        assert "lacks 2 of 4 that are needed, such as set/images/z.jpg" in line

    def test_pattern_that_nothing_matches(self, make, root):
        rules = {**RULES, "set/depth/{id}.png": "{id}.png"}
        line = refusal(asked(rules), make(FILES), root)
        assert "lacks 1 of 3 that are needed, such as set/depth/{id}.png" in line


class TestAgain:
    """Files that are there."""

    def test_same(self, make, root):
        unpack(asked(), make(FILES), root)
        before = (root / "data/img/a.jpg").stat().st_ino
        (root / "data/gt/a_L.png").unlink()
        assert unpack(asked(), make(FILES), root) == Unpacked(1, 3)
        assert (root / "data/img/a.jpg").stat().st_ino == before
        assert tree(root) == PLACES

    @pytest.mark.parametrize("content", [b"short", IMAGE[:-1] + b"?"])
    def test_other_content(self, make, root, content):
        path = root / "data/img/a.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        line = refusal(asked(), make(FILES), root)
        assert line.startswith(f"{path} is there with another content")
        assert path.read_bytes() == content
        assert unpack(asked(), make(FILES), root, force=True) == Unpacked(4, 0)
        assert tree(root) == PLACES

    def test_left_empty_by_a_machine_that_stopped(self, make, root):
        path = root / "data/img/a.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
        assert unpack(asked(), make(FILES), root) == Unpacked(4, 0)
        assert tree(root) == PLACES

    def test_folder_in_the_way(self, make, root):
        (root / "data/img/a.jpg").mkdir(parents=True)
        assert "another content" in refusal(asked(), make(FILES), root)
        refusal(asked(), make(FILES), root, force=True, kind=DiskError)


class TestRecord:
    """Whether anything is left to do."""

    def test_the_archive_is_not_needed_any_more(self, make, root):
        path = make(FILES)
        assert not unpacked(asked(), root)
        unpack(asked(), path, root)
        path.unlink()
        assert unpacked(asked(), root)

    @pytest.mark.parametrize("name", PLACES)
    def test_a_file_is_gone_or_cut(self, make, root, name):
        unpack(asked(), make(FILES), root)
        os.truncate(root / name, 0)
        assert not unpacked(asked(), root)
        (root / name).unlink()
        assert not unpacked(asked(), root)

    def test_another_archive_or_other_rules(self, make, root):
        unpack(asked(), make(FILES), root)
        assert not unpacked(asked({"set/images/{id}.jpg": "data/img/{id}.jpg"}), root)
        assert not unpacked(asked(split=SPLIT), root)
        assert not unpacked(Archive("archive", checksum="md5:0", unpack=RULES), root)

    def test_comes_after_all_files_are_on_the_disk(self, make, root, monkeypatch):
        kept, record = [], root / "downloads/archive.unpacked.json"

        def fsync(path):
            assert not record.exists()
            kept.append(path)

        monkeypatch.setattr(module, "fsync", fsync)
        unpack(asked(), make(FILES), root)
        places = {root / name for name in PLACES}
        assert set(kept) == places | {path.parent for path in places}
        assert record.exists()

    def test_disk_that_lost_something(self, make, root, monkeypatch):
        """What was written seemed right until the disk was asked to keep it."""

        def fsync(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(module, "fsync", fsync)
        line = refusal(asked(), make(FILES), root, kind=DiskError)
        assert "cannot be written (Input/output error)" in line

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"files": 3}'])
    def test_torn(self, make, root, text):
        unpack(asked(), make(FILES), root)
        (root / "downloads/archive.unpacked.json").write_text(text)
        assert not unpacked(asked(), root)


class TestTraversal:
    """Nothing lands outside the root."""

    @pytest.mark.parametrize(
        "name", ["../out", "x/../../out", "..", "/tmp/out", "C:/out", "..\\out", "a\\b", "a\nb"]
    )
    def test_names(self, make, root, name):
        line = refusal(asked({"{id}": "{id}"}), make({name: b"evil"}), root)
        assert "cannot be trusted" in line
        assert tree(root.parent).keys() == {"archive"}

    def test_within_a_pattern(self, make, root):
        files = {**FILES, "set/images/../../../out.jpg": b"evil"}
        assert "would leave" in refusal(asked(), make(files), root)
        assert not (root.parent / "out.jpg").exists()

    def test_by_the_list(self, make, root):
        files = {"../val.txt": b"a\n", **FILES}
        assert "would leave" in refusal(asked(split="../val.txt"), make(files), root)
        assert not (root.parent / "val.txt").exists()

    def test_what_is_not_needed_is_not_looked_at(self, make, root):
        unpack(asked(), make({"../out": b"evil", **FILES}), root)
        assert tree(root) == PLACES
        assert not (root.parent / "out").exists()

    @pytest.mark.parametrize(
        "kind",
        [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
    )
    def test_tar_with_a_link_or_device(self, root, tmp_path, kind):
        path = tmp_path / "archive"
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("set/images/a.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        assert "'set/images/a.jpg' is a link or device" in refusal(asked(), path, root)
        assert tree(root) == {}

    def test_zip_with_a_link(self, root, tmp_path):
        path = tmp_path / "archive"
        with zipfile.ZipFile(path, "w") as archive:
            info = zipfile.ZipInfo("set/images/a.jpg")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        assert "'set/images/a.jpg' is a link or device" in refusal(asked(), path, root)
        assert tree(root) == {}

    @pytest.mark.parametrize("planted", ["data", "data/img", "data/img/deep"])
    def test_planted_link_to_a_folder(self, make, root, tmp_path, planted):
        outside = tmp_path / "outside"
        outside.mkdir()
        (root / planted).parent.mkdir(parents=True)
        (root / planted).symlink_to(outside)
        line = refusal(asked(), make(FILES), root)
        assert "leads out of" in line
        assert list(outside.iterdir()) == []

    def test_planted_link_to_a_file(self, make, root, tmp_path):
        """It is the link that is replaced, not what it points to."""
        outside = tmp_path / "outside"
        outside.write_bytes(b"precious")
        (root / "data/img").mkdir(parents=True)
        (root / "data/img/a.jpg").symlink_to(outside)
        refusal(asked(), make(FILES), root)
        unpack(asked(), make(FILES), root, force=True)
        assert outside.read_bytes() == b"precious"
        assert tree(root) == PLACES

    def test_links_within_the_root_and_to_it(self, make, root, tmp_path):
        (tmp_path / "real" / "images").mkdir(parents=True)
        (tmp_path / "real" / "data").mkdir()
        root.symlink_to(tmp_path / "real")
        (root / "data/img").symlink_to(tmp_path / "real" / "images")
        unpack(asked(), make(FILES), root)
        assert (root / "images/a.jpg").read_bytes() == IMAGE


class TestBad:
    """Archives that cannot be used."""

    @pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5])
    def test_torn(self, make, root, share):
        """The last part of a small tar is padding."""
        path = make(FILES)
        os.truncate(path, int(path.stat().st_size * share))
        assert f"{path} cannot be unpacked (" in refusal(asked(), path, root)

    def test_every_cut_of_a_tar(self, root, tmp_path):
        """One between two members too, which tarfile takes for the end."""
        files = {"set/images/a.jpg": b"a" * 600, "set/labels/a.png": b"b", "more": b""}
        path = make_tar(tmp_path / "archive", files)
        whole = path.read_bytes()
        content_end = len(whole.rstrip(b"\0"))
        for end in range(0, content_end + 200, 64):
            path.write_bytes(whole[:end])
            refusal(asked(), path, root)

    @pytest.mark.parametrize("content", [b"<html>no</html>" * 99, b"PK\3\4" + bytes(999), b"\0"])
    def test_no_archive(self, root, tmp_path, content):
        path = tmp_path / "archive"
        path.write_bytes(content)
        line = refusal(asked(), path, root)
        assert "it is damaged, or no zip or tar; remove it, then run this command again" in line

    def test_bits_that_fell_over(self, root, tmp_path):
        path = tmp_path / "archive"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("set/images/a.jpg", IMAGE)
        path.write_bytes(path.read_bytes().replace(IMAGE[100:110], b"0123456789"))
        line = refusal(asked(), path, root)
        assert f"{path} cannot be unpacked (Bad CRC-32" in line
        assert tree(root) == {}

    def test_gz_that_is_broken_within(self, root, tmp_path):
        """An OSError of the archive's is not taken for the disk's."""
        path = make_gz(tmp_path / "archive", {"set/images/a.jpg": IMAGE, "set/labels/a.png": b"b"})
        path.write_bytes(path.read_bytes()[:-8] + bytes(8))  # its CRC and length
        line = refusal(asked(), path, root)
        assert f"{path} cannot be unpacked (" in line

    def test_not_there(self, root, tmp_path):
        assert "No such file" in refusal(asked(), tmp_path / "archive", root)

    def test_empty_ones(self, root, tmp_path):
        path = tmp_path / "archive"
        with zipfile.ZipFile(path, "w"):
            pass
        assert "lacks 2 of 2" in refusal(asked(), path, root)

    def test_encrypted(self, root, tmp_path):
        path = tmp_path / "archive"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("set/images/a.jpg", IMAGE)
        content = bytearray(path.read_bytes())
        content[6] |= 1  # the flags of the member and of the directory's entry
        content[content.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(content)
        assert "'set/images/a.jpg' is encrypted" in refusal(asked(), path, root)

    def test_bomb(self, make, root, monkeypatch):
        monkeypatch.setattr(module, "LIMIT", 4999)
        assert "'set/images/a.jpg' has 5000 bytes" in refusal(asked(), make(FILES), root)
        assert "data/img/a.jpg" not in tree(root)

    def test_full_disk(self, make, root):
        path = make({"set/images/a.jpg": IMAGE, "set/labels/a.png": b"b"})
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
        try:
            line = refusal(asked(), path, root, kind=DiskError)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert f"{root / 'data/img/a.jpg'} cannot be written" in line
        assert tree(root) == {}
        unpack(asked(), path, root)


def test_a_folder_that_links_to_itself_is_refused(make, root):
    root.mkdir(exist_ok=True)
    (root / "in").symlink_to(root / "in")
    with pytest.raises(UserError):
        unpack(asked({"a/{id}.jpg": "in/{id}.jpg"}), make({"a/x.jpg": b"1"}), root)


def test_a_member_thousands_of_folders_deep_is_refused(make, root):
    name = "a/" * 1500 + "x.jpg"
    with pytest.raises(UserError, match="cannot be trusted"):
        unpack(asked({"a/{id}.jpg": "in/{id}.jpg"}), make({name: b"1"}), root)
    assert not (root / "in").exists()
