"""What is kept of a view is never shown for another one."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sclip_core import SCLIP
from sclip_core.datasets.drawn import opened
from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.explorer import Explorer
from sclip_core.explore.gallery import Collection
from sclip_core.explore.search import Hit, Search
from sclip_core.explore.view import Point, View
from sclip_core.explore.words import WordBank, parsed

from .test_maps import values_of
from .views import WORDS, copied, explorer_of, map_of, sent_by_page, view_of

USUAL: dict[str, Any] = {
    "words": WORDS,
    "method": "csa",
    "pamr_steps": 3,
    "pamr_dilations": "8,16",
    "logit_scale": 15.0,
    "prob_thd": 0.3,
    "area_thd": 0.05,
    "short_side": 192,
    "slide_crop": 48,
    "slide_stride": 24,
}
OTHERS: list[dict[str, Any]] = [
    {"method": "naclip"},
    {"method": "pearl"},
    {"method": "sc-clip"},
    {"method": "resclip"},
    {"pamr_steps": 0},
    {"pamr_steps": 1},
    {"pamr_dilations": "1,2"},
    {"logit_scale": 25.0},
    {"prob_thd": 0.5},
    {"prob_thd": 0.0, "area_thd": 0.3},
    {"area_thd": 0.3},
    {"short_side": 144},
    {"slide_crop": 96},
    {"slide_stride": 48},
    {"words": "clouds; sky, grass, lawn; brick wall; tree; house, cottage; ball"},
    {"words": "; ".join(reversed(WORDS.split("; ")))},
    {"words": "sky, clouds; lawn; brick wall; tree; house; ball"},
]
POINT = Point(61, 44)


@pytest.fixture(scope="module")
def explorer(scenes_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    return explorer_of(copied(scenes_runs, tmp_path_factory.mktemp("explored")))


@pytest.fixture(scope="module")
def pictures(explorer: Explorer) -> list[np.ndarray]:
    """Two of one size, small so that this is fast."""
    first = explorer.collections[0]
    size = 120, 100
    return [cv2.resize(first.pixels(image), size) for image in first.ids()[1:3]]


def expected_of(view: View, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and logits (Q, H, W), of the model, which keeps nothing."""
    given = {name: getattr(view, name) for name in USUAL if name not in ("words", "method")}
    given["pamr_dilations"] = tuple(map(int, given["pamr_dilations"].split(",")))
    classes = [part.strip() for part in view.words.split(";")]
    model = SCLIP.load("sclip-demo", "scenes", method=view.method)
    labels = model.segment(pixels, classes, **given).labels
    return labels, model.logits(pixels, classes, **given).numpy()


def check(explorer: Explorer, view: View, expected: tuple[np.ndarray, np.ndarray]) -> None:
    """See that the answers of a view are those of the model."""
    labels = map_of(explorer.labels(view, Task()))
    scores = {one["word"]: one["score"] for one in explorer.scores(view, POINT)["scores"]}
    heat = values_of(explorer.heat(view, "house", Task()))
    vocabulary = parsed(view.words).vocabulary
    assert (labels == expected[0]).mean() >= 0.9995
    highest = expected[1][list(vocabulary.words_of("house"))].max(axis=0)
    assert np.abs(heat - highest).max() < 1e-4
    logits = expected[1][:, POINT.row, POINT.column]
    for word, logit in zip(vocabulary.queries, logits.tolist(), strict=True):
        assert scores[word] == pytest.approx(logit, abs=1e-4)


@pytest.fixture(scope="module")
def usual(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return expected_of(View(collection="uploads", **USUAL), pictures[0])


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: "-".join(map(str, other.items())))
def test_another_view_of_an_image_has_its_own_labels_heat_and_scores(
    explorer, pictures, usual, other
):
    collection, image = sent_by_page(explorer, pictures[0])
    view = View(collection=collection, image=image, **USUAL)
    check(explorer, view, usual)
    changed = expected_of(view.replace(**other), pictures[0])
    assert (usual[0] != changed[0]).mean() > 0.002  # else another's answer would not be seen
    check(explorer, view.replace(**other), changed)
    check(explorer, view, usual)


def test_each_image_that_was_sent_has_its_own_answers(explorer, pictures):
    sent = [sent_by_page(explorer, pixels) for pixels in pictures]
    views = [View(collection=collection, image=image, **USUAL) for collection, image in sent]
    expected = list(map(expected_of, views, pictures))
    assert (expected[0][0] != expected[1][0]).any()
    for _ in range(2):
        for view, own in zip(views, expected, strict=True):
            check(explorer, view, own)
    for ask in (explorer.thumbnail, explorer.picture):
        (one, first, *_), (other, second, *_) = (ask(*each) for each in sent)
        assert one != other
        assert first != second


def test_words_change_the_features_of_a_method_that_reads_them(explorer, pictures):
    collection, image = sent_by_page(explorer, pictures[0])
    for words in (WORDS, "house; sky; grass; star"):
        given = {**USUAL, "method": "resclip", "words": words}
        view = View(collection=collection, image=image, **given)
        check(explorer, view, expected_of(view, pictures[0]))


def beside(first: Collection, name: str, templates: str = "openai", **words: Any) -> Collection:
    """The images and the model of a collection, with other words of its own."""
    dataset = replace(first.dataset, vocabulary=replace(first.dataset.vocabulary, **words))
    settings = first.settings.replace(templates=templates, labels=None)
    return Collection(name, name, settings, dataset, first.runs)


@pytest.mark.parametrize("steps", [0, 2])
def test_collections_of_the_same_images_have_their_own_answers(explorer, steps):
    first = explorer.collections[0]
    classes = first.dataset.vocabulary
    names, rest = classes.class_names[:-1], tuple(words[0] for words in classes.words[-1:])
    fewer = {"class_names": names, "words": classes.words[:-1], "distractors": rest}
    plain = {"class_names": (*names, *rest), "words": (*classes.words[:-1], rest)}
    several = [
        beside(first, "plain", **plain),
        beside(first, "distractor", **fewer),
        beside(first, "closed", **fewer, closed=True),
        beside(first, "simple", "photo", **plain),
    ]
    image = first.ids()[int(np.argmax([_last(first, each) for each in first.ids()]))]
    together, maps = Explorer(tuple(several)), []
    for collection in several:
        view = View(collection=collection.id, image=image, pamr_steps=steps)
        alone = Explorer((collection,))
        found, expected = together.labels(view, Task()), alone.labels(view, Task())
        maps.append(map_of(found))
        assert any("no score" in line for line in found.about["notes"]) is bool(
            collection.dataset.vocabulary.distractors
        )
        assert np.array_equal(maps[-1], map_of(expected))
        point = Point(*np.unravel_index(np.argmax(maps[0] == len(names)), maps[0].shape))
        assert together.scores(view, point) == alone.scores(view, point)
    assert all((maps[0] != other).any() for other in maps[1:])
    assert 65535 in maps[1]
    assert maps[2].max() < len(names)


def _last(collection: Collection, image: str) -> int:
    """How many pixels of an image are of the last class."""
    return int((collection.truth(image) == collection.dataset.vocabulary.num_classes - 1).sum())


def test_words_of_another_order_are_not_those_of_the_collection(explorer):
    own = explorer.about()["collections"][0]["words"]
    view = view_of(explorer, pamr_steps=0, words=own)
    turned = view.replace(words="; ".join(reversed(own.split("; "))))
    first, other = (explorer.labels(each, Task()) for each in (view, turned))
    compared = [explorer.truth(each, Task()).about["comparable"] for each in (view, turned)]
    assert compared == [True, False]
    assert first.about["score"]
    assert other.about["score"] is None
    assert other.about["classes"][0]["name"] == first.about["classes"][-1]["name"]
    count = len(first.about["classes"])
    assert np.array_equal(map_of(first), count - 1 - map_of(other))


def test_one_weights_file_of_two_architectures_has_two_vectors_of_a_word():
    class Source:
        quick = True

        def models(self, collection: object) -> Any:
            spec = SimpleNamespace(name=f"quick {self.quick}", pretrained="file.pt")
            kind = {"spec": spec, "weights_sha256": "same", "dtype": "fp32"}
            return SimpleNamespace(**kind, device=torch.device("cpu"))

        def clip(self, collection: object, task: Task) -> Any:
            vector = torch.full((4,), float(self.quick))
            return SimpleNamespace(encode_word=lambda word, templates: vector)

    source: Any = Source()
    bank, nothing = WordBank(source), SimpleNamespace(vector=lambda word: None)
    bank._look = lambda collection, templates: nothing
    collection: Any = SimpleNamespace(settings=SimpleNamespace(artifacts=Path("x")))
    for source.quick in (True, False):
        found = bank.bank(collection, parsed("cat").vocabulary, "openai", Task())
        assert found.embeddings.unique().item() == source.quick


def test_a_file_that_changes_is_looked_at_anew(scenes_runs, tmp_path):
    """Also when it changes to another size, and back."""
    copytree(scenes_runs.parent / "scenes", tmp_path / "scenes")
    explorer = explorer_of(copied(scenes_runs, tmp_path))
    first = explorer.collections[0]
    settings = first.settings.replace(data_root=tmp_path / "scenes")
    dataset = opened(settings, lambda line: None, True)
    explorer = Explorer((Collection("scenes", "scenes", settings, dataset),))
    image, file = dataset.samples[0].image_id, dataset.samples[0].image
    before, other = file.read_bytes(), explorer.collections[0].pixels(dataset.samples[1].image_id)
    view = View(collection="scenes", image=image, **{**USUAL, "method": "naclip"})

    def seen() -> tuple[Any, ...]:
        labels: Answer = explorer.labels(view, Task())
        picture, etag, _ = explorer.picture("scenes", image)
        small, small_etag = explorer.thumbnail("scenes", image)
        size = explorer.image("scenes", image)["size"]
        assert labels.about["shown"] == size
        listed = explorer.images("scenes", "name", "", 0, 1)["images"][0]
        assert listed["size"] == size
        return map_of(labels), picture, etag, small, small_etag

    old = seen()
    cut = np.ascontiguousarray(other[: other.shape[0] - 20, ::-1])
    file.write_bytes(cv2.imencode(file.suffix, cut[..., ::-1])[1].tobytes())
    new = seen()
    assert new[0].shape == cut.shape[:2]
    assert all(a != b for a, b in zip(old[1:], new[1:], strict=True))
    fresh = Explorer((Collection("scenes", "scenes", settings, dataset),))
    assert np.array_equal(map_of(fresh.labels(view, Task())), new[0])
    file.write_bytes(before)
    again = seen()
    assert np.array_equal(again[0], old[0])
    assert again[1] == old[1]


def test_an_image_that_was_sent_and_one_of_the_collection_are_encoded_each(scenes_runs, tmp_path):
    """The one is not rounded, and the other is stored."""
    explorer = explorer_of(copied(scenes_runs, tmp_path))
    first = explorer.collections[0]
    image, given = first.ids()[0], {"words": WORDS, "method": "naclip", "pamr_steps": 0}
    sent = explorer.upload("photo.jpg", Path(str(first.file(image))).read_bytes())
    explorer.labels(View(**sent, **given), Task())
    view = view_of(explorer, **given)
    found = explorer.encode(view, Task()).about
    assert (found["encoded"], found["there"]) == (len(first), 0)
    scores = []
    for each in (explorer, explorer_of(tmp_path / "artifacts")):
        each.labels(view, Task())
        scores.append(each.scores(view, POINT))
    assert scores[0] == scores[1]


@pytest.mark.parametrize(("exif", "size"), [("apply", [60, 40]), ("ignore", [40, 60])])
def test_what_is_sent_is_read_as_the_collection_is(explorer, exif, size):
    first = explorer.collections[0]
    settings = first.settings.replace(exif=exif)
    own = Explorer((Collection("own", "own", settings, first.dataset),))
    turned, into = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    Image.new("RGB", (60, 40)).save(into, "JPEG", exif=turned)
    assert own.image(**own.upload("photo.jpg", into.getvalue()))["size"] == size


def test_an_order_follows_what_a_search_finds_later():
    search = Search("x")
    search.add(0, "first", None)
    search.add(1, "second", Hit(0.2, 3, 4))
    assert search.order().places.tolist() == [1]
    search.add(0, "first", Hit(0.5, 1, 2))  # encoded anew
    assert search.order().places.tolist() == [0, 1]
    search.add(0, "changed", Hit(0.1, 5, 6))
    assert search.order().scores.tolist() == [0.2, 0.1]
    search.add(0, None, None)
    assert search.order().places.tolist() == [1]
