"""What a GPU gives against the golden arrays and against the CPU; all of it is skipped without one.

The small networks' sharpened attention amplifies rounding, and a GPU adds in another order, so the
bounds of logits are five times those of a CPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sclip_core import SCLIP, Protocol
from sclip_core.config.masks import MaskSettings
from sclip_core.demo.scenes import draw_scene, evaluation_rng

from .conftest import IMAGES, TINY
from .methods.cases import CASES, CLIP, rgb
from .methods.conftest import arrays, merged  # noqa: F401  (a fixture)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEMO = Protocol(short_side=192, slide_crop=48, slide_stride=24)
SCENES = 10
CLASSES = ["sky", "grass", "sea", "sand", "road", "wall", "box", "ball", "tree", "house", "boat"]
SAME = 0.9999  # of the labels


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Of the 12-block CLIP; with the key True those of methods with a second network."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        False: merged(folder, "tiny_clip12"),
        True: merged(folder, "tiny_clip12", "tiny_clip12_head"),
    }


def close(found: torch.Tensor, expected: np.ndarray, said: str) -> None:
    """Print how far logits are from the golden ones, and bound half and nearly all of them."""
    off = np.abs(found.cpu().numpy() - expected)
    half, most = np.quantile(off, [0.5, 0.99])
    print(f"{said}: logits apart, median {half:.1e}, 99 % {most:.1e}, all {off.max():.1e}")
    assert half <= 2e-6
    assert most <= 1e-5


def same(found: np.ndarray, expected: np.ndarray, said: str, least: float = SAME) -> None:
    """Print how many labels are equal, and bound them."""
    equal = float((found == expected).mean())
    print(f"{said}: {equal:.5%} of the labels equal")
    assert equal >= least


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(("key", "preset"), [("voc21", "voc21"), ("coco_stuff164k", "coco_stuff")])
def test_golden(golden, name, key, preset):
    model = SCLIP.load(**TINY, device="cuda", dtype="fp32")
    found, protocol = golden(name), Protocol.named(preset)
    image = rgb(found)
    logits = model.logits(image, protocol=protocol)[:, ::16, ::16]
    close(logits, found[f"logits16_{key}"], f"{key} {name}")
    labels = model.segment(image, protocol=protocol).labels
    same(labels, found[f"labels_{key}"], f"{key} {name}")


def test_golden_pamr(golden):
    model = SCLIP.load(**TINY, device="cuda", dtype="fp32")
    found, protocol = golden(IMAGES[0]), Protocol.named("voc20").replace(pamr_steps=10)
    image = rgb(found)
    logits = model.logits(image, protocol=protocol)[:, ::16, ::16]
    close(logits, found["logits16_voc20_pamr10_8_16"], "voc20, PAMR")
    labels = model.segment(image, protocol=protocol).labels
    same(labels, found["labels_voc20_pamr10_8_16"], "voc20, PAMR")


@pytest.mark.parametrize("method", CASES)
def test_methods(arrays, golden, weights, method):  # noqa: F811
    case = CASES[method]
    model = SCLIP.load(
        str(CLIP), str(weights[case.head]), "cuda", "fp32", method=method, **case.networks()
    )
    found = arrays(case.arrays, IMAGES[1])
    masks = arrays("corrclip", IMAGES[1])["ids"] if case.masks else None
    for name in case.sets(found):
        protocol = case.protocol(name)
        labels = model.segment(rgb(golden(IMAGES[1])), protocol=protocol, masks=masks).labels
        same(labels, found[f"labels_{case.array}_{name}"], f"{method} {name}")


@pytest.mark.parametrize("steps", [0, 10])
@pytest.mark.parametrize(("dtype", "least"), [("fp32", 0.9999), ("fp16", 0.999), ("bf16", 0.995)])
def test_demo_scenes(dtype, least, steps):
    cpu = SCLIP.load("sclip-demo", "scenes", "cpu", "fp32")
    gpu = SCLIP.load("sclip-demo", "scenes", "cuda", dtype)
    rng, equal = evaluation_rng(0), []
    protocol = DEMO.replace(pamr_steps=steps)
    for _ in range(SCENES):
        image = draw_scene(rng, 240, 320).image
        one, other = (
            model.segment(image, protocol=protocol, classes=CLASSES).labels for model in (cpu, gpu)
        )
        equal.append((one == other).mean())
    print(f"demo {dtype}, {steps} steps: {np.mean(equal):.5%} of the labels equal")
    assert np.mean(equal) >= least


@pytest.mark.parametrize("refiner", ["tlp"])
def test_refiners(refiner):
    cpu, gpu = (SCLIP.load("sclip-demo", "scenes", device, "fp32") for device in ("cpu", "cuda"))
    image = draw_scene(evaluation_rng(3), 120, 160).image
    protocol = DEMO.replace(refiner=refiner)
    one, other = (m.segment(image, protocol=protocol, classes=CLASSES).labels for m in (cpu, gpu))
    same(other, one, refiner)


def test_sam():
    pytest.importorskip("segment_anything")
    from sclip_core.masks.sam.generator import MaskGenerator

    from .masks.sam.models import make

    settings = MaskSettings(
        points_per_side=8, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=0.9
    )
    image = draw_scene(evaluation_rng(1), 120, 160).image
    one, other = (
        MaskGenerator(make(seed=0).to(device), settings)(image) for device in ("cpu", "cuda")
    )
    assert len(one) == len(other) > 3
    for ours, theirs in zip(one.masks(), other.masks(), strict=True):
        assert (ours & theirs).sum() >= 0.99 * (ours | theirs).sum()


def test_half_precision_of_methods_runs(arrays, golden, weights):  # noqa: F811
    """As people run them; the small networks are too sharp for a bound on labels."""
    for method in ("sc-clip", "resclip", "proxyclip", "trident"):
        case = CASES[method]
        model = SCLIP.load(
            str(CLIP), str(weights[case.head]), "cuda", "fp16", method=method, **case.networks()
        )
        found = arrays(case.arrays, IMAGES[1])
        name = case.sets(found)[-1]
        labels = model.segment(rgb(golden(IMAGES[1])), protocol=case.protocol(name)).labels
        same(labels, found[f"labels_{case.array}_{name}"], f"{method} in fp16", 0.99)
