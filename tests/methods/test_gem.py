"""GEM against its public code's arrays, and against a slow writing of its formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, normalize

from sclip_core import Protocol
from sclip_core.config import UserError
from sclip_core.datasets import Vocabulary
from sclip_core.encoder.pixels import normalise
from sclip_core.encoder.taps import Tap
from sclip_core.methods.gem import GEM, block_output, self_self
from sclip_core.methods.method import Scene

from ..conftest import IMAGES
from ..test_golden import rgb
from .scenes_scclip import one_window, scene_from, scene_of

PUBLIC = GEM()
BLOCKS = range(6, 12)
# Of OpenAI, on values 0..255 and not rounded.
MEAN = tuple(255 * value for value in (0.48145466, 0.4578275, 0.40821073))
STD = tuple(255 * value for value in (0.26862954, 0.26130258, 0.27577711))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_tokens(method: GEM, scene: Scene, expected: np.ndarray, every: int) -> None:
    """Compare every so many tokens of the first window, not normalised; CLS is the first."""
    features = method.features(scene)[0].flatten(0, 1)
    tokens = torch.from_numpy(expected)[1:]
    ours = features[every - 1 :: every] * tokens.norm(dim=1, keepdim=True)
    torch.testing.assert_close(ours, tokens, atol=2e-5, rtol=0)


def squashed(image: np.ndarray) -> torch.Tensor:
    """The pixels that the public code sees: (1, 3, 448, 448)."""
    resized = Image.fromarray(image).resize((448, 448), Image.Resampling.BICUBIC)
    return normalise(np.asarray(resized), MEAN, STD)[None]


@pytest.mark.parametrize("image", IMAGES)
def test_tokens(image, tiny12, arrays, golden):
    expected, picture = arrays("clip_only", image), rgb(golden(image))
    scene = scene_of(tiny12, PUBLIC, picture)
    for block, of_block in zip(BLOCKS, expected["gem.crop0.block_out.every28"], strict=True):
        ours = block_output(scene.tower, block, scene.h(block)[:1])
        np.testing.assert_allclose(ours[0, ::28], of_block, atol=5e-6)
    assert_tokens(PUBLIC, scene, expected["gem.crop0.tokens.every4"], 4)
    whole = scene_of(tiny12, PUBLIC, picture, Protocol(slide_crop=0))
    assert_tokens(PUBLIC, whole, expected["gem.whole.tokens.every8"], 8)


@pytest.mark.parametrize("image", IMAGES)
def test_heat_of_the_squashed_image(image, tiny12, arrays, golden):
    """As published."""
    expected = arrays("clip_only", image)
    scene = scene_from(tiny12, PUBLIC, squashed(rgb(golden(image))), one_window(448, 448))
    assert_tokens(PUBLIC, scene, expected["gem.resized448.tokens.every16"], 16)
    words = torch.from_numpy(expected["gem.text_voc21"])
    cosines = (PUBLIC.features(scene) @ words.T).permute(0, 3, 1, 2)
    heat = interpolate(cosines, size=(448, 448), mode="bilinear")[0, :, ::32, ::32]
    np.testing.assert_allclose(heat, expected["gem.resized448.heat.every32"], atol=3e-6)


def test_words_are_put_into_one_template(tiny12, arrays):
    bank = tiny12.text_bank(Vocabulary.named("voc21"), PUBLIC.templates)
    expected = arrays("clip_only", IMAGES[1])["gem.text_voc21"]
    np.testing.assert_allclose(bank.embeddings, expected, atol=2e-5)


def test_positions_matter_where_windows_are_not_native(tiny12, golden):
    """224×224 is the tower's own size: both rules take the table as it is there."""

    class Reference(GEM):
        positions = "reference"

    image = rgb(golden(IMAGES[0]))
    native = [method.features(scene_of(tiny12, method, image)) for method in (GEM(), Reference())]
    torch.testing.assert_close(*native, rtol=0, atol=0)
    wide = Protocol(slide_crop=0)
    ours, other = (
        method.features(scene_of(tiny12, method, image, wide)) for method in (GEM(), Reference())
    )
    assert (ours - other).abs().max() > 1e-3


def test_what_is_read():
    def blocks(depth: int, layers: int) -> tuple[Tap, ...]:
        return GEM(depth=depth).taps(layers)

    of = Tap.of
    assert blocks(7, 12) == tuple(map(of, BLOCKS))
    assert blocks(2, 12) == (of(11),)
    assert blocks(7, 24) == tuple(map(of, range(18, 24)))
    assert blocks(7, 3) == (of(1), of(2))
    assert blocks(7, 1) == (of(0),)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_self_self_is_its_formula(iterations):
    stream, values = random(2, 3, 10, 4), random(2, 3, 10, 4, seed=1)
    tau = torch.tensor([0.5, 3.0])[:, None, None, None]
    expected = normalize(stream.double(), dim=-1)
    for _ in range(iterations):
        weights = (tau * expected @ expected.transpose(-1, -2)).softmax(dim=-1)
        expected = normalize(weights @ expected, dim=-1)
    weights = (tau * expected @ expected.transpose(-1, -2)).softmax(dim=-1)
    ours = self_self(stream, values, tau, iterations)
    torch.testing.assert_close(ours.double(), weights @ values.double(), atol=1e-6, rtol=0)


def test_equal_tokens_get_the_mean_of_the_values():
    stream = random(1, 1, 1, 4).expand(1, 2, 9, 4)
    values = random(1, 2, 9, 4, seed=1)
    ours = self_self(stream, values, torch.tensor(2.0))
    torch.testing.assert_close(ours, values.mean(dim=2, keepdim=True).expand_as(values))


def test_depth_two_is_the_last_block_alone(tiny12, golden):
    method = GEM(depth=2)
    scene = scene_of(tiny12, method, rgb(golden(IMAGES[0])))
    z = scene.h(11) + block_output(scene.tower, 11, scene.h(11))
    expected = scene.tower.features(z[:, 1:]).unflatten(1, (14, 14))
    torch.testing.assert_close(method.features(scene), expected)


def test_windows_are_each_for_themselves(tiny12, golden):
    """The temperature is of a window, not of the batch; and the taps stay as they were."""
    image = rgb(golden(IMAGES[0]))
    scene = scene_of(tiny12, PUBLIC, image)
    before = scene.h(6).clone()
    together = PUBLIC.features(scene)
    torch.testing.assert_close(scene.h(6), before, rtol=0, atol=0)
    geometry = scene.geometry
    pixels = scene.pixels()
    pixels[1:] *= 3  # the other windows get other lengths
    changed = PUBLIC.features(scene_from(tiny12, PUBLIC, pixels, geometry))
    torch.testing.assert_close(changed[0], together[0], atol=1e-5, rtol=0)
    assert (changed[1] - together[1]).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(224, 224), (16, 16), (16, 48), (48, 80), (112, 448)])
def test_flat_and_small_windows(tiny12, size):
    geometry = one_window(*size)
    scene = scene_from(tiny12, PUBLIC, torch.zeros(1, 3, *geometry.window), geometry)
    features = PUBLIC.features(scene)
    assert features.shape == (1, size[0] // 16, size[1] // 16, 32)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(features.shape[:-1]))


def test_a_tower_of_three_blocks(tiny, golden):
    features = PUBLIC.features(scene_of(tiny, PUBLIC, rgb(golden(IMAGES[0]))))
    torch.testing.assert_close(features, normalize(features, dim=-1))


@pytest.mark.parametrize("wrong", [{"depth": 1}, {"iterations": -1}])
def test_parameters_out_of_range(wrong):
    with pytest.raises(UserError):
        GEM.checked(wrong)
