"""Methods through the stages: the golden labels, and what methods of a command share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sclip_core import SCLIP, Vocabulary
from sclip_core.config import resolve, resolve_several
from sclip_core.encoder.second import SecondNetwork
from sclip_core.maintenance import collect
from sclip_core.pipeline.pipeline import Finished, Pipeline, run_pipeline, run_pipelines
from sclip_core.pipeline.run import Run
from sclip_core.results.files import read_table
from sclip_core.store.leases import Lease

from ..conftest import IMAGES
from ..methods.cases import BENCHMARK, CASES, CLIP, rgb, weights_of
from ..methods.conftest import arrays, merged, weights12, weights12_head
from ..pictures import scene
from .conftest import computed
from .test_mask_files import blocks
from .test_mending import flip

__all__ = ["arrays", "weights12", "weights12_head"]  # fixtures of the methods' tests

PORTRAIT = IMAGES[1]
WORDS = ["sky", "grass, lawn", "road"]
SIX = "csa,naclip,sc-clip,pearl,proxyclip,corrclip"
WINDOWS = {"short_side": 224, "slide_crop": 224, "slide_stride": 112, "window_multiple": 0}
BOTH = 4  # windows of the two pictures
DINO = dict(zip(("proxy_model", "proxy_weights"), weights_of("tiny_dino8"), strict=True))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``images/`` with two pictures, their label maps, id maps and ``classes.txt``."""
    for folder in ("images", "labels", "maps"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate("ab"):
        picture, labels = scene(number)
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), picture[150:214, 100:180])
        cv2.imwrite(str(tmp_path / "labels" / f"{name}.png"), labels[150:214, 100:180] % 3)
        Image.fromarray(blocks(number)).save(tmp_path / "maps" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("\n".join(WORDS))
    return tmp_path


@pytest.fixture
def given(own: Path, weights12_head: Path) -> dict[str, Any]:
    """Settings of runs over the two pictures, of 2 windows each."""
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    model = {"model": str(CLIP), "pretrained": str(weights12_head), "device": "cpu"}
    few = {"templates": "simple", "prob_thd": 0, "area_thd": 0}
    return {**paths, **model, **WINDOWS, **few, "artifacts": own / "artifacts"}


@pytest.fixture
def run(given: dict[str, Any]) -> Callable[..., list[Finished]]:
    """Runs the methods of a command, with their masks and their second network."""

    def several(method: str, **others: Any) -> list[Finished]:
        masks = {"masks": given["images"].parent / "maps"} if "corrclip" in method else {}
        settings = {**given, **DINO, **masks, "method": method, **others}
        return run_pipelines(Run.several(resolve_several(**settings)))

    return several


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[str, ...]]]:
    """Windows that went through the second network, pass by pass, and what was read of it."""
    found: list[tuple[int, tuple[str, ...]]] = []
    taps = SecondNetwork.taps

    def counted(self: SecondNetwork, pixels: torch.Tensor, names: Any) -> Any:
        found.append((len(pixels), tuple(sorted(names))))
        return taps(self, pixels, names)

    monkeypatch.setattr(SecondNetwork, "taps", counted)
    return found


def tables(own: Path, stage: str) -> list[Path]:
    """The artifacts of a stage."""
    return sorted(path.parent for path in (own / "artifacts").glob(f"{stage}/*/ledger.jsonl"))


def golden_settings(root: Path, method: str, name: str, weights: Path, ids: Any, image: Any) -> Any:
    """A run of a method over a golden image, by the protocol of a set."""
    case, protocol = CASES[method], CASES[method].protocol(name)
    (root / "images").mkdir(exist_ok=True)
    Image.fromarray(image).save(root / "images" / "one.png")
    (root / "maps").mkdir(exist_ok=True)
    if case.masks:
        np.save(root / "maps" / "one.npy", ids)
    benchmark = name.removesuffix("_thd0")
    words = Vocabulary.named(BENCHMARK.get(benchmark, benchmark))
    pairs = list(zip(words.queries, words.query_class, strict=True))
    lines = [
        ", ".join(word for word, of in pairs if of == number) for number in range(words.num_classes)
    ]
    (root / "classes.txt").write_text("\n".join(lines))
    values = {
        name: getattr(protocol, name)
        for name in type(protocol).model_fields
        if name not in ("vocabulary", "method")
    }
    return resolve(
        **values,
        **case.settings(),
        **({"masks": root / "maps"} if case.masks else {}),
        images=root / "images",
        classes=root / "classes.txt",
        artifacts=root / "artifacts",
        save_vis=root / "out",
        model=str(CLIP),
        pretrained=str(weights),
        device="cpu",
    )


QUICK = [
    *[("sc-clip", "voc21"), ("pearl", "voc21"), ("resclip", "voc20"), ("proxyclip", "voc21_thd0")],
    *[("corrclip", "coco_object"), ("trident", "voc20"), ("gla-clip", "voc20")],
    ("ov-stitcher", "voc20"),
]


def assert_golden(root, arrays, golden, weights, method: str, name: str, image: str) -> None:
    """The label map of a run is that of the arrays, and of the public API."""
    found, picture = arrays(CASES[method].arrays, image), rgb(golden(image))
    ids = arrays("corrclip", image)["ids"] if CASES[method].masks else None
    settings = golden_settings(root, method, name, weights, ids, picture)
    finished = run_pipeline(Run(settings))
    assert not finished.failures
    labels = np.array(Image.open(root / "out" / "labels" / "one.png"))
    assert (labels != found[f"labels_{CASES[method].array}_{name}"]).mean() <= 1e-4


@pytest.mark.parametrize(("method", "name"), QUICK)
def test_golden_labels(tmp_path, arrays, golden, weights12, weights12_head, method, name):
    weights = weights12_head if CASES[method].head else weights12
    assert_golden(tmp_path, arrays, golden, weights, method, name, PORTRAIT)


@pytest.mark.slow
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("method", CASES)
def test_all_golden_labels(tmp_path, arrays, golden, weights12, weights12_head, method, image):
    weights = weights12_head if CASES[method].head else weights12
    for name in CASES[method].sets(arrays(CASES[method].arrays, image)):
        assert_golden(tmp_path, arrays, golden, weights, method, name, image)


def test_six_methods_pass_the_tower_once_and_are_as_if_alone(own, given, run, windows, seen):
    together = run(SIX, save_vis=own / "out")
    assert sum(windows) == BOTH  # corrclip's copies of CLS go through blocks of their own
    assert [number for number, _ in seen] == [2, 2]  # an image at a time
    assert {names for _, names in seen} == {("queries+keys", "tokens")}
    assert [len(tables(own, stage)) for stage in ("dense_features", "proxy_features")] == [6, 2]
    assert len({each.run_id for each in together}) == 6
    for method, each in zip(SIX.split(","), together, strict=True):
        (alone,) = run(method, artifacts=own / method)
        assert alone.run_id == each.run_id
        # A pass of other windows may round otherwise.
        assert alone.row["aacc"] == pytest.approx(each.row["aacc"], abs=2e-3)


def test_methods_whose_rows_cannot_be_computed_yet_wait(own, given, run, windows):
    """A stage that is executed by itself fills of the others only what has its upstream rows."""
    settings = {**given, **DINO, "method": "csa,sc-clip,proxyclip", "batch_size": 1}
    plain, sc_clip, proxyclip = Pipeline.of_several(Run.several(resolve_several(**settings)))
    plain.dense_features.execute()
    assert sum(windows) == BOTH
    rows = [len(each.dense_features.rows()) for each in (plain, sc_clip, proxyclip)]
    assert rows == [2, 2, 0]


def test_as_the_public_api(own, given, run):
    for method in SIX.split(",")[2:]:
        (finished,) = run(method, labels=None, save_vis=own / method, templates="openai")
        networks = {"proxy": DINO["proxy_model"], "proxy_pretrained": DINO["proxy_weights"]}
        model = SCLIP.load(given["model"], given["pretrained"], "cpu", method=method, **networks)
        for number, name in enumerate("ab"):
            image = cv2.imread(str(own / "images" / f"{name}.png"))[..., ::-1]
            masks = blocks(number) if method == "corrclip" else None
            settings = finished.settings
            words = Vocabulary.from_file(settings.classes)
            expected = model.segment(image.copy(), settings, words, masks=masks).labels
            found = np.array(Image.open(own / method / "labels" / f"{name}.png"))
            assert (found != expected).mean() <= 1e-3


def test_a_second_run_computes_nothing(run, windows, seen):
    first = run(SIX)
    windows.clear()
    seen.clear()
    again = run(SIX)
    assert [computed(each) for each in again] == [{}] * 6
    assert (windows, seen) == ([], [])
    assert [each.run_id for each in again] == [each.run_id for each in first]


def test_kept_taps_serve_a_method_that_comes_later(own, run, windows):
    run("sc-clip,resclip", keep_trunk=True)
    assert sum(windows) == BOTH
    kept = len(tables(own, "trunk"))
    assert kept == len({4, 9, "4..10", 5, 6, 7, 8, 11})  # what both read of the last once
    windows.clear()
    later = run("csa,pearl,proxyclip,gla-clip")
    assert windows == []
    assert all(computed(each)["dense_features"] == 2 for each in later)
    assert len(tables(own, "trunk")) == kept
    without = run("csa,pearl,proxyclip,gla-clip", artifacts=own / "others")
    assert [each.run_id for each in later] == [each.run_id for each in without]
    for each, other in zip(later, without, strict=True):
        assert each.row["aacc"] == pytest.approx(other.row["aacc"], abs=2e-3)


def test_what_the_taps_lack_is_kept_beside_them(own, run, windows):
    run("csa", keep_trunk=True)
    assert len(tables(own, "trunk")) == 1
    (finished,) = run("sc-clip", keep_trunk=True)
    assert len(tables(own, "trunk")) == 4
    assert computed(finished)["trunk"] == 2
    windows.clear()
    run("sc-clip", keep_trunk=True, force=("dense_features",))
    assert windows == []


def test_taps_of_another_model_are_not_taken(own, run, windows, tmp_path_factory):
    other = merged(tmp_path_factory.mktemp("other"), "tiny_clip12")
    run("csa", keep_trunk=True)
    windows.clear()
    run("proxyclip", pretrained=str(other))
    assert sum(windows) == BOTH
    windows.clear()
    run("proxyclip", short_side=80)
    assert sum(windows) > 0


def test_features_of_the_second_network_serve_others(own, run, seen):
    run("proxyclip")
    assert [names for _, names in seen] == [("tokens",)] * 2
    seen.clear()
    run("gla-clip")  # reads the same
    assert seen == []
    run("corrclip")
    assert [names for _, names in seen] == [("queries+keys",)] * 2
    assert len(tables(own, "proxy_features")) == 2
    seen.clear()
    run("proxyclip,corrclip", parameters="proxyclip.beta=1")
    assert seen == []


def test_other_parameters_share_what_is_below(own, run, windows, seen):
    finished = run("proxyclip", parameters="beta=1,1.2 gamma=3")
    assert len(finished) == len({each.run_id for each in finished}) == 2
    assert [each.row["parameters"] for each in finished] == [
        "beta=1 gamma=3",
        "beta=1.2 gamma=3",
    ]
    assert sum(windows) == BOTH
    assert len(seen) == 2
    usual = run("proxyclip")  # beta=1.2 and gamma=3 are the published values
    assert computed(usual[0]) == {}


def test_forced_features_of_the_second_network(own, run, seen, windows):
    run("proxyclip", keep_trunk=True)
    seen.clear()
    windows.clear()
    (finished,) = run("proxyclip", keep_trunk=True, force=("proxy_features",))
    assert len(seen) == 2
    assert windows == []
    assert {"proxy_features", "dense_features", "refine"} <= set(computed(finished))


def test_shards(own, given, run):
    (whole,) = run("proxyclip", artifacts=own / "whole")
    settings = resolve(**given, **DINO, method="proxyclip")
    stages = Pipeline.of(Run(settings))
    for stage in stages:
        if stage.shardable:
            assert sum(stage.execute(shard, 2).computed for shard in range(2)) == 2
        else:
            stage.execute()
    assert stages.results.run_id == whole.run_id
    assert stages.results.read()[0]["miou"] == pytest.approx(whole.row["miou"], abs=2e-3)


@pytest.mark.parametrize("stage", ["trunk", "proxy_features"])
def test_a_damaged_row_is_mended(own, run, windows, seen, stage):
    (first,) = run("proxyclip", keep_trunk=True)
    chunks = (tables(own, stage)[0] / "segments").glob("*/c/**/*")
    flip(next(chunk for chunk in chunks if chunk.is_file()))
    windows.clear()
    seen.clear()
    (again,) = run("proxyclip", keep_trunk=True, force=("dense_features",))
    assert again.run_id == first.run_id
    assert again.row["miou"] == pytest.approx(first.row["miou"], abs=2e-3)
    if stage == "trunk":
        assert windows
        assert not seen
    else:
        assert seen
        assert not windows
    windows.clear()
    seen.clear()
    run("proxyclip", keep_trunk=True, force=("dense_features",))
    assert (windows, seen) == ([], [])


def test_a_damaged_tap_of_another_run_is_no_harm(own, run, windows):
    """The pass is csa's, which does not read H_9 itself; it takes the image in its place."""
    run("sc-clip", keep_trunk=True)
    (table,) = (t for t in tables(own, "trunk") if '"h9"' in (t / "manifest.json").read_text())
    for chunk in table.glob("segments/*/c/*/*"):
        flip(chunk)
    windows.clear()
    both = run("csa,sc-clip", keep_trunk=True, parameters="sc-clip.beta=0.3")
    assert windows
    assert not any(each.failures for each in both)
    assert [computed(each)["dense_features"] for each in both] == [2, 2]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_features_are_stored_as_exactly_as_they_are(own, given, dtype):
    """In fp16 the golden labels would differ in 4 of 10,000 pixels; attentions' always were."""
    for method, expected in (
        ("pearl", "float32" if dtype == "fp32" else "float16"),
        ("csa", "float16"),
    ):
        settings = resolve(**given, method=method, dtype=dtype)
        table = Pipeline.of(Run(settings)).dense_features.table
        assert table.segments.dtype == np.dtype(expected)


def test_networks_of_a_method_are_part_of_its_key(own, given):
    def key(**others: Any) -> str:
        settings = resolve(**{**given, **DINO, "method": "proxyclip", **others})
        return Pipeline.of(Run(settings)).dense_features.key

    other = dict(zip(DINO, weights_of("tiny_dino16"), strict=True))
    assert len({key(), key(**other), key(parameters="beta=1"), key(short_side=80)}) == 4
    assert key() == key(parameters="beta=1.2")


def test_clean_ups_keep_every_table_of_a_stage(own, run):
    """Runs refer to all taps and to what features were made of, not to the first of them alone."""
    (finished,) = run("sc-clip,corrclip", keep_trunk=True)[:1]
    assert finished.row["key_trunk"].count(",") == 3  # h4, h9, h4-10 beside the last
    kept = [len(tables(own, stage)) for stage in ("trunk", "proxy_features", "proposals")]
    assert kept == [13, 1, 1]
    root = own / "artifacts"
    assert not list(collect.find_garbage(root, Lease(root), 0.0))


def test_clean_ups_find_what_features_were_made_of(own, run, monkeypatch):
    """Also where the run does not name it, as a run does not whose features were there."""
    run("proxyclip")

    def without(*arguments: Any) -> Any:
        return read_table(*arguments).drop_columns(["key_proxy_features"])

    monkeypatch.setattr(collect, "read_table", without)
    root = own / "artifacts"
    assert not list(collect.find_garbage(root, Lease(root), 0.0))


def test_an_outcome_is_that_of_all_tables(run):
    (finished,) = run("sc-clip", keep_trunk=True)
    trunk = finished.outcomes["trunk"]
    assert (trunk.computed, trunk.cached, trunk.key.count(",")) == (2, 0, 3)
    (again,) = run("sc-clip", keep_trunk=True)
    assert (again.outcomes["trunk"].computed, again.outcomes["trunk"].cached) == (0, 2)
