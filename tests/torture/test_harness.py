"""The tools of the torture: its verdicts, its damages, and its models of a disk."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import pytest

from tests.torture.__main__ import PARTS, table_of
from tests.torture.damage import Damage, Extent, Mended, damages, kind_of
from tests.torture.forked import HUNG, Ended, forked
from tests.torture.place import stored_twice
from tests.torture.power import replayed, write_tree
from tests.torture.spread import in_child, spread
from tests.torture.tally import DAMAGED, Finished, Part, must_be_same, verdict_of

WANTED = {"table runs": "1", "label map 0": "2"}


def ended(code=0, err=""):
    return Ended(code, "", err, 0.0)


class TestVerdict:
    @pytest.mark.parametrize(
        ("code", "err", "figures", "verdict"),
        [
            (0, "", WANTED, "same"),
            (0, "sclip: mended 1 row\n", WANTED, "same, said so"),
            (0, "", {**WANTED, "table runs": "other"}, "SILENT"),
            (0, "", {}, "SILENT"),
            (0, "", {**WANTED, "label map 0": DAMAGED}, "damaged, not read"),
            (0, "Traceback (most recent call last):\n", WANTED, "TRACEBACK"),
            (2, "sclip: no\n", {}, "refused in a line"),
            (2, "sclip: no\nsclip: and no\n", {}, "UNCLEAR"),
            (1, "sclip: left out: 0003: damaged\n", {}, "LOST"),
            (1, "sclip: internal error, see above\n", {}, "TRACEBACK"),
            (139, "", {}, "UNCLEAR"),
            (HUNG, "", {}, "HUNG"),
        ],
    )
    def test_each(self, code, err, figures, verdict):
        assert verdict_of(Finished(ended(code, err), figures), WANTED) == verdict

    def test_a_store_that_cannot_go_on_is_lost(self):
        refused = Finished(ended(2, "sclip: no\n"))
        assert must_be_same(refused, WANTED) == "LOST"
        unread = Finished(ended(), {**WANTED, "label map 0": DAMAGED})
        assert must_be_same(unread, WANTED) == "LOST"

    def test_counts(self):
        part = Part("some")
        part.add("same", "case 1", kind="a")
        part.add("SILENT", "case 2", "first\nlast", kind="a")
        other = Part("some")
        other.take(part)
        assert (other.cases, other.bad) == (2, 1)
        assert other.wrong == ["SILENT: case 2: first | last"]
        assert other.as_json()["kinds"] == {"a": {"same": 1, "SILENT": 1}}
        assert table_of([other]).row_count == 1


class TestChild:
    def test_code_and_output(self, tmp_path):
        def work():
            print("said")
            print("sclip: told", file=sys.stderr)
            return 7

        done = forked(work, tmp_path).wait()
        assert (done.code, done.out, done.said) == (7, "said\n", ["sclip: told"])

    def test_fault(self, tmp_path):
        done = forked(lambda: 1 // 0, tmp_path).wait()
        assert done.code == 1
        assert done.unclear

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_killed(self, tmp_path, number):
        child = forked(lambda: time.sleep(30) or 0, tmp_path)
        time.sleep(0.1)
        child.send(number)
        assert child.wait().code == 128 + number

    def test_hangs(self, tmp_path):
        assert forked(lambda: time.sleep(30) or 0, tmp_path).wait(0.1).code == HUNG

    def test_spread_keeps_the_order(self, tmp_path):
        found = spread([3, 1, 2, 5, 4], lambda case, folder: case * 10, tmp_path / "s", 2)
        assert found == [30, 10, 20, 50, 40]
        assert in_child(lambda: "x", tmp_path / "c") == "x"

    def test_fault_of_the_harness_is_not_a_result(self, tmp_path):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            spread([1], lambda case, folder: case // 0, tmp_path / "s", 1)


class TestDamage:
    @pytest.fixture
    def store(self, tmp_path):
        for name, content in (("a.jsonl", b"0123456789"), ("b.jsonl", b"abc")):
            (tmp_path / "store" / "refine" / "key" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "store" / "refine" / "key" / name).write_bytes(content)
        return tmp_path / "store"

    @pytest.mark.parametrize(
        ("damage", "found"),
        [
            (Damage("a", "flip", 1, 1), b"0023456789"),
            (Damage("a", "cut", 4), b"0123"),
            (Damage("a", "zeros", 8, 16), b"01234567\0\0"),
            (Damage("a", "swap", other="b"), b"abc"),
            (Damage("a", "gone"), None),
        ],
    )
    def test_each_is_done_and_mended(self, tmp_path, damage, found):
        (tmp_path / "a").write_bytes(b"0123456789")
        (tmp_path / "b").write_bytes(b"abc")
        mended = Mended(tmp_path)
        damage.do(tmp_path)
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "file").touch()
        path = tmp_path / "a"
        assert (path.read_bytes() if path.exists() else None) == found
        mended.mend()
        left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert left == {"a": b"0123456789", "b": b"abc"}

    def test_every_byte_of_what_is_swept(self, store):
        swept = frozenset(["refine/a.jsonl"])
        found = damages(store, random.Random(0), Extent(swept, 1, 2, 1))
        flips = [damage for damage in found if damage.kind == "flip"]
        assert sorted(d.at for d in flips if d.victim.endswith("a.jsonl")) == list(range(10))
        assert len([d for d in flips if d.victim.endswith("b.jsonl")]) == 2
        assert found == damages(store, random.Random(0), Extent(swept, 1, 2, 1))

    def test_kinds(self):
        assert kind_of("refine/key/segments/0000.zarr/c/0") == "refine/chunk"
        assert kind_of("refine/key/segments/0000.zarr/zarr.json") == "refine/zarr.json"
        assert kind_of("metrics/key/parts/x.parquet") == "metrics/part"
        assert kind_of("results/runs/x.parquet") == "results/runs"
        assert kind_of("refine/key/ledger.jsonl.lock") == ""

    def test_rows_of_ledgers_that_are_there_twice(self, tmp_path):
        folder = tmp_path / "refine" / "key"
        folder.mkdir(parents=True)
        lines = [
            '{"rows": [{"id": "a"}, {"id": "b"}]}',
            "torn",
            '{"later": 1}',
            '{"rows": [{"id": "a"}]}',
        ]
        (folder / "ledger.jsonl").write_text("\n".join(lines))
        assert stored_twice(tmp_path) == 1


class TestPower:
    STEPS = (
        ("mkdir", "d", "", b""),
        ("write", "d/.new", "", b"content"),
        ("fsync", "d/.new", "", b""),
        ("rename", "d/.new", "d/file", b""),
        ("fsync", "d", "", b""),
        ("write", "d/file", "", b"content, more"),
        ("write", "d/other", "", b"abc"),
    )

    def left(self, tmp_path, steps, model):
        write_tree(replayed(list(steps)), tmp_path / model, model)
        files = [path for path in (tmp_path / model).rglob("*") if path.is_file()]
        return {path.name: path.read_bytes() for path in files}

    def test_all_is_there(self, tmp_path):
        expected = {"file": b"content, more", "other": b"abc"}
        assert self.left(tmp_path, self.STEPS, "ordered") == expected

    def test_zeros_where_nothing_was_fsynced(self, tmp_path):
        expected = {"file": b"content" + bytes(6), "other": bytes(3)}
        assert self.left(tmp_path, self.STEPS, "ordered-zeros") == expected

    def test_a_folder_that_its_parent_does_not_name(self, tmp_path):
        assert self.left(tmp_path, self.STEPS, "strict") == {}

    def test_only_what_was_fsynced(self, tmp_path):
        steps = [self.STEPS[0], ("fsync", ".", "", b""), *self.STEPS[1:]]
        assert self.left(tmp_path, steps, "strict") == {"file": b"content"}

    def test_a_name_without_its_bytes(self, tmp_path):
        steps = [("write", "file", "", b"content"), ("fsync", ".", "", b"")]
        assert self.left(tmp_path, steps, "strict") == {"file": b""}

    def test_recorded(self, tmp_path):
        (tmp_path / "store").mkdir()

        def work():
            from tests.torture.power import Recorder

            recorder = Recorder(tmp_path / "store")
            recorder.start()
            target = tmp_path / "store" / "file"
            with open(tmp_path / "store" / ".new", "w") as file:
                file.write("content")
                file.flush()
                os.fsync(file.fileno())
            os.replace(tmp_path / "store" / ".new", target)
            with open(target, "a") as file:
                file.write(", more")
            recorder.look()
            return [step[:3] for step in recorder.steps if step[0] != "write"], recorder.steps[-1]

        steps, last = in_child(work, tmp_path / "child")
        assert steps == [("fsync", ".new", ""), ("rename", ".new", "file")]
        assert last == ("write", "file", "", b"content, more")


def test_parts():
    wanted = {"killed", "corrupted", "crowded", "starved", "cut", "versions", "numbers", "bucket"}
    assert set(PARTS) == wanted
