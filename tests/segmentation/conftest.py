"""Every test of this folder runs twice: with the compiled kernels, and without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sclip_core.segmentation import backends


@pytest.fixture(scope="module", params=["compiled", "portable"], autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which path the code takes; for a module at a time, as Hypothesis wants it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "portable":
            patch.setattr(backends, "numba_available", lambda: False)
        else:
            pytest.importorskip("numba")
            assert backends.numba_available()
        yield request.param
