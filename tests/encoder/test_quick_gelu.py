"""CLIP's activation as a Triton kernel, by Triton's interpreter; on CUDA see ``test_cuda``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import torch
from sclip_core.tensors.quick_gelu import BLOCK, available, quick_gelu_
assert not available(torch.device("cpu"))
for dtype, bound in ((torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
    for count in (1, BLOCK, BLOCK + 7):
        x = (4 * torch.randn(count, generator=torch.Generator().manual_seed(count))).to(dtype)
        wide = x.double()
        expected = wide * torch.sigmoid(1.702 * wide)
        found = quick_gelu_(x)
        assert found.data_ptr() == x.data_ptr() and found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, atol=bound, rtol=bound)
print("as expected")
"""


def test_it_is_the_formula():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "as expected\n", done.stderr
