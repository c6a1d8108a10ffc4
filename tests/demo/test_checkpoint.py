"""The packaged checkpoint: it is small, it is the one of its card, and it segments."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torchmetrics.classification import MulticlassJaccardIndex

import sclip_core.demo
from sclip_core import SCLIP, UserError, Vocabulary
from sclip_core.config import resolve
from sclip_core.demo.scenes import draw_scene, evaluation_rng, lexicon
from sclip_core.encoder import find_model

FOLDER = Path(sclip_core.demo.__file__).parent
WEIGHTS = FOLDER / "sclip_demo.safetensors"
SCENES = 16
FLOORS = {"csa": 77.0, "things": 63.0, "ratio": 1.6, "PAMR": 3.0}


@pytest.fixture(scope="module")
def model() -> SCLIP:
    return SCLIP.load("sclip-demo", "scenes", device="cpu")


def test_it_is_small_and_in_fp16() -> None:
    assert WEIGHTS.stat().st_size < 10e6
    assert {value.dtype for value in load_file(WEIGHTS).values()} == {torch.float16}


def test_the_card_is_of_these_weights() -> None:
    card = (FOLDER / "MODEL_CARD.md").read_text("utf-8")
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [
        hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    ]


def test_tokens_that_no_caption_holds_are_zero() -> None:
    table = load_file(WEIGHTS)["token_embedding.weight"]
    known = torch.zeros(len(table), dtype=torch.bool)
    known[SimpleTokenizer()(lexicon()).unique()] = True
    assert (table[~known] == 0).all()
    assert (table[known] != 0).any(dim=1).all()


def test_any_word_has_a_vector(model: SCLIP) -> None:
    bank = model.text_bank(["grass", "zebra", "a very long name of no such thing", "猫"])
    assert bank.embeddings.isfinite().all()
    torch.testing.assert_close(bank.embeddings.norm(dim=1), torch.ones(4))


def test_another_tag_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown pretrained tag for sclip-demo: 'openai'.*scenes"):
        find_model("sclip-demo", "openai")


def test_a_name_that_is_nearly_its_own() -> None:
    with pytest.raises(UserError, match="sclip-demo"):
        find_model("sclip_demo", "scenes")


@pytest.fixture(scope="module")
def ious() -> dict[str, np.ndarray]:
    """For each method, the IoU of every class in percent on evaluation scenes, by torchmetrics."""
    protocol = resolve(preset="demo", dataset="scenes")
    methods = {
        "vanilla": ("vanilla", protocol),
        "csa": ("csa", protocol),
        "csa + PAMR": ("csa", protocol.replace(pamr_steps=10)),
    }
    scenes = [draw_scene(evaluation_rng(number)) for number in range(SCENES)]
    found = {}
    for name, (attention, settings) in methods.items():
        model = SCLIP.load("sclip-demo", "scenes", device="cpu", attention=attention)
        jaccard = MulticlassJaccardIndex(15, average="none")
        for scene in scenes:
            labels = model.segment(scene.image, settings, Vocabulary.named("scenes")).labels
            jaccard.update(*(torch.from_numpy(a.astype(np.int64)) for a in (labels, scene.labels)))
        found[name] = 100 * jaccard.compute().numpy()
    return found


def test_it_segments(ious: dict[str, np.ndarray]) -> None:
    """The floors are a little below the model card's figures, so that a loss of accuracy fails."""
    means = {name: float(iou.mean()) for name, iou in ious.items()}
    things = {name: float(iou[8:].mean()) for name, iou in ious.items()}
    assert means["csa"] > FLOORS["csa"], means
    assert things["csa"] > FLOORS["things"], things
    assert means["csa"] > FLOORS["ratio"] * means["vanilla"], means
    assert means["csa + PAMR"] > means["csa"] + FLOORS["PAMR"], means
