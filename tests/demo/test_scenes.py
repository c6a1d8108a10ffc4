"""The drawn scenes: seeds, exact labels, true captions, files."""

from __future__ import annotations

import re
from collections import Counter

import cv2
import numpy as np
import pytest

from sclip_core import Vocabulary
from sclip_core.demo.scenes import (
    Picture,
    caption,
    caption_rng,
    class_names,
    draw_picture,
    draw_scene,
    evaluation_rng,
    order_rng,
    stuff_names,
    training_rng,
)
from sclip_core.demo.scenes.captions import BANK, words_of
from sclip_core.demo.scenes.compose import LEAST_SHARE, Canvas
from sclip_core.demo.scenes.textures import TEXTURES
from sclip_core.demo.scenes.things import THINGS

NAMES = class_names()


def pictures(count: int, seed: int = 5) -> list[Picture]:
    return [draw_picture(training_rng(seed, number)) for number in range(count)]


# --- seeds


def test_a_picture_is_a_function_of_its_seed() -> None:
    for draw in (
        lambda n: draw_picture(training_rng(0, n)),
        lambda n: draw_scene(evaluation_rng(n)),
    ):
        one, again, other = draw(3), draw(3), draw(4)
        np.testing.assert_array_equal(one.image, again.image)
        assert one.items == again.items
        assert one.image.shape != other.image.shape or (one.image != other.image).any()


def test_training_and_evaluation_never_draw_the_same_numbers() -> None:
    def states(rngs: list[np.random.Generator]) -> set[int]:
        return {rng.bit_generator.state["state"]["state"] for rng in rngs}

    trained = states([training_rng(seed, n) for seed in range(3) for n in range(2000)])
    ordered = states(
        [order_rng(seed, n, k) for seed in range(3) for n in range(700) for k in (0, 1)]
    )
    captioned = states([caption_rng(seed, n) for seed in range(3) for n in range(2000)])
    evaluated = states([evaluation_rng(n) for n in range(6000)])
    assert len(trained) == len(captioned) == len(evaluated) == 6000
    assert len(ordered) == 4200
    assert ordered.isdisjoint(trained | captioned | evaluated)
    assert trained.isdisjoint(evaluated)
    assert trained.isdisjoint(captioned)
    assert captioned.isdisjoint(evaluated)


# --- pictures


def test_classes_are_those_of_the_vocabulary_and_all_occur() -> None:
    assert Vocabulary.named("scenes").class_names == NAMES
    assert stuff_names() == NAMES[:8]
    seen = {item.name for picture in pictures(300) for item in picture.items}
    labelled = {int(k) for n in range(40) for k in np.unique(draw_scene(evaluation_rng(n)).labels)}
    assert seen == set(NAMES)
    assert labelled == set(range(15))


def test_scenes_are_large_and_of_many_sizes() -> None:
    sizes = [draw_scene(evaluation_rng(n)).image.shape for n in range(12)]
    assert all(240 <= h <= 480 and max(320, h) <= w <= 640 and c == 3 for h, w, c in sizes)
    assert len(set(sizes)) == 12
    assert draw_scene(evaluation_rng(0), 200, 300).labels.shape == (200, 300)
    assert draw_scene(evaluation_rng(0), 700).labels.shape == (700, 700)


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("at", [(100.0, 80.0, 30.0), (10.0, 150.0, 60.0)])
def test_a_thing_is_labelled_where_it_changed_the_picture(
    name: str, at: tuple[float, float, float]
) -> None:
    canvas = Canvas(np.random.default_rng(2), 160, 200, 1.0)
    canvas.fill("grass")
    before = canvas.image.copy()
    assert canvas.put(name, *at)
    changed = (np.abs(canvas.image - before) > 1e-6).any(-1)
    labelled = canvas.labels == NAMES.index(name)
    assert (canvas.labels[~labelled] == NAMES.index("grass")).all()
    assert not (labelled & ~changed).any()
    # what changed besides is the soft edge, and the tips that are thinner than a pixel
    near = cv2.dilate(labelled.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert (changed & ~near).sum() <= 0.005 * labelled.sum()
    assert labelled.mean() > 0.02


def test_labels_lie_where_the_textures_do() -> None:
    canvas = Canvas(np.random.default_rng(0), 60, 80, 1.0)
    canvas.fill("snow")
    under = canvas.image.copy()
    share = np.zeros((60, 80), np.float32)
    share[30:] = 1
    canvas.fill("road", share)
    np.testing.assert_array_equal(canvas.image[:30], under[:30])
    assert (canvas.labels[:30] == NAMES.index("snow")).all()
    assert (canvas.labels[30:] == NAMES.index("road")).all()


def test_what_a_scene_says_it_shows_is_there() -> None:
    for number in range(30):
        scene = draw_scene(evaluation_rng(number))
        shares = np.bincount(scene.labels.ravel(), minlength=15) / scene.labels.size
        said = {item.name for item in scene.items}
        assert said == {NAMES[k] for k in range(15) if shares[k] >= LEAST_SHARE}


def test_colour_alone_decides_nothing() -> None:
    """The nearest of 600 mean colours is of the right class for fewer than half of 600 others."""
    means, names = [], []
    for number in range(150):
        for code, name in enumerate(TEXTURES):
            canvas = Canvas(np.random.default_rng((number, code)), 48, 48, 1.0)
            canvas.fill(name)
            means.append(canvas.finish().mean((0, 1)))
            names.append(name)
    known, asked = np.array(means[:600]), np.array(means[600:])
    nearest = np.linalg.norm(asked[:, None] - known, axis=-1).argmin(1)
    right = np.mean([names[k] == name for k, name in zip(nearest, names[600:], strict=True)])
    assert 1 / 8 < right < 0.5


# --- captions


def classes_in(text: str) -> set[str]:
    """The classes whose words are in a text; long words first, as a "beach ball" is no beach."""
    words = sorted(
        ((word, name) for name, words in words_of().items() for word in words),
        key=lambda pair: -len(pair[0]),
    )
    found = set()
    for word, name in words:
        text, hits = re.subn(rf"\b{word}\b", "", text)
        if hits:
            found.add(name)
    return found


def test_captions_name_what_is_there_and_nothing_else() -> None:
    for number, picture in enumerate(pictures(800)):
        text, names = caption(caption_rng(0, number), picture)
        assert names == classes_in(text)
        assert names
        assert names <= {item.name for item in picture.items}


def test_captions_are_varied() -> None:
    drawn = pictures(300)
    rng = caption_rng(1, 0)
    texts = [caption(rng, drawn[n % 300]) for n in range(9000)]
    used = {
        template("\0")
        for template in BANK
        for text, _ in texts
        if re.fullmatch(re.escape(template("\0")).replace("\0", ".*"), text)
    }
    assert len(used) == len({template("\0") for template in BANK})
    words = {word for text, _ in texts for word in re.findall(r"\w+", text)}
    assert {w for words in words_of().values() for word in words for w in word.split()} <= words
    assert {"red", "blue", "large", "small", "left", "right", "middle"} <= words
    several = Counter(len(names) for _, names in texts)
    assert several[1] > 2000
    assert several[2] > 2000
    assert several[3] > 50
    partial = [names < {i.name for i in drawn[n % 300].items} for n, (_, names) in enumerate(texts)]
    assert 0.1 < np.mean(partial) < 0.7
