"""The Triton kernels against the portable path: by Triton's interpreter here, and on CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sclip_core.segmentation import backends, pamr
from sclip_core.segmentation.backends import triton_pamr as gpu
from sclip_core.segmentation.pamr import pamr_weights

ROOT = Path(__file__).parents[2]
TOLERANCE = {"atol": 5e-6, "rtol": 0}


class Case(NamedTuple):
    """A size, and how to refine it."""

    words: int
    height: int
    width: int
    steps: int
    dilations: tuple[int, ...]
    flat: bool = False  # an image without any deviation

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Image and logits, side by side in memory where the number of words is odd."""
        generator = torch.Generator().manual_seed(sum(self[:4]))
        size = self.height, self.width
        image = torch.randn(*size, 3, generator=generator).permute(2, 0, 1) * (not self.flat)
        logits = torch.randn(*size, self.words, generator=generator).permute(2, 0, 1)
        return (image, logits) if self.words % 2 else (image.contiguous(), logits.contiguous())

    def expected(self) -> tuple[Tensor, Tensor]:
        """Weights and refined logits of the portable path, which a distance of 10⁹ would choke."""
        image, logits = self.inputs()
        distances = [min(d, 100) for d in self.dilations]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backends, "numba_available", lambda: False)
            return pamr_weights(image, distances), pamr(image, logits, self.steps, distances)


CASES = [
    Case(1, 1, 1, 3, (1,)),
    Case(1, 1, 1, 0, (1,)),
    Case(3, 20, 70, 2, (8, 16)),
    Case(2, 6, 80, 0, (8, 16)),
    Case(16, 16, 64, 1, (8, 16)),
    Case(17, 17, 66, 1, (1,)),
    Case(2, 33, 65, 1, (1, 2)),
    Case(5, 1, 9, 3, (4,)),
    Case(5, 9, 1, 3, (1, 2, 3)),
    Case(4, 40, 7, 1, (30, 3)),
    Case(300, 3, 5, 1, (2,)),
    Case(6, 12, 130, 1, (5, 5)),
    Case(19, 5, 6, 2, (1, 2, 3, 4)),
    Case(3, 7, 5, 3, (1, 2, 3, 4, 5)),
    Case(2, 13, 21, 3, (1, 2, 4, 8, 12, 24)),
    Case(1, 30, 40, 1, (10**9, 1)),
    Case(2, 9, 8, 3, (1, 2), flat=True),
]


@pytest.fixture(scope="module", autouse=True)
def path() -> None:
    """These tests choose the path themselves."""


def write_all(file: str) -> None:
    """Weights and refined logits of all cases on the CPU; in a process with the interpreter on."""
    results = []
    for case in CASES:
        image, logits = case.inputs()
        found = gpu.weights(image, case.dilations)
        refined = gpu.pamr(image, logits, case.steps, case.dilations)
        assert refined.data_ptr() != logits.data_ptr()
        assert all(map(torch.equal, case.inputs(), (image, logits)))
        results.append((found, refined))
    torch.save(results, file)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, tuple[Tensor, Tensor]]:
    """Of a process of its own: Triton decides at its import whether it interprets."""
    pytest.importorskip("triton")
    file = tmp_path_factory.mktemp("triton") / "results.pt"
    code = f"from tests.segmentation.test_gpu import write_all; write_all({str(file)!r})"
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return dict(zip(CASES, torch.load(file), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreted_it_is_the_portable_path(case, interpreted) -> None:
    for found, expected in zip(interpreted[case], case.expected(), strict=True):
        torch.testing.assert_close(found, expected, **TOLERANCE)


def test_it_is_for_cuda_alone(recwarn) -> None:
    assert not gpu.available(torch.device("cpu"))
    assert not recwarn


def test_without_triton_it_says_so_once() -> None:
    code = """
import sys, warnings
sys.modules["triton"] = None
import torch
from sclip_core.segmentation.backends import triton_pamr as gpu
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found = [gpu.available(torch.device(name)) for name in ("cpu", "cuda", "cuda")]
    print(*found, len(said), said[0].message)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("False False False 1 Triton cannot be used (import of triton")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    @pytest.fixture(autouse=True)
    def _kernels(self) -> None:
        if not gpu.available(torch.device("cuda")):
            pytest.skip("Triton does not run here")

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_it_is_the_portable_path(self, case) -> None:
        image, logits = (tensor.cuda() for tensor in case.inputs())
        weights, refined = case.expected()
        found = gpu.weights(image, case.dilations).cpu()
        torch.testing.assert_close(found, weights, **TOLERANCE)
        found = gpu.pamr(image, logits, case.steps, case.dilations).cpu()
        torch.testing.assert_close(found, refined, **TOLERANCE)

    @pytest.mark.parametrize("dilations", [(8, 16), (1, 2, 4, 8, 12, 24)], ids=str)
    def test_a_real_size(self, dilations) -> None:
        case = Case(20, 480, 640, 10, dilations)
        image, logits = (tensor.cuda() for tensor in case.inputs())
        found = gpu.pamr(image, logits, case.steps, dilations).cpu()
        expected = pamr(*case.inputs(), 10, dilations)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # of numbers up to 5

    def test_a_half_is_refined_as_float(self) -> None:
        image, logits = (tensor.cuda().half() for tensor in CASES[2].inputs())
        found = gpu.pamr(image, logits, 2, (1, 2))
        assert found.dtype == torch.float32
        assert torch.equal(found, gpu.pamr(image.float(), logits.float(), 2, (1, 2)))

    def test_more_numbers_than_32_bits_count(self) -> None:
        if torch.cuda.mem_get_info()[0] < 30e9:
            pytest.skip("needs 30 GB")
        image, logits = torch.randn(3, 8192, 8192).cuda(), torch.zeros(33, 8192, 8192).cuda()
        logits[-1].normal_()
        found = gpu.pamr(image, logits, 1, (1,))
        assert torch.equal(found[-1:], gpu.pamr(image, logits[-1:], 1, (1,)))
        assert not found[:-1].any()
