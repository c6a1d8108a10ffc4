"""Every test of this folder runs twice: with the compiled kernels, and without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sclip_core.segmentation.backends import numba_decision as compiled


@pytest.fixture(scope="module", params=["compiled", "portable"], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which path the code takes; for a module at a time, as Hypothesis wants it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "portable":
            patch.setattr(compiled, "available", lambda: False)
        else:
            pytest.importorskip("numba")
            assert compiled.available()
        yield request.param
