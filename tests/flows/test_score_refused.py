"""``sclip score`` on bad input: one line, exit code 2, and no row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sclip_core.config import UserError
from sclip_core.pipeline.scoring import score

from .conftest import flags, write_own

RLE = {"size": [48, 64], "counts": [0, 48 * 64]}


@pytest.fixture
def given(small: Path, tmp_path: Path) -> list[str]:
    chosen = flags(small, tmp_path / "artifacts")
    return [f for f in chosen if not f.startswith(("--model", "--pretrained"))]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Predictions of the three images."""
    folder = tmp_path / "out"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((48, 64), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def emptied(out: Path) -> None:
    for path in out.iterdir():
        path.unlink()


def array(content: np.ndarray) -> Callable[[Path], None]:
    def put(out: Path) -> None:
        (out / "1.png").unlink()
        np.save(out / "1.npy", content)

    return put


def picture(content: np.ndarray) -> Callable[[Path], None]:
    return lambda out: Image.fromarray(content).save(out / "1.png")


def cut(out: Path) -> None:
    data = (out / "1.png").read_bytes()
    (out / "1.png").write_bytes(data[: len(data) // 2])


def only_json(content: object) -> Callable[[Path], None]:
    def put(out: Path) -> None:
        emptied(out)
        text = content if isinstance(content, str) else json.dumps(content)
        (out / "found.json").write_text(text)

    return put


def segments(**changed: object) -> list[dict[str, object]]:
    return [{"image_id": i, "category_id": 0, "segmentation": RLE, **changed} for i in range(3)]


def also(name: str, content: str) -> Callable[[Path], None]:
    def put(out: Path) -> None:
        (out / name).write_text(content)

    return put


def renamed(name: Callable[[Path], str]) -> Callable[[Path], None]:
    def rename(out: Path) -> None:
        for path in list(out.iterdir()):
            path.rename(out / name(path))

    return rename


PHOTO = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty folder": (emptied, "holds no prediction: expected .png .tif .tiff .bmp .npy .gif or"),
    "JPEG": (
        renamed(lambda path: f"{path.stem}.jpg"),
        "there are 3 .jpg; JPEG blurs labels, save PNG",
    ),
    "another set's folder": (
        renamed(lambda path: f"x{'abc'[int(path.stem)]}.png"),
        "has a prediction of none of 3 images: expected names as 0.png, found xa.png; if they",
    ),
    "cut PNG": (cut, "1.png"),
    "no image": (also("1.png", "not a png"), "1.png is not a label map"),
    "probabilities": (
        array(np.full((48, 64), 0.5)),
        "3,072 pixels are no whole number, such as 0.5",
    ),
    "scores of classes": (
        array(np.zeros((3, 48, 64))),
        "1.npy is an array of the shape (3, 48, 64)",
    ),
    "another size": (
        picture(np.zeros((24, 32), np.uint8)),
        "1.png is 32x24 pixels (width x height), the label map of 1 64x48: predictions are scored",
    ),
    "turned": (picture(np.zeros((64, 48), np.uint8)), "(width and height are swapped)"),
    "a value outside": (
        picture(np.full((48, 64), 3, np.uint8)),
        "1.png: 3,072 pixels have a value without a class: 3 (3,072 px); expected 0..2 (3 classes)",
    ),
    "a photograph": (picture(PHOTO), "1.png is not single-channel"),
    "two files of an image": (
        lambda out: np.save(out / "1.npy", np.zeros((48, 64), int)),
        "holds 1.npy and 1.png, both of 1: expected one prediction an image",
    ),
    "no COCO": (only_json({"a": 1}), "found.json is not COCO's: expected COCO's results, a list"),
    "no JSON": (only_json("{"), "found.json is not valid JSON"),
    "no class": (
        only_json(segments(category_id=7)),
        "found.json: category 7 is no class: expected 0..2 (3 classes)",
    ),
    "a name that is no class": (
        only_json(
            {
                "images": [{"id": i, "file_name": f"{i}.png"} for i in range(3)],
                "categories": [{"id": 0, "name": "zebra"}],
                "annotations": segments(),
            }
        ),
        "unknown category 'zebra'",
    ),
    "other images": (
        only_json([{**each, "image_id": 1000 + n} for n, each in enumerate(segments())]),
        "found.json has none of the images: it lists 3",
    ),
    "run lengths of another size": (
        only_json(segments(segmentation={"size": [4, 4], "counts": [16]})),
        "a mask of 4x4 pixels (width x height), the image has 64x48",
    ),
    "a score that is no number": (
        only_json(segments(score="0.5")),
        "segment 0: 'score' is '0.5'; expected a number, or no score in the whole file",
    ),
    "a score that none is compared with": (
        only_json(segments(score=float("nan"))),
        "segment 0: 'score' is nan; expected a number",
    ),
    "a score beyond floats": (only_json(segments(score=10**400)), "segment 0: 'score' is 1000"),
    "boxes alone": (only_json(segments(segmentation=None)), "boxes alone do not tell"),
    "no PNGs": (
        only_json([{"image_id": 0, "file_name": "0.png", "segments_info": []}]),
        "the PNGs of a panoptic file are expected in a folder of its name beside it",
    ),
    "JSON and label maps": (
        also("found.json", json.dumps(segments())),
        "holds both found.json and label maps such as 0.png: pass the file",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_predictions_are_one_line(case, out, given, sclip, tmp_path):
    spoil, expected = BAD[case]
    spoil(out)
    code, said, err = sclip("score", "--predictions", out, *given)
    lines = [line for line in err.splitlines() if line.startswith("sclip: ")]
    assert (code, said, len(lines)) == (2, "", 1)
    assert expected in lines[0]
    assert not list((tmp_path / "artifacts").glob("results/*/*"))


OPTIONS = {
    "--predictions=nowhere": "--predictions nowhere does not exist: expected a folder or a JSON",
    "--prediction-values=1,2": "has 2 different numbers and there are 3 classes",
    "--prediction-values=some": "expected classes, raw, or the number of each class",
    "--prediction-pattern=pred_": "expected {id} in it",
    "--name= ": "expected 1 to 100 characters",
    "--prediction-palette=nowhere.txt": "cannot read the list of colours nowhere.txt",
    "--attention=csa": "--attention",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_bad_options_are_one_line(option, out, given, sclip):
    where = [] if option.startswith("--predictions") else ["--predictions", str(out)]
    code, _, err = sclip("score", *where, *given, option)
    assert code == 2
    assert OPTIONS[option] in err
    assert len(err.splitlines()) == 1


def test_data_without_ground_truth_is_refused(out, given, sclip):
    without = [f for f in given if not f.startswith("--labels")]
    code, _, err = sclip("score", "--predictions", out, *without)
    assert (code, "--labels is missing" in err) == (2, True)


def test_numbers_of_the_label_maps_are_hinted_at_and_read(tmp_path):
    """As ADE20K's: maps that count from 1, and predictions in the same numbers."""
    own = write_own(tmp_path / "own", 2)
    out = tmp_path / "out"
    out.mkdir()
    for path in (own / "labels").iterdir():
        labels = np.asarray(Image.open(path)) + 1
        Image.fromarray(labels.astype(np.uint8)).save(path)
        Image.fromarray(labels.astype(np.uint8)).save(out / path.name)
    data = {
        **{name: own / name for name in ("images", "labels")},
        "classes": own / "classes.txt",
        "artifacts": tmp_path / "artifacts",
        "reduce_zero_label": True,
    }
    with pytest.raises(UserError, match=r"own numbers, 1\.\.3, pass --prediction-values raw"):
        score(out, **data)
    found = score(out, values="raw", **data)
    assert found.row["miou"] == 100
    Image.fromarray(np.full((48, 64), 9, np.uint8)).save(out / "0.png")
    with pytest.raises(UserError, match="leave --prediction-values out"):
        score(out, values="raw", **data)
    with pytest.raises(UserError, match="missing 'never': expected refuse, skip, empty"):
        score(out, missing="never", **data)  # type: ignore[arg-type]
