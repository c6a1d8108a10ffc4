"""Training: what the trainer sees, its loss, and that a stopped run can be continued."""

from __future__ import annotations

import ast
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import log_softmax

from sclip_core import SCLIP, UserError
from sclip_core.demo import training
from sclip_core.demo.scenes import Item, Picture, Scene, caption, draw_picture, training_rng
from sclip_core.demo.training.pictures import BLOCK, Batch, Pictures
from sclip_core.demo.training.tokens import Tokens
from sclip_core.demo.training.train import CONFIG, draw_curve, train
from sclip_core.demo.training.trainer import MaskedClipLoss, Recipe, Trainer
from sclip_core.encoder.text import encode_prompts

CPU = torch.device("cpu")
SMALL = Recipe(steps=6, batch=16, warmup=2)


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the usual 512 pictures the accuracy takes longer than the steps of all tests."""
    monkeypatch.setattr(sys.modules[train.__module__], "HELD_OUT", 16)


def config() -> dict:
    return json.loads(CONFIG.read_text())


# --- what is learned from


def test_no_label_box_or_mask_reaches_the_trainer() -> None:
    assert {field.name for field in dataclasses.fields(Batch)} == {"images", "prompts", "true"}
    assert {field.name for field in dataclasses.fields(Picture)} == {"image", "items"}
    batch = Pictures(0, 32, 48).make(0)
    assert batch.images.shape == (32, 48, 48, 3)
    assert batch.prompts.shape == (32, 77)
    assert batch.true.shape == (32, 32)
    for number in range(50):
        picture = draw_picture(training_rng(0, number))
        assert type(picture) is Picture  # a Scene has labels
        for item in picture.items:
            assert {type(v) for v in dataclasses.astuple(item)} == {str, float}


def test_no_module_of_the_trainer_knows_scenes_or_labels() -> None:
    folder, left, seen = Path(training.__file__).parent, ["train"], set()
    while left:  # it and what it imports of this folder
        seen.add(module := left.pop())
        tree = ast.parse((folder / f"{module}.py").read_text())
        origins = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        near = {o.removeprefix(f"{training.__name__}.") for o in origins if training.__name__ in o}
        left += near - seen
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
        assert names.isdisjoint({"Scene", "draw_scene", "evaluation_rng", "labels", "Canvas"})
    assert seen == {"train", "trainer", "tokens", "pictures"}
    assert issubclass(Scene, Picture)


def test_a_caption_is_true_of_the_pictures_that_show_all_it_names(monkeypatch) -> None:
    things = [{"ball", "grass"}, {"grass"}, {"ball", "sand"}, {"sand"}]
    image = np.zeros((48, 48, 3), np.uint8)
    drawn = [Picture(image, tuple(Item(n, "", "", "", 0.5) for n in sorted(t))) for t in things]
    said = iter([{"ball"}, {"grass"}, {"ball", "sand"}, {"sand"}])
    pictures = Pictures(0, 4, 48)
    monkeypatch.setattr(pictures, "_indices", lambda number: np.arange(4))
    monkeypatch.setattr(pictures, "_picture", lambda index: drawn[index])
    monkeypatch.setattr(
        "sclip_core.demo.training.pictures.caption",
        lambda rng, picture: ("words", frozenset(next(said))),
    )
    expected = [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 1]]
    assert pictures.make(0).true.int().tolist() == expected


def test_every_picture_is_shown_as_often_as_the_recipe_says() -> None:
    pictures = Pictures(0, 4, 48, shows=3)
    numbers = range(BLOCK * 3)
    first = [int(i) for number in numbers for i in pictures._indices(number)]
    assert sorted(first) == sorted(list(range(BLOCK * 4)) * 3)
    later = [int(i) for number in numbers for i in pictures._indices(number + BLOCK * 3)]
    assert set(first).isdisjoint(later)


def test_a_batch_is_a_function_of_seed_and_number() -> None:
    ahead, fresh = Pictures(3, 8, 48, shows=2), Pictures(3, 8, 48, shows=2)
    for number in range(3):
        ahead.make(number)
    one, again = ahead.make(70), fresh.make(70)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.prompts, again.prompts)
    assert not torch.equal(one.images, Pictures(4, 8, 48, shows=2).make(70).images)


def test_workers_change_nothing() -> None:
    alone = list(Pictures(0, 4, 48, 1, 0, 4))
    shared = list(torch.utils.data.DataLoader(Pictures(0, 4, 48, 1, 0, 4), None, num_workers=2))
    assert len(alone) == len(shared) == 4
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.prompts, other.prompts)


# --- loss and tokens


def test_masked_loss_is_the_slow_obvious_one() -> None:
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    true = torch.eye(6, dtype=torch.bool)
    true[0, 3] = true[4, 1] = True
    loss = MaskedClipLoss()
    loss.true = true
    total = 0.0
    for i in range(6):
        captions = [j for j in range(6) if j == i or not true[i, j]]
        row = log_softmax(torch.stack([10 * images[i] @ texts[j] for j in captions]), 0)
        pictures = [j for j in range(6) if j == i or not true[j, i]]
        column = log_softmax(torch.stack([10 * images[j] @ texts[i] for j in pictures]), 0)
        total -= float(row[captions.index(i)] + column[pictures.index(i)]) / 12
    assert float(loss(images, texts, torch.tensor(10.0))) == pytest.approx(total, abs=1e-6)


def test_without_anything_true_besides_it_is_clips_own() -> None:
    images, texts = torch.randn(5, 8), torch.randn(5, 8)
    loss = MaskedClipLoss()
    loss.true = torch.eye(5, dtype=torch.bool)
    plain = open_clip.loss.ClipLoss()(images, texts, torch.tensor(3.0))
    assert torch.equal(loss(images, texts, torch.tensor(3.0)), plain)


def test_the_small_table_gives_what_open_clip_gives_with_the_whole_one() -> None:
    trainer = Trainer(SMALL, config(), CPU)
    prompts = Pictures(0, 16, 48).make(0).prompts
    whole = open_clip.CLIP(**config())
    state = trainer.model.state_dict()
    state["token_embedding.weight"] = trainer.tokens.whole(state["token_embedding.weight"])
    whole.load_state_dict(state)
    with torch.no_grad():
        expected = whole.eval().encode_text(prompts)
        found = encode_prompts(trainer.model.eval(), trainer.tokens.small(prompts))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_every_caption_is_made_of_known_tokens() -> None:
    tokens, pictures = Tokens(49408), Pictures(9, 256, 48)
    for number in range(8):
        tokens.small(pictures.make(number).prompts)
    with pytest.raises(ValueError, match="lexicon"):
        tokens.small(pictures.tokenizer(["a zebra"]))


# --- runs


@pytest.mark.slow
def test_it_learns() -> None:
    trainer = Trainer(Recipe(steps=60, batch=64, warmup=10, patch_dropout=0.5), config(), CPU)
    batch = Pictures(0, 64, 48).make(0)
    losses = [trainer.take(batch) for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    train(SMALL, tmp_path / "whole", every=3)
    train(SMALL, tmp_path / "parts", every=1, minutes=0)  # one step
    train(SMALL, tmp_path / "parts", every=2)
    whole, parts = (
        load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").open()]
    assert steps == [1, 2, 4, 6]
    with pytest.raises(UserError, match="another recipe"):
        train(dataclasses.replace(SMALL, seed=1), tmp_path / "parts")


def test_the_weights_load_like_any_other(tmp_path: Path) -> None:
    train(dataclasses.replace(SMALL, steps=1), tmp_path)
    model = SCLIP.load(str(CONFIG), str(tmp_path / "weights.safetensors"), device="cpu")
    picture = draw_picture(training_rng(0, 0))
    seg = model.segment(picture.image, classes=["grass", "sky"], short_side=48, slide_crop=48,
                        slide_stride=24)  # fmt: skip
    assert seg.labels.shape == (48, 48)
    assert caption(np.random.default_rng(0), picture)[0]


def test_the_curve_of_a_log_is_a_picture(tmp_path: Path) -> None:
    train(dataclasses.replace(SMALL, steps=2), tmp_path, every=1)
    draw_curve(tmp_path / "log.jsonl", tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        colours = {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    assert {(31, 111, 180), (209, 105, 31)} <= colours  # both lines are there
