"""The sclip command, as a user types it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from sclip_core import SCLIP, read_image
from sclip_core.report.summary import score_intervals
from sclip_core.results import runs

from ..conftest import TINY
from .conftest import flags

MODEL = [f"--{name}={value}" for name, value in TINY.items()]


def stages(plan: str) -> dict[str, str]:
    return {stage["stage"]: stage["state"] for stage in json.loads(plan)}


def test_run_then_plan_then_results(own, tmp_path, sclip):
    settings = flags(own, tmp_path / "artifacts")
    code, out, err = sclip("run", "--direct", *settings, "--save-vis", tmp_path / "vis")
    assert code == 0, err
    assert "mIoU" in out
    assert "computed" in out
    assert sorted(p.name for p in (tmp_path / "vis").iterdir()) == ["0.png", "1.png", "2.png"]

    code, out, _ = sclip("plan", *settings, "--json")
    assert code == 0
    assert set(stages(out).values()) == {"complete"}
    assert set(json.loads(out)[0]) == {
        "stage", "key", "state", "reason", "path", "done", "total"
    }  # fmt: skip

    code, out, _ = sclip("plan", *settings, "--pamr-steps=5", "--json")
    assert stages(out) == {
        "text_bank": "complete",
        "dense_features": "complete",
        "refine": "missing",
        "metrics": "missing",
        "results": "missing",
    }
    assert "pamr_steps 0 -> 5" in out

    code, out, _ = sclip("results", "--artifacts", tmp_path / "artifacts")
    assert code == 0
    assert "custom-" in out


def test_several_values_side_by_side(own, tmp_path, sclip):
    settings = flags(own, tmp_path / "artifacts", attention="csa,kk", pamr_steps="0,2")
    code, out, err = sclip("run", "--direct", *settings)
    assert code == 0, err
    assert re.search(
        r"attention .* pamr_steps .* mIoU .* mAcc .* aAcc .* encode .* refine .* run", out
    )
    rows = re.findall(r"│ (csa|kk) +│ ([02]) +│ +([\d.]+) │.*│ (custom-\w+) │", out)
    assert [row[:2] for row in rows] == [("csa", "0"), ("csa", "2"), ("kk", "0"), ("kk", "2")]
    assert len({row[2] for row in rows}) > 2
    listed = sclip("results", "--artifacts", tmp_path / "artifacts")[1]
    assert all(row[3] in listed for row in rows)

    code, out, _ = sclip("plan", *settings, "--json")
    planned = [status["stage"] for status in json.loads(out)]
    assert sorted(planned) == sorted(
        ["text_bank"] + ["dense_features"] * 2 + ["refine", "metrics", "results"] * 4
    )
    assert {status["state"] for status in json.loads(out)} == {"complete"}


def test_methods_side_by_side(own, tmp_path, sclip):
    """One row a method, also for an attention, with an interval where there are images enough."""
    artifacts, root = tmp_path / "artifacts", tmp_path / "six"
    shutil.copytree(own, root)
    for folder in ("images", "labels"):
        for number in range(3):
            turned = cv2.imread(str(own / folder / f"{number}.png"), cv2.IMREAD_UNCHANGED)[::-1]
            cv2.imwrite(str(root / folder / f"{number + 3}.png"), turned)
    settings = flags(root, artifacts, method="csa,sc-clip,pearl")
    code, out, err = sclip("run", "--direct", *settings)
    assert code == 0, err
    head = next(line for line in out.splitlines() if "mIoU" in line)
    names = [name.strip() for name in head.split("┃")[1:-1]]
    assert names == ["method", "mIoU", "[95 %]", "mAcc", "aAcc", "encode", "refine", "run"]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    found = {row[0]: row for row in rows if len(row) == len(names)}
    assert list(found) == ["csa", "sc-clip", "pearl"]

    listed = {row["run_id"]: row for row in runs(artifacts).to_pylist()}
    of = {name: listed[row[-1]] for name, row in found.items()}
    assert [of[name]["attention"] for name in of] == ["csa", None, None]
    assert [of[name]["method"] for name in of] == [None, "sc-clip", "pearl"]
    assert [of[name]["refiner"] for name in of] == [None, None, "tlp"]
    assert {row["ingredients"] for row in of.values()} == {"CLIP alone"}
    for name, row in found.items():
        expected = score_intervals(row[-1], artifacts)["mIoU"].partition(" ")[2]
        assert row[2] == expected
        assert re.fullmatch(r"\[[\d.]+, [\d.]+\]", row[2])
        assert row[1] == f"{of[name]['miou']:.2f}"
    out = sclip("results", "--artifacts", artifacts)[1]
    assert re.search(r"┃ method +┃", out)
    assert not re.search(r"┃ (attention|ingredients) +┃", out)


def test_a_grid_side_by_side(own, tmp_path, sclip):
    """Values that change no label are one run: said by run and by plan, and shown as a dash."""
    grid = {"pamr_steps": "0,2", "pamr_dilations": "8,16;1,2", "logit_scale": "30,40"}
    settings = flags(own, tmp_path / "artifacts", **grid, prob_thd="0,0.3")
    code, out, err = sclip("run", "--direct", *settings)
    assert code == 0, err
    rows = re.findall(r"│ ([02]) +│ (\S+) +│ (\S+) +│ (\S+) +│ +[\d.]+ │", out)
    assert rows == [
        (steps, dilations, scale, threshold)
        for steps, dilations in (("0", "-"), ("2", "8,16"), ("2", "1,2"))
        for scale, threshold in (("-", "0"), ("30", "0.3"), ("40", "0.3"))
    ]
    code, out, err_of_plan = sclip("plan", *settings, "--json")
    assert code == 0
    whose = {status["reason"].split(":")[0] for status in json.loads(out)}
    assert "pamr_steps 0, prob_thd 0" in whose
    assert "pamr_steps 2, pamr_dilations 1,2, logit_scale 30, prob_thd 0.3" in whose
    assert {status["state"] for status in json.loads(out)} == {"complete"}
    for said in (err, err_of_plan):
        notes = [line for line in said.splitlines() if line.startswith("note: ")]
        assert len(notes) == 4
        assert "prob_thd 0.3: less probable pixels become 'sky'" in notes[2]
        assert "was not trained with 'lawn', 'crate', 'cone'" in notes[3]
        assert "pamr_dilations changes no label without PAMR" in notes[0]
        assert "logit_scale changes no label without prob_thd: 30 and 40" in notes[1]


def test_plan_computes_nothing(own, tmp_path, sclip):
    code, out, _ = sclip("plan", *flags(own, tmp_path / "artifacts"), "--json")
    assert code == 0
    assert set(stages(out).values()) == {"missing"}
    assert not list((tmp_path / "artifacts").glob("*/*"))


def test_scores_are_those_of_torchmetrics(own, tmp_path, sclip):
    """The whole way: files in, Parquet out, against another implementation of the metric."""
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    root = tmp_path / "artifacts"
    # words that the tiny CLIP knows: all others are one to it, and rounding would decide
    classes = ["sky, clouds", "grass", "road", "person, rider", "car", "traffic light"]
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    given = flags(own, root, prob_thd=0, classes=tmp_path / "classes.txt")
    assert sclip("run", "--direct", *given)[0] == 0
    unlabelled = [flag for flag in given if not flag.startswith("--labels=")]
    saving = f"--save-vis={tmp_path / 'saved'}"
    assert sclip("run", "--direct", *unlabelled, saving)[0] == 0  # the label maps that were scored
    model = SCLIP.load(**TINY, device="cpu")
    metric = MulticlassJaccardIndex(len(classes), average="none", ignore_index=255)
    for path in sorted((own / "images").iterdir()):
        saved, truth = (
            cv2.imread(str(folder / path.name), cv2.IMREAD_UNCHANGED)
            for folder in (tmp_path / "saved" / "labels", own / "labels")
        )
        metric.update(torch.from_numpy(saved)[None], torch.from_numpy(truth)[None])
        segmented = model.segment(read_image(path), classes=classes).labels
        assert (saved == segmented).mean() > 0.999  # the stored features are fp16
    iou = pq.read_table(root / "results" / "class_iou").to_pylist()
    ours = [row["iou"] for row in sorted(iou, key=lambda row: row["class_id"])]
    np.testing.assert_allclose(ours, 100 * metric.compute(), atol=1e-4)
    row = pq.read_table(root / "results" / "runs").to_pylist()[0]
    assert row["miou"] == pytest.approx(np.mean(ours))
    areas = pq.read_table(root / "results" / "image_areas").to_pylist()
    correct, labelled = (sum(row[name] for row in areas) for name in ("intersect", "label"))
    assert row["aacc"] == pytest.approx(100 * correct / labelled)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--pamr"], "pamr_steps", 10),
        (["--use-pamr", "--pamr-steps", "3", "--pamr-dilations", "1,2"], "pamr_dilations", (1, 2)),
        (["--preset=vitl14-336", "--no-pamr"], "pamr_steps", 0),
        (["--preset=vitl14-336", "--no-use-pamr"], "pamr_steps", 0),
        (["--preset=vitl14-336"], "model", "ViT-L-14-336"),
        (["--preset=vitl14-336"], "slide_crop", 336),
        (["--no-slide"], "slide_crop", 0),
        (["--no-slide-inference"], "slide_crop", 0),
        (["--slide-inference"], "slide_crop", 224),
        (["--dataset", "coco-stuff"], "dataset", "coco_stuff"),
        (["--dataset", "coco_stuff"], "short_side", 448),
        (["--dataset", "voc21"], "logit_scale", 65),
        (["--dataset", "voc21", "--logit-scale", "30"], "logit_scale", 30),
        (["--preset", "voc21"], "area_thd", 0.1),
        (["--force", "refine,metrics"], "force", ("refine", "metrics")),
        (["--ignore-label", "255,11"], "ignore_label", (255, 11)),
    ],
)
def test_flags(monkeypatch, sclip, tmp_path, arguments, field, value):
    from sclip_core.pipeline.run import Run

    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(Run, "several", lambda settings, _: seen.append(settings) or 1 / 0)
    if not any(word.startswith(("--dataset", "--preset=voc")) for word in arguments):
        arguments = ["--dataset", "voc20", *arguments] if "voc21" not in arguments else arguments
    assert sclip("run", "--direct", *arguments)[0] == 1
    assert getattr(seen[0][0], field) == value


def test_results_and_query_import_neither_prefect_nor_torch():
    code = (
        "import sys; from flows.cli import main; main(['results']); main(['query', 'select 1']); "
        "assert not {'prefect', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_model_imports_neither_zarr_nor_pyarrow_and_core_no_prefect():
    code = (
        "import sys, sclip_core.model; "
        "assert not {'zarr', 'pyarrow', 'prefect'} & set(sys.modules); "
        "import sclip_core.pipeline.pipeline; "
        "assert not {'prefect', 'flows'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_answer_with_two_columns_of_one_name_and_many_rows(capsys):
    import pyarrow as pa

    from flows.cli.console import console
    from flows.cli.tables import MOST_ROWS, rows_table

    values = pa.array(range(MOST_ROWS + 5))
    console().print(rows_table(pa.Table.from_arrays([values, values], names=["n", "n"])))
    out = capsys.readouterr().out
    assert f"│ {MOST_ROWS - 1} │ {MOST_ROWS - 1} │" in out
    assert "and 5 rows more" in " ".join(out.split())


def test_the_files_of_all_runs_have_the_same_types(own, tmp_path, sclip):
    for more in ([], ["--num-samples=2"], ["--pamr"]):
        assert sclip("run", "--direct", *flags(own, tmp_path / "artifacts"), *more)[0] == 0
    files = sorted((tmp_path / "artifacts" / "results" / "runs").glob("*.parquet"))
    schemas = [pq.read_schema(file) for file in files]
    assert len(schemas) == 3
    assert all(schema.equals(schemas[0]) for schema in schemas)
    assert not [field.name for field in schemas[0] if str(field.type) == "null"]


class TestStreams:
    """Output that takes nothing, and names that it has no signs for."""

    @pytest.fixture
    def said(self, scenes_runs):
        """What a command in a shell of its own prints: (exit code, output, errors)."""

        def command(words, redirect="", **variables):
            line = (
                f"exec {sys.executable} -m flows.cli {words} --artifacts {scenes_runs} {redirect}"
            )
            environment = {**os.environ, "PYTHONUNBUFFERED": "", **variables}
            done = subprocess.run(line, shell=True, capture_output=True, env=environment)
            return done.returncode, done.stdout.decode(), done.stderr.decode()

        return command

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
    @pytest.mark.parametrize(
        "words",
        ["results", "query", "compare latest latest~1", "--version"]
        + [f"query 'from image_areas' --format {kind}" for kind in ("csv", "json", "parquet")],
    )
    @pytest.mark.slow
    def test_a_full_device(self, said, words):
        full = "sclip: the output cannot be written: No space left on device\n"
        assert said(words, ">/dev/full") == (1, "", full)

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
    def test_a_full_device_that_shows_at_the_end(self, said, tmp_path):
        code, _, err = said(f"query 'select 1' -o {tmp_path}/x.csv", ">/dev/full")
        assert code == 1
        assert err == "sclip: the output cannot be written: No space left on device\n"

    def test_closed_output(self, said):
        code, _, err = said("results", ">&-")
        assert code == 1
        assert err == "sclip: standard output is closed: leave it open, or send it to /dev/null\n"

    def test_closed_errors(self, said):
        code, out, _ = said("results", "2>&-")
        assert code == 0
        assert "mIoU" in out
        assert said("results --dataset nowhere", "2>&-") == (2, "", "")

    def test_signs_that_the_output_lacks(self, said):
        code, out, err = said("query \"select 'é' as x\"", PYTHONIOENCODING="ascii")
        assert (code, err) == (0, "")
        assert r"\xe9" in out
        code, _, err = said("results --dataset é", PYTHONIOENCODING="ascii")
        assert code == 2
        assert err.startswith(r"sclip: no runs on \xe9")
        out = said("query \"select 'é' as x\" --format json", PYTHONIOENCODING="ascii")[1]
        assert json.loads(out) == [{"x": "é"}]  # a program reads UTF-8

    def test_a_line_that_would_move_the_cursor(self, sclip):
        err = sclip("results", "--\x1b[2Jnothing")[2]
        assert r"\x1b[2J" in err
        assert "\x1b" not in err


class TestTheSystemRefuses:
    """An ``OSError`` that nobody expected."""

    @pytest.fixture
    def raised(self, sclip, scenes_runs, monkeypatch):
        """Exit code and errors of a command in which this is raised."""

        def command(error):
            def fail(*_):
                raise error

            monkeypatch.setattr("sclip_core.results.files.read_runs", fail)
            code, _, err = sclip("results", "--artifacts", scenes_runs)
            return code, err

        return command

    def test_no_permission(self, raised):
        code, err = raised(PermissionError(13, "Permission denied", "a/digests\x1b.jsonl"))
        assert code == 2
        line = r"sclip: a/digests\x1b.jsonl: Permission denied; fix that and run again"
        assert err == line + "\n"

    @pytest.mark.parametrize(
        "error",
        [
            FileNotFoundError(2, "No such file or directory", "ours"),
            ConnectionResetError(104, "Connection reset by peer"),
            ValueError("ours"),
        ],
    )
    def test_a_fault_of_ours(self, raised, error):
        code, err = raised(error)
        assert code == 1
        assert "Traceback" in err
        assert err.endswith("internal error, see above; please report it; no artifact is lost\n")
