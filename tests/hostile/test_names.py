"""Names that mean harm, through every command: shown as they are, or refused in one line."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sclip_core.config import printable
from sclip_core.results.tables import find_run
from tests.flows.conftest import flags, sclip, small, write_own
from tests.pictures import scene

from .test_bombs import png

__all__ = ["sclip", "small"]  # fixtures

Sclip = Callable[..., tuple[int, str, str]]
WORDS = [
    "<script>alert(1)</script>",
    "'; drop table runs; --",
    "{{7*7}} ${x} $x^2$ %s",
    "=cmd|' /C calc'!A0",
    "\x1b]0;owned\x07\x1b[2J",
    '[bold]a[/] :cat: "><img src=x onerror=alert(1)>',
    "../../etc/passwd",
    "--help",
    "\u202egnp.exe</style></title>",
    "e" * 255,
]
KNOWN = ["cat", "dog", "car", "bus", "train", "boat", "bird", "horse", "sheep", "cow"]
STEMS = [
    "<script>alert(1)<",
    "'; drop table runs; --",
    "=cmd|' C calc'!A0",
    '"><img src=x onerror=alert(1)>',
    "--help",
    "\u202egnp",
    "{{7*7}}${x}",
    "%2e%2e%2f",
    " a ",
    "e" * 251,
]
ELEMENTS = {"script": 1, "style": 1, "img": 0, "iframe": 0, "object": 0, "link": 1, "base": 0}


def said(err: str) -> int:
    """Lines that are no notes on the data."""
    return sum(not line.startswith("note: ") for line in err.splitlines())


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def assert_clean(*texts: str) -> None:
    """No sign in what is said that does anything to a terminal."""
    for text in texts:
        assert not [c for c in text if not c.isprintable() and c != "\n"], text


def name_images(own: Path, stems: list[str]) -> None:
    """Give the images names; there may be more of them than were written."""
    for folder in ("images", "labels"):
        (first,) = (own / folder).iterdir()
        for stem in stems:
            shutil.copy(first, own / folder / f"{stem}.png")
        first.unlink()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of which all has such a name, the folder that it lies in too; not to be written to."""
    own = write_own(tmp_path_factory.mktemp("hostile") / "<b>'; x=$(id) `id`\u202e", 1)
    name_images(own, STEMS)
    values = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64) % (3 + len(WORDS))
    for path in (own / "labels").iterdir():
        path.write_bytes(cv2.imencode(".png", values)[1].tobytes())
    lines = [  # each with a word that the model was trained with
        f"{word}, {known}" if '"' in word else f'"{word}", {known}'
        for word, known in zip(WORDS, KNOWN, strict=True)
    ]
    (own / "classes.txt").write_text("\n".join(["sky", "grass", "road", *lines]), "utf-8")
    return own


@pytest.fixture(scope="module")
def ran(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of two runs over it, with pictures beside them."""
    from flows import cli

    folder = tmp_path_factory.mktemp("ran")
    for steps in (0, 1):
        more = flags(hostile, folder / "artifacts", pamr_steps=steps, save_vis=folder / "vis")
        assert cli.main(["run", "--direct", *more]) == 0
    return folder


@pytest.fixture
def watched(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, which stays empty, as the set stays what it is."""
    here, before = tmp_path / "here", tree(hostile.parent)
    here.mkdir()
    monkeypatch.chdir(here)
    yield here
    assert tree(here) == set()
    assert tree(hostile.parent) == before


def test_run_writes_where_it_is_told(ran, hostile):
    """One picture an image, below the folder of pictures; nothing beside the two folders."""
    assert {path.name for path in ran.iterdir()} == {"artifacts", "vis"}
    assert tree(ran / "vis") == {f"{stem}.png" for stem in STEMS}
    (found,) = {len(list((ran / "artifacts" / "results" / t).iterdir())) for t in ("runs",)}
    assert found == 2
    for path in (ran / "artifacts").rglob("*"):
        assert str(path.relative_to(ran)).isprintable()
        assert not set("<>'\";|$ ") & set(str(path.relative_to(ran)))


@pytest.mark.parametrize(
    "words",
    [
        ["results"],
        ["results", "--against", "published"],
        ["compare", "latest~1", "latest", "--classes", "0"],
        ["query", "from class_iou"],
        ["query", "select image_id, class_name from image_areas join class_iou using (class_id)"],
        ["query", "from runs"],
        ["query"],
    ],
)
@pytest.mark.parametrize("width", ["40", "200"])
def test_what_is_said(sclip: Sclip, ran, watched, monkeypatch, words, width):
    monkeypatch.setenv("COLUMNS", width)
    code, out, err = sclip(*words, f"--artifacts={ran / 'artifacts'}")
    assert code == 0, err
    assert_clean(out, err)


@pytest.mark.parametrize("format", ["csv", "json"])
def test_names_come_out_of_a_query_as_they_went_in(ran, hostile, tmp_path, sclip, format):
    sql = "select class_name from class_iou where run_id = (select max(run_id) from runs)"
    file = tmp_path / f"a.{format}"
    code, _, err = sclip("query", sql, f"--artifacts={ran / 'artifacts'}", "-o", file)
    assert code == 0, err
    with file.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines)) if format == "csv" else json.load(lines)
    assert [row["class_name"] for row in found][3:] == WORDS


@pytest.mark.filterwarnings("error")
def test_the_report_holds_nothing_raw(sclip: Sclip, ran, watched, tmp_path):
    to = tmp_path / "page"
    code, out, err = sclip(
        "report", "latest", "latest~1", "-o", to, f"--artifacts={ran / 'artifacts'}"
    )
    assert code == 0, err
    assert_clean(out, err)
    assert tree(to) == {"index.html"}
    text = (to / "index.html").read_text("utf-8")
    page = Page(text)
    pictures = page.elements["img"]
    assert pictures > 0
    own = {"img": pictures, "style": 1 + page.elements["svg"]}
    assert {name: page.elements[name] for name in ELEMENTS} == {**ELEMENTS, **own}
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(one.startswith(("data:", "#")) for one in page.addresses)
    assert "49" not in " ".join(part for part in page.text if "${x}" in part)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert {printable(word) for word in WORDS} <= set(page.text)


def test_sweep(sclip: Sclip, hostile, ran, watched):
    more = flags(hostile, ran / "artifacts", pamr_steps="0,1")
    code, out, err = sclip("sweep", "--direct", *more)
    assert code == 0, err
    assert_clean(out, err)
    assert out.splitlines()[-1].startswith("plot: "), out
    (plot,) = (ran / "artifacts" / "sweeps").iterdir()
    assert plot.suffix == ".png"


@pytest.mark.parametrize("stem", ["a\nb", "a\x1b[2Jb", "a\x07", "a\rb", "a\tb", "a\u2028b", "\x7f"])
@pytest.mark.slow
def test_control_signs_in_names_of_images(sclip: Sclip, tmp_path, stem):
    """Taken, and shown escaped; or refused."""
    own = write_own(tmp_path / "own", 1)
    name_images(own, [stem])
    before = tree(own)
    given = flags(own, tmp_path / "artifacts", save_vis=tmp_path / "vis")
    code, out, err = sclip("run", "--direct", *given)
    assert_clean(out, err)
    assert code in (0, 2)
    if code == 0:
        where = f"--artifacts={tmp_path / 'artifacts'}"
        for words in (["query", "from image_areas"], ["results"]):
            code, out, err = sclip(*words, where)
            assert code == 0
            assert_clean(out, err)
        code, out, err = sclip("report", where, "-o", tmp_path / "page")
        assert code == 0
        assert_clean(out, err)
        assert not set((tmp_path / "page" / "index.html").read_text("utf-8")) & set("\x1b\x07\x7f")
    assert tree(own) == before
    assert {p.name for p in tmp_path.iterdir()} <= {"own", "artifacts", "vis", "page"}


@pytest.mark.parametrize("name", [b"\xff.png", b"a\xed\xa0\x80.png", b"sub\xff/a.png"])
def test_names_that_are_no_text(sclip: Sclip, tmp_path, name):
    own = write_own(tmp_path / "own", 1)
    target = os.fsencode(own / "images") + b"/" + name
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(own / "images" / "0.png", target)
    code, out, err = sclip("run", "--direct", *flags(own, tmp_path / "artifacts"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "is not UTF-8" in err
    assert_clean(err)
    err.encode()  # no half of a pair of surrogates


NAMES = [
    "../../etc/passwd",
    "a\nb\x1b[2J",
    "'; drop table runs; --",
    "<script>alert(1)</script>",
    "-",
    "%",
    "*",
    "",
    "e" * 255,
    "e" * 100_000,
    "\udcff",
    "\0",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("option", ["dataset", "mode", "templates", "model"])
def test_names_of_settings(sclip: Sclip, tmp_path, name, option):
    """One line; a set of one's own may have any name that is text."""
    own = write_own(tmp_path / "own", 1)
    code, out, err = sclip("plan", *flags(own, tmp_path / "artifacts", **{option: name}))
    assert_clean(out, err)
    if option != "dataset":
        assert (code, out) == (2, "")
    if code:
        assert code == 2
        assert said(err) == 1
        assert len(err) < 3000
    assert {p.name for p in tmp_path.iterdir()} == {"own"}


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\nb\x1b[2J/<script>", "e" * 255, "latest"])
def test_a_set_of_any_name(sclip: Sclip, small, tmp_path, name):
    """Its run has a file in the folder of runs, whatever the name."""
    where = f"--artifacts={tmp_path / 'artifacts'}"
    code, out, err = sclip("run", "--direct", *flags(small, tmp_path / "artifacts", dataset=name))
    assert code == 0, err
    assert_clean(out, err)
    (path,) = (tmp_path / "artifacts" / "results" / "runs").iterdir()
    assert path.name.isprintable()
    for words in (
        ["results"],
        ["results", f"--dataset={name}"],
        ["report"],
        ["query", "from runs"],
    ):
        code, out, err = sclip(*words, where)
        assert code == 0, err
        assert_clean(out, err)
    page = Page((tmp_path / "artifacts" / "report" / "index.html").read_text("utf-8"))
    assert page.elements["script"] == 1
    assert {p.name for p in tmp_path.iterdir()} == {"artifacts"}


@pytest.mark.parametrize("name", [n for n in NAMES if n], ids=range(len(NAMES) - 1))
@pytest.mark.parametrize("option", ["images", "labels", "classes", "pretrained", "config"])
def test_paths_that_are_none(sclip: Sclip, tmp_path, monkeypatch, name, option):
    if option == "classes" and ";" in name:
        pytest.skip("these are words")
    own = write_own(tmp_path / "own", 1)
    monkeypatch.chdir(own)
    code, out, err = sclip(
        "run", "--direct", *flags(own, tmp_path / "artifacts", **{option: f"no/{name}"})
    )
    assert (code, out) == (2, "")
    assert said(err) == 1
    assert_clean(err)
    assert {p.name for p in tmp_path.iterdir()} == {"own"}


RUNS = [
    "../../etc/passwd",
    "*",
    "%",
    "",
    "latest~99999999999999999999",
    "latest~",
    "latest~-1",
    "latest~1000",
    "\x1b[2J\n",
    "\0",
    "\udcff",
    "e" * 100_000,
    ".",
    "/",
    "'; drop table runs; --",
]


@pytest.mark.parametrize("name", RUNS, ids=range(len(RUNS)))
def test_runs_that_are_none(sclip: Sclip, ran, watched, tmp_path, name):
    where = f"--artifacts={ran / 'artifacts'}"
    commands = (
        ["report", "-o", tmp_path / "page", where, "--", name],
        ["compare", where, "--", "latest", name],
        ["compare", where, "--", name, "latest"],
    )
    for words in commands:
        code, out, err = sclip(*words)
        assert (code, out) == (2, ""), words
        assert err.count("\n") == 1
        assert len(err) < 1000
        assert_clean(err)
    assert not (tmp_path / "page").exists()


FILES = ["x;y", ".", "a\nb", "a\x1b[2J", "--help", "latest", "*", "<b>", "\udcff", "..a", " "]


@pytest.mark.parametrize("name", FILES, ids=range(len(FILES)))
@pytest.mark.slow
def test_files_of_results_of_any_name(sclip: Sclip, scenes_runs, tmp_path, name):
    """A copy under another name: left out, and the others are shown."""
    root = tmp_path / "artifacts"
    shutil.copytree(scenes_runs / "results", root / "results")
    for folder in (root / "results").iterdir():
        shutil.copy(next(folder.iterdir()), folder / f"{name}.parquet")
    before = tree(root)
    where = f"--artifacts={root}"
    for words in (["results"], ["query", "from runs"], ["compare", "latest", "latest~1"]):
        code, out, err = sclip(*words, where)
        assert code == 0, err
        assert out
        assert err.count("\n") <= 2
        assert_clean(out, err)
    code, out, err = sclip("report", where, "-o", tmp_path / "page", "--", name)
    assert code in (0, 2)
    assert_clean(out, err)
    sclip("gc", where)
    assert tree(root) - {"digests.jsonl"} - {p for p in tree(root) if ".leases" in p} == before


@pytest.mark.parametrize("run_id", ["../x", "../../../x", "a\nb", "/x", ""])
def test_run_ids_in_files_that_lead_elsewhere(sclip: Sclip, scenes_runs, tmp_path, run_id):
    """Without a digest, as version 0.1.0 wrote them: what the file says is not where it looks."""
    root = tmp_path / "artifacts"
    shutil.copytree(scenes_runs / "results", root / "results")
    for folder in (root / "results").iterdir():
        file = min(folder.iterdir())
        table = pq.read_table(file)
        place = table.column_names.index("run_id")
        table = table.set_column(place, "run_id", pa.array([run_id] * len(table)))
        kept = {k: v for k, v in table.schema.metadata.items() if k == b"sclip_schema_version"}
        pq.write_table(table.replace_schema_metadata(kept), file)
    where = f"--artifacts={root}"
    for words in (["results"], ["query", "from runs"], ["report", "-o", tmp_path / "page"]):
        code, out, err = sclip(*words, where)
        assert code == 0, err
        assert "does not hold the run that its name says" in err or words[0] == "report"
        assert_clean(out, err)
    assert {p.name for p in tmp_path.iterdir()} == {"artifacts", "page"}


@pytest.mark.parametrize("column", ["versions", "key_refine", "mode", "dataset"])
@pytest.mark.parametrize(
    "value",
    [
        *("../../x", "[" * 50_000, None),
        *(pytest.param(value, marks=pytest.mark.slow) for value in ("[]", "a\nb\0\x1b[2J", 7)),
    ],
)
def test_any_value_in_a_row(sclip: Sclip, scenes_runs, tmp_path, column, value):
    """Of a run without a digest: shown, or refused in a line."""
    root = tmp_path / "artifacts"
    shutil.copytree(scenes_runs / "results", root / "results")
    file = min((root / "results" / "runs").iterdir())
    table = pq.read_table(file)
    place = table.column_names.index(column)
    table = table.set_column(place, column, pa.array([value]))
    kept = {k: v for k, v in table.schema.metadata.items() if k == b"sclip_schema_version"}
    pq.write_table(table.replace_schema_metadata(kept), file)
    name = file.stem
    for words in (
        ["results"],
        ["results", "--against", "published"],
        ["query", "from runs"],
        ["compare", name, "latest" if name != newest(scenes_runs) else "latest~1"],
        ["report", name, "-o", tmp_path / "page"],
        ["gc"],
        ["gc", "--verify"],
    ):
        code, out, err = sclip(*words, f"--artifacts={root}")
        assert code in (0, 1, 2)
        assert "Traceback" not in err, words
        assert_clean(out, err)


def newest(root: Path) -> str:
    return find_run("latest", root)


def test_a_bomb_among_good_images(sclip: Sclip, tmp_path):
    """Named, and the others are scored."""
    own = write_own(tmp_path / "own", 2)
    (own / "images" / "bomb.png").write_bytes(png(60_000, 60_000))
    (own / "images" / "dark.png").write_bytes((own / "images" / "0.png").read_bytes())
    (own / "labels" / "dark.png").write_bytes(png(40_000, 40_000))
    _, labels = scene(0)
    cv2.imwrite(str(own / "labels" / "bomb.png"), np.zeros_like(labels))
    code, out, err = sclip("run", "--direct", *flags(own, tmp_path / "artifacts"))
    assert code == 1
    named = [line for line in err.splitlines() if line.startswith("sclip: left out: ")]
    assert len(named) == 2
    assert "bomb.png" in named[0]
    assert "dark.png" in named[1]
    assert "2 images" in out
    assert_clean(out, err)
