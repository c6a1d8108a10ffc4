"""Masked crops against a loop over pixels, and their features against open_clip's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sclip_core import SCLIP
from sclip_core.encoder import Attention, DenseEncoder
from sclip_core.encoder.crops import masked_crop
from sclip_core.encoder.pixels import MEAN, STD
from sclip_core.masks import Proposals

from .models import build, make, small_config
from .test_dense import TOWERS, random_pixels

PLACES = {  # in an image of 40×60
    "square": np.s_[5:15, 20:30],
    "wide": np.s_[5:8, 20:57],
    "tall": np.s_[2:39, 20:25],
    "one pixel": np.s_[7:8, 9:10],
    "everything": np.s_[:, :],
    "last row": np.s_[39:, :],
    "corner": np.s_[33:, 51:],
}


def random_image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3)).astype(np.uint8)


def speckled(place: str, seed: int = 0) -> np.ndarray:
    """A mask (40, 60) with holes, as large as its place."""
    mask = np.zeros((40, 60), np.bool_)
    inside = mask[PLACES[place]]
    inside[:] = np.random.default_rng(seed).random(inside.shape) < 0.7
    inside[0, 0] = inside[-1, -1] = True
    return mask


def corners(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def crop_slowly(image, mask, side: int, mean=MEAN, std=STD) -> torch.Tensor:
    """Pixel by pixel into the middle of a square, then PIL, then number by number."""
    top, bottom, left, right = corners(mask)
    square = max(bottom - top, right - left)
    above, before = (square - (bottom - top)) // 2, (square - (right - left)) // 2
    seen = Image.new("RGB", (square, square), tuple(round(colour) for colour in mean))
    for row, column in np.argwhere(mask):
        place = (int(column - left + before), int(row - top + above))
        seen.putpixel(place, tuple(image[row, column].tolist()))
    seen = seen.resize((side, side), Image.Resampling.BICUBIC)
    planes = [np.asarray(plane, np.float64) for plane in seen.split()]
    shifted = [(p - m) / s for p, m, s in zip(planes, mean, std, strict=True)]
    return torch.tensor(np.stack(shifted), dtype=torch.float32)


def crop(image, mask, side: int = 32, mean=MEAN, std=STD) -> torch.Tensor:
    top, bottom, left, right = corners(mask)
    return masked_crop(image, mask[top:bottom, left:right], (top, left), side, mean, std)


def encoded(*masks: np.ndarray) -> Proposals:
    stacked = np.stack(masks) if masks else np.zeros((0, 40, 60), np.bool_)
    return Proposals.of_masks(np.ascontiguousarray(stacked.transpose(0, 2, 1)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small CLIP on disk."""
    return make(tmp_path_factory.mktemp("model"), small_config())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("side", [10, 32, 224])
def test_a_crop_is_a_plain_loop(place, side):
    image, mask = random_image(), speckled(place)
    found = crop(image, mask, side)
    assert found.shape == (3, side, side)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, crop_slowly(image, mask, side), atol=1e-5, rtol=0)


def test_the_models_own_colours():
    image, mask = random_image(), speckled("wide")
    mean, std = (10.4, 200.6, 30.0), (20.0, 30.0, 40.0)
    expected = crop_slowly(image, mask, 32, mean, std)
    torch.testing.assert_close(crop(image, mask, 32, mean, std), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("place", ["square", "wide", "tall", "corner"])
def test_what_is_not_of_the_mask_has_no_influence(place):
    mask = speckled(place)
    image, other = random_image(0), random_image(1)
    assert (image != other).any(-1).mean() > 0.99
    same_inside = np.where(mask[..., None], image, other)
    assert torch.equal(crop(image, mask), crop(same_inside, mask))
    same_outside = np.where(mask[..., None], other, image)
    assert not torch.equal(crop(image, mask), crop(same_outside, mask))


def test_what_is_not_of_the_mask_is_zero_to_clip():
    """But for the mean's rounding to whole numbers."""
    mask = np.zeros((40, 60), np.bool_)
    mask[10, 10:50] = True  # a line: above and below it nothing
    found = crop(np.full((40, 60, 3), 255, np.uint8), mask, 40)
    assert found[:, :15].abs().max() < 0.5 / min(STD)
    assert found[:, 25:].abs().max() < 0.5 / min(STD)
    assert found.max() > 1


def test_a_crop_is_neither_cut_off_nor_stretched():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 10:50] = 255
    mask = image[..., 0] > 0
    white = crop(image, mask, 40)[0] > 1
    rows, columns = torch.nonzero(white, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (15, 24)
    assert (int(columns.min()), int(columns.max())) == (0, 39)


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("policy", ["csa", "maskclip"])
def test_image_features_are_open_clips(kind, policy):
    """Whatever the policy of the dense features."""
    clip = build(TOWERS[kind])
    pixels = random_pixels(3, 3, *clip.visual.image_size)
    expected = clip.encode_image(pixels, normalize=True)
    found = DenseEncoder(clip.visual, Attention.parse(policy)).image_features(pixels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_image_features_differ_from_image_to_image():
    """Else the test above could not fail on their order."""
    clip = build(small_config())
    found = clip.encode_image(random_pixels(3, 3, 224, 224), normalize=True)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_mask_features_are_open_clips_of_the_crops(made):
    model = SCLIP.load(**made.arguments, device="cpu")
    image, masks = random_image(), [speckled(place) for place in PLACES]
    side = made.clip.visual.image_size[0]
    crops = [crop_slowly(image, m, side, model.spec.mean, model.spec.std) for m in masks]
    expected = made.clip.encode_image(torch.stack(crops), normalize=True)
    found = model.mask_features(image, encoded(*masks))
    assert found.shape == (len(masks), 16)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    apart = (expected[:, None] - expected[None]).abs().amax(-1) + torch.eye(len(masks))
    assert apart.min() > 1e-3  # so that an exchange of two would be seen


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batches_make_no_difference(tiny, batch_size):
    image, proposals = random_image(), encoded(*(speckled(place) for place in PLACES))
    whole = tiny.mask_features(image, proposals)
    parts = tiny.mask_features(image, proposals, batch_size=batch_size)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(len(PLACES)))


@pytest.mark.parametrize("batch_size", [1, 2, 0])
def test_an_empty_mask_has_zeros_as_features(tiny, batch_size):
    image, nothing = random_image(), np.zeros((40, 60), np.bool_)
    full = [speckled("square"), speckled("wide")]
    without = tiny.mask_features(image, encoded(*full))
    found = tiny.mask_features(
        image, encoded(nothing, full[0], nothing, full[1], nothing), batch_size
    )
    assert (found[[0, 2, 4]] == 0).all()
    torch.testing.assert_close(found[[1, 3]], without, atol=1e-6, rtol=0)
    assert (tiny.mask_features(image, encoded(nothing)) == 0).all()


def test_no_masks_have_no_features(tiny):
    assert tiny.mask_features(random_image(), encoded()).shape == (0, tiny.spec.width)
