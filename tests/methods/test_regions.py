"""Regions in windows: resize, padding, merge, scope, tokens."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate, normalize

from sclip_core.config import Geometry, Protocol
from sclip_core.methods.regions import (
    PART_ELEMENTS,
    merged,
    mixed,
    nearest,
    painted,
    region_tokens,
    region_windows,
    scoped_weights,
    spatial_blocks,
)
from sclip_core.methods.stitching import stitched, whole_image

from .scenes_corr import drawn, quarters, scene_of
from .test_corrclip import METHOD, SMALL

PLAIN = SMALL.replace(window_multiple=0)


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("before", "after"),
    [((300, 420), (448, 627)), ((137, 2048), (21, 256)), ((21, 42), (10, 21)), ((3, 5), (3, 5))],
)
def test_nearest_is_pytorchs(before, after, random):
    ids = torch.randint(0, 10**6, (2, *before), generator=random)
    expected = interpolate(ids[None].float(), size=after, mode="nearest")[0].long()
    assert torch.equal(nearest(ids, after), expected)
    assert torch.equal(nearest(ids[0], after), expected[0])


def test_padding_is_a_region_of_its_own():
    protocol = Protocol(short_side=48, slide_crop=64, slide_stride=64, window_multiple=56)
    geometry = Geometry.of(48, 200, protocol, 16)
    assert geometry.padding == (4, 4, 24, 24)
    regions = torch.arange(48)[:, None] // 24 * 10000 + torch.arange(200) // 100  # 0 1 10000 10001
    windows = region_windows(regions, geometry)
    assert windows.shape == (geometry.num_windows, 56, 112)
    assert (windows[:, :4] == 4).all()
    assert (windows[:, :, -24:] == 4).all()
    assert (windows[0, 4:-4, 24:-24].unique() == torch.tensor([0, 2])).all()
    assert (windows[-1, 4:-4, 24:-24].unique() == torch.tensor([1, 3])).all()
    assert torch.equal(region_windows(regions * 3 - 5, geometry), windows)


def components(features, ids, eps):
    """DBSCAN as of docs/methods.md, with a search from every region."""
    names = ids.unique().tolist()[1:]
    means = normalize(torch.stack([features[ids == one].mean(0) for one in names]), dim=1)
    near = (means @ means.T).max() - means @ means.T <= eps
    number, count = {}, 0
    for start in range(len(names)):
        if start in number:
            continue
        count, found = count + 1, [start]
        while found:
            one = found.pop()
            number[one] = count
            found += [
                other for other in range(len(names)) if near[one, other] and other not in number
            ]
    back = {name: number[i] for i, name in enumerate(names)}
    return torch.tensor([back.get(one, 0) for one in ids.tolist()])


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.2, 0.5, 2.0])
def test_merge_against_a_search(eps, random):
    features = normalize(torch.randn(300, 3, generator=random), dim=1)
    ids = torch.randint(0, 25, (300,), generator=random) * 7 - 3
    expected = components(features, ids, eps)
    assert torch.equal(merged(ids, features, eps), expected)
    assert expected.max() == {0.0: 24, 2.0: 1}.get(eps, expected.max())


def test_chains_merge():
    """Neighbours within eps are enough; the ends of the chain are far apart."""
    angles = torch.tensor([0.0, 0.5, 1.0, 1.5, 3.0])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    ids = torch.tensor([9, 4, 8, 3, 1])  # the lowest takes no part
    assert merged(ids, features, 0.2).tolist() == [1, 1, 1, 1, 0]
    assert merged(ids, features, 0.1).tolist() == [4, 2, 3, 1, 0]


def test_two_ids_stay():
    features = torch.ones(4, 2)
    assert merged(torch.tensor([5, 5, 9, 9]), features, 2.0).tolist() == [0, 0, 1, 1]
    assert merged(torch.tensor([5, 5, 5, 5]), features, 2.0).tolist() == [0, 0, 0, 0]


def test_scope_against_a_loop(random, monkeypatch):
    features = normalize(torch.randn(40, 8, generator=random) + 0.4, dim=1)
    ids = torch.randint(0, 4, (40,), generator=random)
    values = torch.randn(40, 5, generator=random)
    similarity = features @ features.T
    expected = torch.zeros(40, 40)
    for i in range(40):
        for j in range(40):
            if ids[i] == 0 or ids[j] == 0:
                allowed = similarity[i, j] > similarity.mean()
            else:
                allowed = ids[i] == ids[j]
            expected[i, j] = (4 * similarity[i, j]).exp() * allowed
    expected /= expected.sum(1, keepdim=True)
    found = scoped_weights(features, ids, 4.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(scoped_weights(features, ids, 4.0, 7, 19), expected[7:19])
    whole = mixed(features, ids, values, 4.0)
    torch.testing.assert_close(whole, expected @ values)
    monkeypatch.setattr("sclip_core.methods.regions.PART_ELEMENTS", 40 * 7)
    torch.testing.assert_close(mixed(features, ids, values, 4.0), whole)
    assert PART_ELEMENTS > 40 * 7


def test_equal_features_leave_no_row_empty():
    """The mean is 1 there, and no similarity above it: each position mixes with itself."""
    features = normalize(torch.ones(30, 7), dim=1)
    weights = scoped_weights(features, torch.zeros(30, dtype=torch.int64), 4.0)
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(30))


def test_tokens_against_one_masked_sequence(tiny12_head):
    """All copies in one sequence before CLS and patches, with the mask that the paper describes."""
    scene = scene_of(tiny12_head, METHOD, drawn(64, 96), quarters(64, 96), PLAIN)
    tower, ids = scene.tower, torch.tensor([[0, 0, 1, 3] * 4] * len(scene.h(0)))
    count, length = 4, 17
    sees = torch.zeros(count + length, count + length, dtype=torch.bool)
    sees[:, count] = True
    sees[count:, count:] = True
    sees[:count, count + 1 :] = ids[0] == torch.arange(count)[:, None]
    x = scene.h(0)
    x = torch.cat([x[:, :1].expand(-1, count, -1), x], dim=1)
    for block in range(tower.layers):
        torch.testing.assert_close(x[:, count:], scene.h(block), atol=1e-4, rtol=1e-4)
        q, k, v = tower.heads(block, x)
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~sees, -torch.inf)
        x = tower.after_attention(block, x + tower.out(block, scores.softmax(dim=-1) @ v))
    found = region_tokens(tower, map(scene.h, range(tower.layers)), ids, count)
    torch.testing.assert_close(found, x[:, :count], atol=1e-4, rtol=1e-4)

    order = torch.tensor([2, 0, 3, 1])  # other numbers only permute the tokens
    permuted = region_tokens(tower, map(scene.h, range(tower.layers)), order[ids], count)
    torch.testing.assert_close(permuted[:, order], found, atol=1e-5, rtol=1e-5)


def test_one_region_is_cls(tiny12_head):
    """A copy that sees CLS and every patch is CLS itself, through all blocks."""
    scene = scene_of(tiny12_head, METHOD, drawn(64, 96), quarters(64, 96), PLAIN)
    tower, last = scene.tower, scene.tower.layers - 1
    ids = torch.zeros(len(scene.h(0)), 16, dtype=torch.int64)
    found = region_tokens(tower, map(scene.h, range(tower.layers)), ids, 1)
    q, k, v = tower.heads(last, scene.h(last))
    attended = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v
    complete = tower.after_attention(last, scene.h(last) + tower.out(last, attended))
    torch.testing.assert_close(found[:, 0], complete[:, 0], atol=1e-4, rtol=1e-4)


def test_paint():
    tokens = torch.arange(12.0).view(2, 3, 2)
    ids = torch.tensor([[[0, 2]], [[1, 1]]])
    assert painted(tokens, ids).tolist() == [[[[0, 1], [4, 5]]], [[[8, 9], [8, 9]]]]


@pytest.mark.parametrize(
    ("layers", "blocks"),
    [(12, (5, 9)), (24, (10, 21)), (32, (2, 29)), (16, (2, 13)), (4, (1, 1)), (2, (0, 0))],
)
def test_spatial_blocks(layers, blocks):
    found = spatial_blocks(layers)
    assert (found[0], found[-1]) == blocks


@pytest.mark.parametrize(
    ("size", "crop", "stride", "multiple", "patch"),
    [
        ((100, 150), 64, 32, 0, 8),
        ((100, 150), 64, 32, 0, 16),
        ((137, 300), 224, 112, 56, 16),  # lower than a window: padded
        ((90, 170), 40, 40, 0, 16),  # windows leave cells out
    ],
)
def test_stitching_against_a_loop(size, crop, stride, multiple, patch, random):
    protocol = Protocol(
        short_side=min(size), slide_crop=crop, slide_stride=stride, window_multiple=multiple
    )
    geometry = Geometry.of(*size, protocol, 16)
    rows, columns = geometry.frame[0] // patch, geometry.frame[1] // patch
    tokens = torch.randn(geometry.num_windows, rows, columns, 3, generator=random)
    cells = whole_image(geometry, patch).tokens
    total, count = torch.zeros(*cells, 3), torch.zeros(*cells, 1)
    corners = [(top, left) for top in geometry.tops for left in geometry.lefts]
    for (top, left), window in zip(corners, tokens, strict=True):
        y, x = top // patch, left // patch
        total[y : y + rows, x : x + columns] += window
        count[y : y + rows, x : x + columns] += 1
    found = stitched(tokens, geometry, patch)
    covered = count[..., 0] > 0
    assert bool(covered.all()) == (crop != 40)
    torch.testing.assert_close(found[covered], (total / count)[covered])
    assert found.isfinite().all()
    constant = stitched(torch.ones_like(tokens), geometry, patch)
    torch.testing.assert_close(constant, torch.ones_like(constant))
