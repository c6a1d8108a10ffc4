"""``sclip results | compare | report | query``: what a user reads of runs that are there."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from flows.cli import comparing
from flows.cli.console import PLAIN
from flows.cli.listing import fitting_table
from sclip_core import results
from sclip_core.config import tables
from sclip_core.results import comparison
from sclip_core.results.files import read_runs

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


def printed(table, width):
    """The lines of a table on a terminal of this width."""
    with io.StringIO() as file:
        Console(file=file, width=width, **PLAIN).print(table)
        return file.getvalue().splitlines()


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
        assert set(names[2:-4]) == {
            *("mode", "pamr_steps", "proposals", "templates", "hybrid_rule", "ingredients")
        }
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
        assert "no runs on voc21: there are runs on coco_stuff, own" in line

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
        assert re.search(r"not comparable: voc21-random: weights of an unknown file .* random", out)
        ladder = out[out.index("voc21: published mIoU and these runs") :]
        steps = [float(step) for step in re.findall(r"(?m)^│ +([\d.]+) │", ladder)]
        assert len(steps) == 3 + sum(
            d == "voc21" for d in results.published()["dataset"].to_pylist()
        )
        assert steps == sorted(steps, reverse=True)

    def test_nothing_published(self, ask):
        out = ask("results", "--against", "published")
        assert "no published figures for scenes" in out

    def test_other_classes_truth_and_weights(self, sclip, tmp_path):
        digests = {"weights_sha256": "ab" * 32}
        made_run(tmp_path, "own-1", {"one": IMAGE}, age=1, classes="a.txt", **digests)
        made_run(tmp_path, "own-2", {"one": IMAGE}, classes=None, weights_sha256="cd" * 32)
        out = sclip("results", "--artifacts", tmp_path)[1]
        rows = [
            [c.strip() for c in line.split("│")[3:5]] for line in out.splitlines() if "own-" in line
        ]
        assert "classes" in out
        assert rows == [["-", "cdcdcdcd"], ["a.txt", "abababab"]]

    def test_quiet_about_what_differs_between_datasets_only(self, sclip, tmp_path):
        made_run(tmp_path, "a-1", {"one": IMAGE}, dataset="a", classes="a.txt", ground_truth="x")
        made_run(tmp_path, "b-1", {"one": IMAGE}, dataset="b", weights_sha256="cd" * 32)
        out = sclip("results", "--artifacts", tmp_path)[1]
        assert "a.txt" not in out
        assert "cdcdcdcd" not in out

    @pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 200])
    def test_no_score_is_cut_however_narrow(self, sclip, tmp_path, width):
        for age, others in enumerate(({}, {"attention": "naclip"}, {"dataset": "another"})):
            row = {"pamr_steps": age, "logit_scale": 40 + age} | others
            made_run(tmp_path, f"a-run-{age}", {"one": IMAGE}, age=age, **row)
        runs = read_runs(tmp_path)
        table = fitting_table(runs, True, width)
        said = printed(table, width)
        assert [line.split("│")[2].strip() for line in said if "a-run" in line] or width < 30
        assert sum(f"{run['miou']:.2f}" in "".join(said) for run in runs) == 3
        assert "…" not in "".join(said)
        names = [str(column.header) for column in table.columns]
        assert {"run", "mIoU"} <= set(names)
        told = " ".join(said)
        for name in ("dataset", "attention", "pamr_steps", "logit_scale"):
            assert name in names or re.search(
                rf"they differ in .*{name}", re.sub(r"\s+", " ", told)
            )

    def test_names_that_would_move_the_cursor(self, sclip, tmp_path):
        for age, model in enumerate(("ViT\x1b[2J\n", "ViT\x9b2J")):
            made_run(tmp_path, f"own-{age}", {"one": IMAGE}, age=age, dataset="o\x1bn", model=model)
        out = sclip("results", "--artifacts", tmp_path)[1]
        assert r"ViT\x1b[2J\n" in out
        assert r"ViT\x9b2J" in out
        assert r"dataset o\x1bn" in out
        assert not set(out) & {"\x1b", "\x9b"}

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

    @pytest.mark.parametrize(
        ("others", "says"),
        [
            ({}, "B  own-2  no setting differs"),
            ({"dataset": "else"}, "B  own-2  dataset else\n"),
            ({"classes": "more.txt"}, "B  own-2  classes more.txt\n"),
            ({"ground_truth": "boxes"}, "B  own-2  ground_truth boxes\n"),
            ({"num_samples": 1}, "B  own-2  num_samples 1\n"),
            ({"weights_sha256": "cd" * 32}, "B  own-2  weights_sha256 cdcdcdcd\n"),
            ({"weights_sha256": "cd" * 32, "pretrained": "mine"}, "B  own-2  pretrained mine\n"),
        ],
    )
    def test_in_what_two_runs_differ(self, sclip, tmp_path, others, says):
        usual = {"classes": None, "ground_truth": None, "num_samples": None}
        made_run(tmp_path, "own-1", {"one": IMAGE}, **usual)
        made_run(tmp_path, "own-2", {"one": IMAGE}, **{**usual, **others})
        out = sclip("compare", "own-1", "own-2", "--artifacts", tmp_path)[1]
        assert says in out
        assert "1 image that all have\n" in out
        assert "1 image: intervals of so few" in out

    def test_stars_by_chance_are_of_classes_with_an_interval(self, sclip, tmp_path):
        """40 classes that every image has, and 40 that one has, which have no interval."""
        names = [f"class {k}" for k in range(80)]
        for run_id, right in (("own-1", 10), ("own-2", 20)):
            images = {
                f"{i}": [(right + i, 40, 40)] * 40 + [(9, 10, 10) if i == 0 else (0, 0, 0)] * 40
                for i in range(6)
            }
            made_run(tmp_path, run_id, images, names)
        out = sclip("compare", "own-1", "own-2", "--artifacts", tmp_path)[1]
        assert "(at least about 2 of the 40 classes with an interval would have one by" in out
        made_run(tmp_path, "own-3", images, names)
        out = sclip("compare", "own-2", "own-3", "--artifacts", tmp_path)[1]
        assert "by chance" not in out  # no star, nothing to explain

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 130])
    def test_no_number_is_cut_however_narrow(self, scenes_runs, width):
        pairs = comparison.paired_runs(
            "latest~3", "latest~2", "latest~1", "latest", artifacts=scenes_runs
        )
        table = comparison.compare_paired(pairs, 200)
        with io.StringIO() as file:
            out = Console(file=file, width=width, **PLAIN)
            for part in comparing.comparison(pairs, table, 0, scenes_runs, out):
                out.print(part, soft_wrap=isinstance(part, str))
            said = file.getvalue()
        for row in table.to_pylist():
            assert row["value"] is None or f"{row['value']:.2f}" in said
            assert row["low"] is None or f"[{row['low']:+.2f}, {row['high']:+.2f}]" in said
        assert "…" not in said
        assert max(len(line) for line in said.splitlines() if line[0] in "┏│") <= width

    def test_a_class_that_would_move_the_cursor(self, sclip, tmp_path):
        for run_id in ("own-1", "own-2"):
            made_run(tmp_path, run_id, {"one": IMAGE}, ["sky\x1b[2J", "a\nb", "cat"])
        out = sclip("compare", "own-1", "own-2", "--artifacts", tmp_path)[1]
        assert r"sky\x1b[2J" in out
        assert r"a\nb" in out
        assert "\x1b" not in out

    def test_more_draws_than_there_is_room_for(self, refused):
        assert "100000" in refused("compare", "latest", "latest~1", "--resamples", "1000000000000")

    def test_one_run_alone(self, refused):
        assert "a comparison needs two or more different runs" in refused("compare", "latest")
        assert "no run 'nowhere'" in refused("compare", "latest", "nowhere")


class TestReport:
    """The page; what is on it is tested with the report."""

    def test_the_newest_run_by_default(self, sclip, tmp_path, scenes_runs):
        artifacts = shutil.copytree(scenes_runs, tmp_path / "artifacts")
        code, out, err = sclip("report", "--artifacts", artifacts)
        assert code == 0, err
        assert out.strip() == str(artifacts / "report" / "index.html")
        page = (artifacts / "report" / "index.html").read_text("utf-8")
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

    TYPES: ClassVar = {  # what is asked: what JSON says, and CSV
        "max(created_at) - min(created_at) < interval 1 day": (True, "true"),
        "interval '2 months 1 day 00:00:05.5'": ("2 months 1 day 0:00:05.500000",) * 2,
        "-interval 90 minutes": ("-1:30:00",) * 2,
        "[interval 1 day]": (["1 day"], '["1 day"]'),
        "'\\xAA\\x00'::blob": ("aa00",) * 2,
        "union_value(k := 1)": (1, "1"),
        "sum(2::bigint)::hugeint": (8, "8"),
        "9007199254740993::hugeint": (9007199254740993, "9007199254740993"),
        "(-12345678901234567890123456789012345678901234567890)::varchar::bignum": (
            -12345678901234567890123456789012345678901234567890,
            "-12345678901234567890123456789012345678901234567890",
        ),
        "'2020-01-01 00:00:00.123456789'::timestamp_ns": (
            "2020-01-01T00:00:00.123456789",
            "2020-01-01 00:00:00.123456789",
        ),
        "'infinity'::timestamp": ("infinity",) * 2,
        "'-infinity'::timestamptz": ("-infinity",) * 2,
        "'-infinity'::date": ("-infinity",) * 2,
        "'99999-01-01'::timestamp": ("99999-01-01T00:00:00.000000",) * 2,
        "{'a': 'infinity'::date}": ({"a": "infinity"}, '{"a": "infinity"}'),
    }

    @pytest.mark.parametrize("kind", TYPES)
    def test_types_that_a_format_lacks(self, ask, tmp_path, kind):
        sql = f"select {kind} as x" + (" from runs" if "max(" in kind or "sum(" in kind else "")
        (row,) = json.loads(ask("query", sql, "--format", "json"))
        (line,) = csv.DictReader(io.StringIO(ask("query", sql, "--format", "csv")))
        assert (row["x"], line["x"]) == self.TYPES[kind]
        ask("query", sql, "-o", tmp_path / "x.parquet")
        assert pq.read_table(tmp_path / "x.parquet").num_rows == 1
        said = ask("query", sql)
        assert str(row["x"]).lower()[:9].split("'")[0] in said.lower()

    def test_names_that_would_move_the_cursor(self, ask):
        out = ask("query", "select 'a' || chr(27) || '[2J' || chr(10) || chr(155) as x, [x] as y")
        assert out.count(r"a\x1b[2J\n\x9b") == 1
        assert not set(out) & {"\x1b", "\x9b"}

    @pytest.mark.parametrize("folder", ["results/runs", "metrics", "ground_truth"])
    @pytest.mark.parametrize("command", [["query", "from runs"], ["compare", "latest", "latest~1"]])
    def test_the_store_is_not_replaced(self, sclip, scenes_runs, tmp_path, folder, command):
        root = tmp_path / "artifacts"
        shutil.copytree(scenes_runs / "results", root / "results")
        (root / folder).mkdir(exist_ok=True)
        target = root / folder / "scenes.parquet"
        code, _, err = sclip(*command, "-o", target, "--artifacts", root)
        assert code == 2
        assert "would replace" in err
        assert not target.exists()

    def test_a_link_to_nothing(self, refused, tmp_path):
        (tmp_path / "x.csv").symlink_to("nowhere")
        said = refused("query", "from runs", "-o", tmp_path / "x.csv")
        assert "x.csv is a link to nowhere, which is not there" in said

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


@pytest.mark.slow
def test_a_command_that_works_says_that_it_was_stopped(tmp_path):
    """Whoever reads its output has gone, and pictures are missing."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        Image.fromarray(np.full((48, 48, 3), 60 * number, np.uint8)).save(images / f"{number}.png")
    words = ["segment", images, "--preset", "demo", "--classes", "sky; sea", "-o", tmp_path / "out"]
    command = [sys.executable, "-m", "flows.cli", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        assert asked.stdout is not None
        assert asked.stderr is not None
        asked.stdout.close()
        said = asked.stderr.read().decode()
    assert asked.returncode == 1
    assert "sclip: output pipe closed" in said


class TestLeftOut:
    """A file that is damaged costs only its run, in one line on standard error."""

    @pytest.fixture
    def damaged(self, tmp_path):
        for age, run_id in enumerate(["own-aa11", "own-aa22", "own-bb33"]):
            made_run(tmp_path, run_id, {"one": IMAGE, "two": IMAGE}, age=age)
        for table in ("runs", "class_iou"):
            path = tmp_path / "results" / table / "own-aa11.parquet"
            data = bytearray(path.read_bytes())
            data[20] ^= 4
            path.write_bytes(data)
        return tmp_path

    @pytest.mark.parametrize(
        "command",
        [
            ["results"],
            ["query", "from runs", "--format=csv"],
            ["compare", "latest", "latest~1"],
            ["report", "latest", "latest~1"],
        ],
    )
    def test_the_others_are_shown(self, sclip, damaged, command):
        code, out, err = sclip(*command, "--artifacts", damaged)
        assert code == 0, err
        assert "own-aa11" not in out
        path = damaged / "results" / "runs" / "own-aa11.parquet"
        said = [line for line in err.splitlines() if "own-aa11" in line]
        assert len(said) == 1  # however often it was met
        assert said[0].startswith(f"sclip: {path} cannot be read")
        assert "left out: move it away" in said[0]

    def test_all_tables(self, sclip, damaged):
        code, _, err = sclip("query", "--artifacts", damaged)
        assert code == 0
        assert sum("own-aa11" in line for line in err.splitlines()) == 2

    @pytest.mark.parametrize("command", ["compare", "report"])
    def test_the_damaged_run_by_name(self, sclip, damaged, command):
        code, _, err = sclip(command, "own-aa11", "own-bb33", "--artifacts", damaged)
        assert code == 2
        assert err.count("\n") == 1
        assert "own-aa11.parquet cannot be read" in err

    def test_without_a_word_where_it_does_not_matter(self, sclip, damaged):
        code, _, err = sclip("compare", "own-aa22", "own-bb33", "--artifacts", damaged)
        assert (code, err) == (0, "")

    def test_a_folder_that_looks_like_an_address(self, sclip, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        made_run(Path("exp:1"), "own-aa11", {"one": IMAGE})
        for command in (["results"], ["query", "select run_id from runs"], ["report"]):
            code, out, err = sclip(*command, "--artifacts=exp:1")
            assert code == 0, err
            assert "exp:1" in out or "own-aa11" in out
