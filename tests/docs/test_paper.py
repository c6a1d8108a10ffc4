"""docs/paper.md: its commands print what it shows, and its figures are what slow sums give."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from sclip_core import results
from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.demo.scenes.files import write_scenes
from sclip_core.results.past_run import LabelMaps

from .shown import ROOT, Shown, differences, run_again, shown_in

PAGE = ROOT / "docs" / "paper.md"
SCENES = 50
FIRST_THING = 8  # of the classes of the scenes; those before are stuff
VOID = 255


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The page's commands with what each printed, and the folder where they ran."""
    folder = tmp_path_factory.mktemp("paper")
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "docs" / "demo").mkdir(parents=True)
    write_scenes(folder / "artifacts" / "demo" / "scenes-v1", SCENES)
    return folder, [(shown, run_again(shown, folder)) for shown in shown_in(PAGE)]


@pytest.mark.slow
def test_the_page_shows_what_is_printed(printed):
    _, ran = printed
    assert len(ran) > 10
    faults = {shown.command: differences(shown, said) for shown, said in ran}
    assert not any(faults.values()), "\n".join(
        f"$ {command}\n" + "\n".join(found) for command, found in faults.items() if found
    )


@pytest.mark.slow
def test_files_of_the_page_are_there(printed):
    folder, _ = printed
    assert (folder / "docs/demo/paper.pdf").read_bytes().startswith(b"%PDF")
    assert "@inproceedings{wang2024sclip," in (folder / "used.bib").read_text("utf-8")


class Slow:
    """Scores from label maps, pixel by pixel class by class, without the project's own sums."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "artifacts" / "demo" / "scenes-v1"
        self.runs = {run["run_id"]: run for run in results.runs(folder / "artifacts").to_pylist()}

    def digest(self, image: str) -> str:
        return hashlib.sha256((self.root / "images" / f"{image}.jpg").read_bytes()).hexdigest()

    def images(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "images").iterdir())

    def maps(self, run_id: str, image: str) -> tuple[np.ndarray, np.ndarray]:
        """Truth and prediction in the classes of the run; truth is `VOID` where not evaluated."""
        truth = cv2.imread(str(self.root / "labels" / f"{image}.png"), cv2.IMREAD_UNCHANGED)
        if self.runs[run_id]["dataset"] == "things":
            truth = np.where(truth < FIRST_THING, VOID, truth - FIRST_THING)
        stored = LabelMaps(self.folder / "artifacts", self.runs[run_id])
        return truth, stored.read(self.digest(image))

    def counts(self, run_id: str, images: list[str]) -> np.ndarray:
        """(C, 4): right, predicted, labelled pixels of each class, and those of the union."""
        classes = 7 if self.runs[run_id]["dataset"] == "things" else 15
        found = np.zeros((classes, 4), int)
        for image in images:
            truth, guess = self.maps(run_id, image)
            seen = truth != VOID
            for c in range(classes):
                is_c, said_c = seen & (truth == c), seen & (guess == c)
                parts = (is_c & said_c, said_c, is_c, is_c | said_c)
                found[c] += [int(part.sum()) for part in parts]
        return found

    def miou_of_labelled(self, run_id: str, image: str) -> float:
        """MIoU of one image over the classes that its truth has, as Wang et al. (2023) take it."""
        right, _, label, union = self.counts(run_id, [image]).T
        return 100 * float(np.mean(right[label > 0] / union[label > 0]))

    def miou(self, run_id: str, images: list[str] | None = None) -> float:
        right, _, _, union = self.counts(run_id, images or self.images()).T
        return 100 * float(np.mean(right[union > 0] / union[union > 0]))


@pytest.fixture(scope="module")
def slow(printed):
    return Slow(printed[0])


def cells(said: str, *words: str) -> list[list[str]]:
    """The rows of the printed tables that have all the words, as lists of cells."""
    lines = (re.split(r"\s*[│|]\s*", line.strip("│| ")) for line in said.splitlines())
    return [line for line in lines if all(any(word in cell for cell in line) for word in words)]


def said_by(ran: list[tuple[Shown, str]], *words: str) -> str:
    """What the first command with these words printed."""
    return next(said for shown, said in ran if all(word in shown.command for word in words))


@pytest.mark.slow
def test_scores_of_the_runs_and_means_of_the_table(printed, slow):
    _, ran = printed
    miou = {}
    for line in cells(said_by(ran, "sclip run --preset demo --plugins"), "50"):
        run_id = line[-1]
        right, _, label, union = slow.counts(run_id, slow.images()).T
        miou[line[0], line[2], line[3]] = 100 * np.mean(right / union)
        assert float(line[4]) == pytest.approx(100 * np.mean(right / union), abs=0.006)
        assert float(line[6]) == pytest.approx(100 * np.mean(right / label), abs=0.006)
        assert float(line[7]) == pytest.approx(100 * right.sum() / label.sum(), abs=0.006)
    assert len(miou) == 12
    for name in ("vanilla", "csa", "naclip"):
        for steps in ("0", "10"):
            both = [miou[dataset, name, steps] for dataset in ("scenes", "things")]
            [row] = [
                row
                for row in cells(said_by(ran, "table", "plus-minus"), name)
                if row[:2] == [name, steps]
            ]
            shown = [float(re.search(r"\d+\.\d+", cell)[0]) for cell in row[2:]]
            assert shown == pytest.approx([*both, np.mean(both)], abs=0.006)


@pytest.mark.slow
def test_more_numbers(printed, slow):
    _, ran = printed
    said = said_by(ran, "compare")
    a, b = re.findall(r"^[AB]  (\S+)", said, re.MULTILINE)
    for place, run_id in ((1, a), (2, b)):
        right, predicted, label, union = slow.counts(run_id, slow.images()).T
        iou = 100 * right / union
        wanted = {
            "mIoU stuff": iou[:FIRST_THING].mean(),
            "mIoU things": iou[FIRST_THING:].mean(),
            "fwIoU": (label * iou).sum() / label.sum(),
            "mDice": (200 * right / (predicted + label)).mean(),
            "mIoU-I": np.mean([slow.miou_of_labelled(run_id, i) for i in slow.images()]),
        }
        for name, value in wanted.items():
            [row] = [row for row in cells(said, name) if row[0] == name]
            assert float(row[place]) == pytest.approx(value, abs=0.006), name


@pytest.mark.slow
def test_figures_of_the_audit(printed, slow):
    _, ran = printed
    said = said_by(ran, "audit")
    rows = [row for row in cells(said, "scenes-") if len(row) == 9]
    assert [row[0] for row in rows] == [
        *("own", "plain", "draw-1", "draw-2", "draw-3", "all", "open", "closed")
    ]
    own = Vocabulary.named("scenes")
    assert [int(row[2]) for row in rows[:2]] == [len(own.queries), own.num_classes]
    values = {row[0]: slow.miou(row[-1]) for row in rows}
    for name, _, _, miou, _, change, worst, lowest, run_id in rows:
        assert float(miou) == pytest.approx(values[name], abs=0.006), name
        if change.split()[0] not in ("-", "same"):
            difference = values[name] - values["own"]
            assert float(change.split()[0]) == pytest.approx(difference, abs=0.006), name
        right, _, _, union = slow.counts(run_id, slow.images()).T
        assert own.class_names[int(np.argmin(right / union))] == worst
        assert float(lowest) == pytest.approx(100 * min(right / union), abs=0.006)
    spread = max(values.values()) - min(values.values())
    assert float(re.search(r"spread over 8 lists: (\S+)", said)[1]) == pytest.approx(
        spread, abs=0.006
    )


@pytest.mark.slow
def test_figures_of_tuning(printed, slow):
    _, ran = printed
    said = said_by(ran, "tune")
    tuning = [
        image
        for image in slow.images()
        if int(hashlib.sha256(f"3:{slow.digest(image)}".encode()).hexdigest()[:16], 16) < 1 << 63
    ]
    rest = [image for image in slow.images() if image not in tuning]
    assert f"tuning part: {len(tuning)} of 50 images, other part: {len(rest)} " in said
    rows = {row[-1]: row for row in cells(said, "scenes-") if len(row) == 6}
    assert len(rows) == 12
    scored = {
        run_id: [slow.miou(run_id, part) for part in (tuning, rest, slow.images())]
        for run_id in rows
    }
    for run_id, values in scored.items():
        shown = [float(cell.lstrip("* ")) for cell in rows[run_id][2:5]]
        assert shown == pytest.approx(values, abs=0.006)
    winner = max(scored, key=lambda run_id: scored[run_id][0])
    assert f"held out: mIoU {scored[winner][1]:.2f} " in said
    naive = max(values[2] for values in scored.values())
    assert f"on all 50 images: mIoU {naive:.2f} " in said
    best = max(values[1] for values in scored.values())
    assert f"optimism: {best - scored[winner][1]:+.2f}: " in said


@pytest.mark.slow
def test_label_maps_of_another_tool_are_scored_as_the_run(printed):
    _, ran = printed
    run = next(r for r in cells(said_by(ran, "sclip run --preset"), "csa") if r[3] == "0")
    for name, place in (("mIoU", 4), ("mAcc", 6), ("aAcc", 7)):
        [row] = cells(said_by(ran, "sclip score"), name)
        assert row[1] == run[place]


def test_a_page_that_shows_something_else_is_noticed():
    shown = Shown("sclip x", ("│ csa │ 10 │ 84.76 │ 4.1 s │", "...", "the end 3"))
    assert not differences(shown, "│ csa   │ 10 │ 84.80 │ cached │\nmore\nthe end 3\n")
    assert differences(shown, "│ csa │ 10 │ 85.76 │ 4.1 s │\nmore\nthe end 3\n")
    assert differences(shown, "│ vanilla │ 10 │ 84.76 │ 4.1 s │\nthe end 3\n")
    assert differences(shown, "│ csa │ 10 │ 84.76 │ 4.1 s │\nthe end 3\nand more\n")
    assert differences(Shown("sclip x", ("a", "b")), "a\n")
    assert not differences(Shown("sclip x", ()), "anything\n")
