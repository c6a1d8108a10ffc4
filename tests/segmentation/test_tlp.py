"""TLP: against slow loops and a dense solver, and its edges; ``tests/methods`` has its arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate, normalize

from sclip_core import UserError
from sclip_core.segmentation.stitch import bilinear_matrix
from sclip_core.segmentation.tlp import TLP, Graph, solve


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(found, expected, bound: float) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=bound, rtol=0)


def a_graph(rows: int, columns: int) -> Graph:
    """Weights as they occur: confidences well below 1, edges between 0 and 1."""
    numbers = torch.rand(3, rows, columns, generator=torch.Generator().manual_seed(1))
    return Graph(0.02 + numbers[0] / 10, numbers[1, :, 1:], numbers[2, 1:])


def dense(graph: Graph) -> np.ndarray:
    """``diag(c) + L``, edge by edge."""
    rows, columns = graph.confidence.shape
    matrix = np.diag(graph.confidence.numpy().ravel().astype(float))
    for y in range(rows):
        for x in range(columns):
            for there, weights in (((y, x + 1), graph.right), ((y + 1, x), graph.down)):
                if there[0] < rows and there[1] < columns:
                    u, v, w = y * columns + x, there[0] * columns + there[1], float(weights[y, x])
                    matrix[u, u] += w
                    matrix[v, v] += w
                    matrix[u, v] -= w
                    matrix[v, u] -= w
    return matrix


@pytest.mark.parametrize("shape", [(5, 7), (1, 6), (6, 1), (1, 1)])
def test_the_system(shape):
    graph, x = a_graph(*shape), drawn(3, *shape)
    found = graph.times(x).flatten(1)
    close(found, x.flatten(1).double().numpy() @ dense(graph), 1e-5)


def test_many_steps_solve_it_and_few_do_not():
    graph, x = a_graph(5, 7), drawn(3, 5, 7)
    right = (graph.confidence * x).flatten(1).double().numpy().T
    exact = np.linalg.solve(dense(graph), right).T
    close(solve(graph, x, 200).flatten(1), exact, 1e-4)
    assert np.abs(solve(graph, x, 3).flatten(1).numpy() - exact).max() > 1e-2


def test_the_steps_of_a_slow_solver():
    """Textbook conjugate gradients on all words as one long vector, in float64."""
    graph, x = a_graph(5, 7), drawn(3, 5, 7)
    matrix = np.kron(np.eye(3), dense(graph))
    solved = x.double().numpy().ravel()
    residual = (graph.confidence * x).double().numpy().ravel() - matrix @ solved
    direction = residual.copy()
    for _ in range(6):
        size = residual @ residual
        length = size / (direction @ matrix @ direction)
        solved = solved + length * direction
        residual = residual - length * (matrix @ direction)
        direction = residual + (residual @ residual) / size * direction
    close(solve(graph, x, 6).flatten(), solved, 1e-4)


def test_words_share_their_steps():
    graph, x = a_graph(5, 7), drawn(3, 5, 7)
    each = torch.cat([solve(graph, word[None], 4) for word in x])
    assert (each - solve(graph, x, 4)).abs().max() > 1e-3


def test_without_edges_nothing_moves():
    graph, x = a_graph(5, 7), drawn(3, 5, 7)
    alone = graph._replace(right=0 * graph.right, down=0 * graph.down)
    assert torch.equal(solve(alone, x, 25), x)


def test_constant_logits_stay():
    constant = torch.tensor([0.1, -0.2, 0.3])[:, None, None].expand(3, 5, 7).contiguous()
    close(solve(a_graph(5, 7), constant, 25), constant, 1e-6)


def test_the_weights_by_slow_loops():
    tlp, x, image = TLP(tlp_tau=0.7, tlp_boost=3.0, tlp_ke=2.0), drawn(4, 3, 5), drawn(3, 3, 5)
    words = normalize(drawn(4, 6), dim=-1)
    graph = tlp.graph(x, image, words)
    likely = np.exp(x.double().numpy())
    likely /= likely.sum(axis=0)
    grey = np.tensordot([0.299, 0.587, 0.114], image.double().numpy(), 1)
    similar = np.exp(words.double().numpy() @ words.double().numpy().T / 0.7)
    similar = similar / similar.sum(axis=1, keepdims=True) + 3 * np.eye(4)
    own = np.diag(similar / (similar.sum(axis=1, keepdims=True) + 1e-6))
    for y in range(3):
        for x_ in range(5):
            p = likely[:, y, x_]
            alike = min(max((own * p * p).sum(), 0), 1)
            c = max(p.max(), 0.05) ** 2 * (1 + alike)
            assert graph.confidence[y, x_] == pytest.approx(c, abs=1e-6)
    for weights, (dy, dx) in ((graph.right, (0, 1)), (graph.down, (1, 0))):
        apart = np.abs(grey[dy:, dx:] - grey[: 3 - dy, : 5 - dx])
        for y, x_ in np.ndindex(*weights.shape):
            alike = min(max((own * likely[:, y, x_] * likely[:, y + dy, x_ + dx]).sum(), 0), 1)
            w = np.exp(-2 * apart[y, x_] / (apart.mean() + 1e-6)) * (1 + alike)
            assert weights[y, x_] == pytest.approx(min(max(w, 0), 1), abs=1e-6)


def test_pooling_without_the_logits_of_all_pixels():
    """97×130 pixels: one row of cells is incomplete, and so are columns."""
    cosines, rows, columns = drawn(3, 6, 8), bilinear_matrix(6, 97), bilinear_matrix(8, 130)
    rows, columns = rows.float(), columns.float()
    image, words = drawn(3, 97, 130), normalize(drawn(3, 5), dim=-1)
    tlp = TLP(tlp_grid=24)
    assert tlp.cell(97, 130) == (4, 5)
    pooled, up, across = tlp.replace(tlp_steps=0).propagate(cosines, rows, columns, image, words)
    full = rows @ cosines @ columns.T
    close(pooled, avg_pool2d(full, (4, 5)), 1e-6)
    assert (up.shape, across.shape) == ((97, 24), (130, 26))
    solved, up, across = tlp.propagate(cosines, rows, columns, image, words)
    expected = interpolate(solved[None], size=(97, 130), mode="bilinear")[0]
    close(up @ solved @ across.T, expected, 1e-5)
    graph = tlp.graph(pooled, avg_pool2d(image, (4, 5)), words)
    close(solved, solve(graph, pooled, 25), 1e-5)


@pytest.mark.parametrize(
    ("pixels", "cell"), [(1, 1), (119, 1), (120, 2), (121, 2), (200, 2), (201, 3), (280, 4)]
)
def test_halves_are_rounded_to_even(pixels, cell):
    assert TLP().cell(pixels, 80) == (cell, 1)
    assert TLP().cell(80, pixels) == (1, cell)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (30, 40), (119, 200)])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("queries", [1, 3])
def test_tiny_grids_and_flat_images(size, flat, queries):
    matrices = [bilinear_matrix(2, side).float() for side in size]
    image = torch.ones(3, *size) if flat else drawn(3, *size)
    cosines = drawn(queries, 2, 2) * (not flat)
    words = normalize(drawn(queries, 5), dim=-1)
    solved, rows, columns = TLP().propagate(cosines, *matrices, image, words)
    logits = rows @ solved @ columns.T
    assert logits.shape == (queries, *size)
    assert logits.isfinite().all()
    if flat:
        assert not logits.any()


def test_cells_of_one_pixel_are_not_resized():
    matrices = [bilinear_matrix(2, side).float() for side in (30, 40)]
    words = normalize(drawn(3, 5), dim=-1)
    _, rows, columns = TLP().propagate(drawn(3, 2, 2), *matrices, drawn(3, 30, 40), words)
    assert torch.equal(rows, torch.eye(30))
    assert torch.equal(columns, torch.eye(40))


def test_arguments_are_left_alone():
    cosines, image, words = drawn(3, 4, 4), drawn(3, 200, 200), normalize(drawn(3, 5), dim=-1)
    matrix = bilinear_matrix(4, 200).float()
    before = [tensor.clone() for tensor in (cosines, image, words, matrix)]
    TLP().propagate(cosines, matrix, matrix, image, words)
    for now, then in zip((cosines, image, words, matrix), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize(
    ("field", "value"),
    [("tlp_grid", 0), ("tlp_tau", 0), ("tlp_boost", -1), ("tlp_ke", -1), ("tlp_steps", -1)],
)
def test_bounds(field, value):
    with pytest.raises(UserError, match=field):
        TLP.checked({field: value})
