"""Strange images work as the reference's reader takes them; bad ones do not cost the others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sclip_core import SCLIP

from ..conftest import TINY
from ..pictures import scene
from .conftest import flags, write_own

PICTURE = scene(7)[0][150:198, 100:164]  # BGR (48, 64, 3)
LABELS = scene(7)[1][150:198, 100:164] % 3
ROOT = str(Path(__file__).parents[2])
CLASSES = ["sky", "grass", "road"]
BATCHES_OF_ONE = ["--batch-size=1", "--workers=0"]


def pillow(path: Path, mode: str = "RGB", **options: object) -> None:
    Image.fromarray(PICTURE[..., ::-1]).convert(mode).save(path, **options)


def turned(path: Path) -> None:
    """A photograph whose EXIF tag turns it by 90 degrees."""
    exif = Image.Exif()
    exif[0x112] = 6
    pillow(path, exif=exif)


def with_alpha(path: Path) -> None:
    alpha = np.random.default_rng(0).integers(0, 255, PICTURE.shape[:2], np.uint8)
    cv2.imwrite(str(path), np.dstack([PICTURE, alpha]))


def sixteen_bits(path: Path) -> None:
    cv2.imwrite(str(path), PICTURE.astype(np.uint16) * 257)


STRANGE = {
    "cmyk.jpg": lambda path: pillow(path, "CMYK"),
    "grey.jpg": lambda path: pillow(path, "L"),
    "grey.png": lambda path: pillow(path, "L"),
    "palette.png": lambda path: pillow(path, "P"),
    "alpha.png": with_alpha,
    "sixteen.png": sixteen_bits,
    "sixteen.tif": sixteen_bits,
    "turned.jpg": turned,
    "one.png": lambda path: cv2.imwrite(str(path), PICTURE[:1, :1]),
    "webp.webp": lambda path: cv2.imwrite(str(path), PICTURE),
    "-dash and space.png": lambda path: cv2.imwrite(str(path), PICTURE),
    "line\nbreak.png": lambda path: path.write_bytes(cv2.imencode(".png", PICTURE)[1]),
    "ünïcode 猫 🐈.png": lambda path: path.write_bytes(cv2.imencode(".png", PICTURE)[1]),
    "[bold]|name.png": lambda path: path.write_bytes(cv2.imencode(".png", PICTURE)[1]),
    "x" * 251 + ".png": lambda path: path.write_bytes(cv2.imencode(".png", PICTURE)[1]),
}


def runs(artifacts: Path) -> list[dict]:
    """The rows of the table ``runs``, in the order of writing."""
    rows = pq.read_table(artifacts / "results" / "runs").to_pylist()
    return sorted(rows, key=lambda row: row["created_at"])


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> Path:
    """Artifacts with the text bank of the three classes, to begin with."""
    from flows import cli

    root = tmp_path_factory.mktemp("words")
    own = write_own(root / "own", 1)
    assert cli.main(["run", "--direct", *flags(own, root / "artifacts")]) == 0
    return root / "artifacts" / "text_bank"


@pytest.fixture
def data(tmp_path) -> Path:
    """Two good images, the first and the last by name."""
    own = write_own(tmp_path / "own", 2)
    for folder in ("images", "labels"):
        (own / folder / "1.png").rename(own / folder / "zz.png")
    return own


@pytest.fixture
def run(sclip, data, words, tmp_path):
    """A direct run over the images: (exit code, lines for the user, all lines with progress)."""
    shutil.copytree(words, tmp_path / "artifacts" / "text_bank")

    def command(*arguments: object) -> tuple[int, list[str], list[str]]:
        code, _, err = sclip("run", "--direct", *flags(data, tmp_path / "artifacts"), *arguments)
        assert "Traceback" not in err
        lines = err.splitlines()
        return code, [line for line in lines if line.startswith("sclip: ")], lines

    return command


def test_strange_images_work(run, data, tmp_path):
    """Labelled as the whole way through ``cv2.imread`` in colour would label them."""
    for name, write in STRANGE.items():
        path = data / "images" / f"dir {Path(name).suffix[1:]}" / name
        path.parent.mkdir(exist_ok=True)
        write(path)
        shape = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR).shape[:2]
        target = data / "labels" / path.parent.name / f"{path.stem}.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(cv2.imencode(".png", cv2.resize(LABELS, shape[::-1], None, 0, 0, 0))[1])
    assert run("--short-side=64", "--save-vis", tmp_path / "vis")[:2] == (0, [])
    (row,) = runs(tmp_path / "artifacts")
    assert (row["num_images"], row["num_failed"]) == (len(STRANGE) + 2, 0)
    assert len(list((tmp_path / "vis").rglob("*.png"))) == len(STRANGE) + 2

    model = SCLIP.load(**TINY, device="cpu")
    areas = pq.read_table(tmp_path / "artifacts" / "results" / "image_areas").to_pylist()
    for name in STRANGE:
        image_id = f"dir {Path(name).suffix[1:]}/{Path(name).stem}"
        image = np.fromfile(data / "images" / Path(image_id).parent / name, np.uint8)
        image = cv2.imdecode(image, cv2.IMREAD_COLOR)[..., ::-1].copy()
        labels = model.segment(image, classes=CLASSES, short_side=64).labels
        found = np.zeros(3)
        for area in areas:
            if area["image_id"] == image_id:
                found[area["class_id"]] = area["prediction"]
        expected = np.bincount(labels.ravel(), minlength=3)
        assert np.abs(found - expected).sum() <= 0.01 * labels.size + 1, name  # features are fp16


def good(data: Path, name: str = "bad", ending: str = "png") -> tuple[Path, Path]:
    image, label = data / "images" / f"{name}.{ending}", data / "labels" / f"{name}.png"
    cv2.imwrite(str(image), PICTURE)
    cv2.imwrite(str(label), LABELS)
    return image, label


def truncated(data: Path) -> None:
    image, _ = good(data, ending="jpg")
    image.write_bytes(image.read_bytes()[:600])


def empty(data: Path) -> None:
    good(data)[0].write_bytes(b"")


def text(data: Path) -> None:
    good(data)[0].write_text("<html>404</html>")


def too_thin(data: Path) -> None:
    image, label = good(data)
    cv2.imwrite(str(image), np.zeros((1, 5000, 3), np.uint8))
    cv2.imwrite(str(label), np.zeros((1, 5000), np.uint8))


def link_to_nowhere(data: Path) -> None:
    image, _ = good(data)
    image.unlink()
    image.symlink_to("nowhere")


def a_pipe(data: Path) -> None:
    image, _ = good(data)
    image.unlink()
    os.mkfifo(image)


def other_size(data: Path) -> None:
    cv2.imwrite(str(good(data)[1]), LABELS[:-3])


def turned_by_exif(data: Path) -> None:
    image, _ = good(data, ending="jpg")
    turned(image)


def beyond_the_classes(data: Path) -> None:
    cv2.imwrite(str(good(data)[1]), LABELS + 1)


def in_colour(data: Path) -> None:
    cv2.imwrite(str(good(data)[1]), PICTURE)


def truncated_label(data: Path) -> None:
    _, label = good(data)
    label.write_bytes(label.read_bytes()[:-30])


def empty_label(data: Path) -> None:
    good(data)[1].write_bytes(b"")


BAD = {
    truncated: ["bad.jpg is damaged", "its end is missing", "copy or download it again"],
    empty: ["bad.png is empty (0 bytes)", "copy or download"],
    text: ["bad.png is damaged or not an image", "expected JPEG, PNG"],
    too_thin: ["bad: the image of 1×5000 pixels", "less than one patch", "crop it"],
    link_to_nowhere: ["bad.png cannot be read: No such file"],
    a_pipe: ["bad.png is not a file"],
    other_size: ["bad.png: the image is 64x48", "label map 64x45", "expected the same size"],
    turned_by_exif: ["the image is 48x64", "EXIF rotation", "save the image upright"],
    beyond_the_classes: ["bad.png", "without a class: 3", "expected 0..2", "--ignore-label"],
    in_colour: ["bad.png is not single-channel (Pillow mode RGB)", "grey or palette PNG"],
    truncated_label: ["bad.png is damaged", "its end is missing"],
    empty_label: ["bad.png is empty (0 bytes)"],
}


def ids(artifacts: Path, stage: str) -> list[str]:
    """Of the rows that a stage has stored, whatever the settings."""
    lines = [line for path in artifacts.glob(f"{stage}/*/ledger.jsonl") for line in path.open()]
    return [row["id"] for line in lines for row in json.loads(line)["rows"]]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_image_does_not_cost_the_others(run, data, tmp_path, spoil):
    spoil(data)
    artifacts = tmp_path / "artifacts"
    code, (line,), _ = run()
    assert code == 1
    assert line.startswith("sclip: left out: ")
    for words in ("bad", *BAD[spoil]):
        assert words in line
    (row,) = runs(artifacts)
    assert (row["num_images"], row["num_failed"]) == (2, 1)

    code, lines, progress = run()
    assert (code, lines) == (1, [line])
    assert runs(artifacts) == [row]
    assert {text.split()[1] for text in progress if "to do" in text} <= {"1"}  # that image alone

    for folder in ("images", "labels"):
        next((data / folder).glob("bad.*")).unlink()
    good(data)
    assert run()[:2] == (0, [])
    assert (runs(artifacts)[-1]["num_images"], runs(artifacts)[-1]["num_failed"]) == (3, 0)
    assert len(ids(artifacts, "metrics")) == 3
    for stage in ("dense_features", "refine", "metrics"):
        assert len(set(ids(artifacts, stage))) == len(ids(artifacts, stage))


def test_every_bad_image_is_named(run, data, tmp_path):
    """Two files of the same bytes are two images."""
    empty(data)
    shutil.copy(data / "images" / "bad.png", data / "images" / "worse.png")
    shutil.copy(data / "labels" / "bad.png", data / "labels" / "worse.png")
    code, lines, _ = run()
    assert code == 1
    assert [name in line for name, line in zip(("bad", "worse"), lines, strict=True)] == [True] * 2
    assert runs(tmp_path / "artifacts")[0]["num_failed"] == 2


def test_the_same_images_without_the_bad_one_are_another_run(run, data, tmp_path):
    empty(data)
    for folder in ("images", "labels"):
        (data / folder / "zz.png").rename(data / folder / "a.png")
    assert run()[0] == 1
    assert run("--num-samples=2")[0] == 0
    failed = [(row["num_images"], row["num_failed"]) for row in runs(tmp_path / "artifacts")]
    assert failed == [(2, 1), (2, 0)]


@pytest.mark.parametrize(
    ("spoil", "stage"), [(truncated, "dense_features"), (other_size, "metrics")]
)
def test_strict(run, data, tmp_path, spoil, stage):
    spoil(data)
    code, (line,), _ = run("--strict", *BATCHES_OF_ONE)
    assert code == 2
    assert "bad" in line
    assert "--strict: stopped here; what was computed is kept" in line
    assert len(ids(tmp_path / "artifacts", stage)) == 1  # "0", not "zz", which comes after it
    assert not (tmp_path / "artifacts" / "results").exists()
    code, _, progress = run()
    assert code == 1
    assert f"{stage}: 2 of 3 images to do" in progress


@pytest.mark.parametrize("spoil", [truncated, too_thin, a_pipe])
def test_all_images_bad(run, data, spoil):
    for folder in ("images", "labels"):
        shutil.rmtree(data / folder)
        (data / folder).mkdir()
    spoil(data)
    code, (line,), _ = run()
    assert code == 2
    assert "none of 1 image could be used" in line
    for words in BAD[spoil]:
        assert words in line


@pytest.mark.parametrize(
    ("labels", "why"), [(PICTURE, "not single-channel"), (LABELS[:-3], "its label map 64x45")]
)
def test_all_label_maps_bad(run, data, labels, why):
    """Said before anything is computed."""
    for path in (data / "labels").iterdir():
        cv2.imwrite(str(path), labels)
    code, (line,), progress = run()
    assert code == 2
    assert "no label map that was looked at can be used" in line
    assert why in line
    assert len(progress) == 1


def test_nothing_is_evaluated(run, data, sclip):
    for path in (data / "labels").iterdir():
        cv2.imwrite(str(path), np.full((48, 64), 255, np.uint8))
    code, said = run()[:2]
    assert code == 2
    assert "none of the 2 label maps has a pixel to evaluate" in said[-1]


def test_image_exchanged_while_it_is_in_use(run, data, tmp_path, monkeypatch):
    """Of the one nothing is stored under the digest of the other, though size and time agree."""
    from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage

    cv2.imwrite(str(data / "images" / "bad.bmp"), PICTURE)
    cv2.imwrite(str(data / "labels" / "bad.png"), LABELS)
    image = data / "images" / "bad.bmp"
    compute, times = (
        DenseFeaturesStage.compute_shared,
        (image.stat().st_atime_ns, image.stat().st_mtime_ns),
    )

    def exchange(self, ids, others, shard):
        cv2.imwrite(str(image), 255 - PICTURE)
        os.utime(image, ns=times)
        return compute(self, ids, others, shard)

    monkeypatch.setattr(DenseFeaturesStage, "compute_shared", exchange)
    code, (line,), _ = run()
    assert code == 1
    assert "bad.bmp was changed while it was in use: run again" in line
    monkeypatch.undo()
    assert run()[0] == 0
    assert len(ids(tmp_path / "artifacts", "dense_features")) == 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder / "loop").symlink_to(".."), ["loop links to a folder that"]),
        (
            lambda folder: Path(os.fsdecode(bytes(folder) + b"/\xff.png")).touch(),
            ["\\udcff.png is not UTF-8: rename it"],
        ),
        (lambda folder: (folder / "0.jpg").touch(), ["both 0.jpg and 0.png", "rename one"]),
        (lambda folder: (folder / "a\nb.png").touch(), ["no label map: a\\nb", "ID.png"]),
    ],
)
def test_folder(run, data, make, said):
    make(data / "images")
    code, (line,), _ = run()
    assert code == 2
    for words in said:
        assert words in line


NAMES = ["[bold]sky[/bold]", ":cat: | dog", "road 🐈 \\"]


def test_names_are_shown_as_they_are(run, data, sclip, tmp_path):
    lines = [f'"{name}"' if "|" in name else name for name in NAMES]  # else it is two words
    (data / "classes.txt").write_text("\n".join(lines), "utf-8")
    name = "[red]my|set[/] :cat: " + "x" * 300
    assert run("--dataset", name, "--save-vis", tmp_path / "vis")[0] == 0
    artifacts = tmp_path / "artifacts"
    classes = pq.read_table(artifacts / "results" / "class_iou").to_pylist()
    assert [row["class_name"] for row in classes] == NAMES
    assert runs(artifacts)[0]["dataset"] == name
    code, out, _ = sclip("results", "--artifacts", artifacts)
    assert code == 0
    assert "red_my_set" in out
    code, out, _ = sclip("run", "--direct", *flags(data, artifacts, dataset="[red]a[/] :cat:"))
    assert "[red]a[/] :cat:, 2 images" in out


LARGE = """
import sys
from flows import cli
code = cli.main(sys.argv[1:])
status = open("/proc/self/status").read()  # getrusage counts what the parent had when it forked
print("peak", int(status.partition("VmHWM:")[2].split()[0]) // 1024)
sys.exit(code)
"""


@pytest.mark.slow
def test_hundred_megapixels(data, tmp_path):
    """Through the whole pipeline, picture included, in a process of its own."""
    for folder in ("images", "labels"):
        (data / folder / "zz.png").unlink()
        (data / folder / "0.png").unlink()
    cv2.imwrite(str(data / "images" / "large.jpg"), cv2.resize(PICTURE, (12000, 9000)))
    labels = cv2.resize(LABELS, (12000, 9000), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(data / "labels" / "large.png"), labels)
    command = [sys.executable, "-c", LARGE, "run", "--direct"]
    done = subprocess.run(
        [*command, *flags(data, tmp_path / "artifacts", save_vis=tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 4000  # MB; the image alone has 324 as pixels
