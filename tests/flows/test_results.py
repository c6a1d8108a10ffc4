"""``sclip results | compare | report | query``: what a user reads of runs that are there."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from sclip_core import results
from sclip_core.config import tables

from ..results.runs import made_run
from ..results.test_published import run as published_run

IMAGE = [(50, 60, 80), (0, 20, 0), (10, 10, 10)]


@pytest.fixture
def ask(sclip, scenes_runs):
    """A command over the runs of drawn scenes; it has to succeed."""

    def command(*arguments):
        code, out, err = sclip(*arguments, "--artifacts", scenes_runs)
        assert code == 0, err
        return out

    return command


@pytest.fixture
def refused(sclip, scenes_runs):
    """A command that is refused in one line, which is returned."""

    def command(*arguments, artifacts=scenes_runs):
        code, out, err = sclip(*arguments, "--artifacts", artifacts)
        assert code == 2, out + err
        assert err.count("\n") == 1
        return err

    return command


class TestResults:
    """The list."""

    def test_a_line_a_run_and_a_column_for_what_differs(self, ask):
        lines = [line for line in ask("results").splitlines() if line.startswith("│")]
        modes = [line.split("│")[3].strip() for line in lines]
        assert modes == ["baseline, slic", "hybrid vote, felzenszwalb", "dense", "dense"]
        head = next(line for line in ask("results").splitlines() if "mIoU" in line)
        names = [name.strip() for name in head.split("┃")[1:-1]]
        assert names[:2] == ["run", "when"]
        assert names[-4:] == ["images", "mIoU", "mAcc", "aAcc"]
        # what differs, and nothing that one mode alone reads or that all have in common
        assert set(names[2:-4]) == {"mode", "pamr_steps", "proposals", "templates", "hybrid_rule"}
        assert "all: dataset scenes, model sclip-demo, pretrained scenes" in ask("results")

    def test_the_newest_only(self, ask):
        assert len(re.findall(r"│ scenes-", ask("results", "-n", "1"))) == 1

    def test_of_one_dataset(self, sclip, refused, tmp_path):
        for dataset in ("coco_stuff", "own"):
            made_run(tmp_path, f"{dataset}-1", {"one": IMAGE}, dataset=dataset)
        out = sclip("results", "--dataset", "coco-stuff", "--artifacts", tmp_path)[1]
        assert "coco_stuff-1" in out
        assert "own-1" not in out
        line = refused("results", "--dataset", "voc21", artifacts=tmp_path)
        assert "no runs on voc21: there are those on coco_stuff, own" in line

    def test_against_published(self, sclip, tmp_path):
        whole = tables()["benchmarks"]["voc21"]["num_images"]
        for run_id, others in (
            ("voc21-whole", {}),
            ("voc21-few", {"num_images": 9}),
            ("voc21-random", {"pretrained": "mine.safetensors"}),
        ):
            row = published_run("voc21", num_images=whole, **{"pretrained": "openai"}) | others
            del row["run_id"], row["miou"]
            made_run(tmp_path, run_id, {"one": IMAGE}, **row)
        code, out, err = sclip("results", "--against", "published", "--artifacts", tmp_path)
        assert code == 0, err
        assert out.count("59.63") == 4  # beside each run, and in the list of the literature
        assert re.search(r"comparable: voc21-whole\n", out)
        assert "not comparable: voc21-few: 9 of 1,449 images" in out
        assert re.search(r"not comparable: voc21-random: weights of a file .* random", out)
        ladder = out[out.index("voc21: published mIoU and these runs") :]
        steps = [float(step) for step in re.findall(r"(?m)^│ +([\d.]+) │", ladder)]
        assert len(steps) == 3 + sum(
            d == "voc21" for d in results.published()["dataset"].to_pylist()
        )
        assert steps == sorted(steps, reverse=True)

    def test_nothing_published(self, ask):
        out = ask("results", "--against", "published")
        assert "nobody has published figures for scenes" in out

    def test_against_something_else(self, refused):
        assert "published" in refused("results", "--against", "mine")


class TestCompare:
    """Differences with their intervals."""

    def test_what_is_printed_is_what_the_library_gives(self, ask, scenes_runs):
        out = ask("compare", "latest~3", "latest~2", "--classes", "3")
        table = results.compare("latest~3", "latest~2", artifacts=scenes_runs).to_pylist()
        for name, row in zip(("mIoU", "mAcc", "aAcc"), table, strict=False):
            said = re.search(rf"│ {name} +│ +(\S+) │ +(\S+) │ +(\S+)  \[(\S+), (\S+)\]", out)
            assert said is not None
            keys = ("base", "value", "difference", "low", "high")
            assert [float(v) for v in said.groups()] == pytest.approx(
                [row[key] for key in keys], abs=0.005
            )
        shown = re.findall(r"(?m)^│ (\w[\w ]*?) +│ +\d+ │", out)
        assert shown == [row["class_name"] for row in table[3:6]]
        assert "12 more moved less: --classes 0 shows all" in out
        assert "pamr_steps 0" in out
        assert "pamr_steps 3" in out
        assert "8 images: intervals of so few say little" in out

    def test_several(self, ask):
        out = ask("compare", "latest~3", "latest~2", "latest~1", "--classes", "0")
        assert "C - A  [95 %]" in out
        assert len(re.findall(r"(?m)^│ \w[\w ]*? +│ +\d+ │", out)) == 15
        assert "moved less" not in out

    @pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
    def test_for_programs(self, ask, scenes_runs, tmp_path, ending):
        table = results.compare("latest~3", "latest~2", artifacts=scenes_runs)
        path = tmp_path / f"moved.{ending}"
        assert ask("compare", "latest~3", "latest~2", "-o", path).strip() == str(path)
        if ending == "parquet":
            assert pq.read_table(path).equals(table)
        elif ending == "json":
            assert json.loads(path.read_text()) == table.to_pylist()
        else:
            rows = list(csv.DictReader(io.StringIO(path.read_text())))
            assert [row["class_name"] for row in rows[3:]] == table["class_name"].to_pylist()[3:]

    def test_one_run_alone(self, refused):
        assert "a comparison needs two runs or more" in refused("compare", "latest")
        assert "no run 'nowhere'" in refused("compare", "latest", "nowhere")


class TestReport:
    """The page; what is on it is tested with the report."""

    def test_the_newest_run_by_default(self, ask, tmp_path, monkeypatch, scenes_runs):
        monkeypatch.chdir(tmp_path)
        assert ask("report").strip() == "report/index.html"
        page = (tmp_path / "report" / "index.html").read_text("utf-8")
        assert results.find_run("latest", scenes_runs) in page
        assert page.count("<figure") == 8

    def test_several(self, ask, tmp_path):
        ask("report", "latest~3", "latest~2", "-o", tmp_path / "out")
        assert "B − A" in (tmp_path / "out" / "index.html").read_text("utf-8")

    def test_no_such_run(self, refused, tmp_path):
        assert "no run 'x'" in refused("report", "x", "-o", tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestQuery:
    """Answers in four formats."""

    SQL = "select mode, miou, [1, 2] as pair, created_at, miou / 0 as none from runs order by miou"

    def test_json(self, ask, scenes_runs):
        rows = json.loads(ask("query", self.SQL, "--format", "json"))
        theirs = results.query(self.SQL, scenes_runs).to_pylist()
        assert [row["miou"] for row in rows] == [row["miou"] for row in theirs]
        assert rows[0]["pair"] == [1, 2]
        assert rows[0]["created_at"] == theirs[0]["created_at"].isoformat()
        assert rows[0]["none"] is None  # JSON has no infinity

    def test_csv(self, ask):
        rows = list(csv.DictReader(io.StringIO(ask("query", self.SQL, "--format", "csv"))))
        assert len(rows) == 4
        assert rows[0]["pair"] == "[1, 2]"

    def test_parquet(self, ask, scenes_runs, tmp_path):
        ask("query", self.SQL, "-o", tmp_path / "answer.parquet")
        assert pq.read_table(tmp_path / "answer.parquet").equals(
            results.query(self.SQL, scenes_runs)
        )

    def test_parquet_through_a_pipe(self, scenes_runs):
        words = ["query", "from class_iou", "--format", "parquet", "--artifacts", str(scenes_runs)]
        command = [sys.executable, "-m", "flows.cli", *words]
        said = subprocess.run(command, capture_output=True, check=True).stdout
        assert pq.read_table(io.BytesIO(said)).num_rows == 60

    def test_two_columns_of_one_name(self, ask):
        (row,) = json.loads(ask("query", "select 1 as n, 2 as n", "--format", "json"))
        assert row == {"n": 1, "n_1": 2}

    def test_nothing_found(self, ask):
        assert json.loads(ask("query", "from runs where false", "--format", "json")) == []

    def test_what_can_be_asked(self, ask):
        out = ask("query")
        for table in ("runs", "class_iou", "image_areas", "confusion"):
            assert f"│ {table} " in out
        assert "label_name string" in out

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (["-o", "answer.txt"], "answer.txt: tables are written as .csv, .json, .parquet"),
            (["-o", "answer.csv", "--format", "json"], "tables are written as .json"),
            (["-o", "answer"], "answer: tables are written as"),
            (["-o", "nowhere/answer.csv"], "no folder nowhere"),
            (["--format", "xml"], "xml"),
        ],
    )
    def test_no_such_format(self, refused, tmp_path, monkeypatch, given, says):
        monkeypatch.chdir(tmp_path)
        assert says in refused("query", "from runs", *given)
        assert list(tmp_path.iterdir()) == []

    def test_a_reader_that_stops_early(self, scenes_runs):
        sql = "select a.* from image_areas a, image_areas b, runs"
        words = ["query", sql, "--format", "csv", "--artifacts", str(scenes_runs)]
        command = [sys.executable, "-m", "flows.cli", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
            assert asked.stdout is not None
            assert asked.stderr is not None
            asked.stdout.close()
            assert asked.stderr.read() == b""
        assert asked.returncode == 0
