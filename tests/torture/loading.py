"""The imports that all forks of this process share, and a small SAM in place of Meta's."""

from __future__ import annotations

SAM_SIZE = "vit_b"  # the one that is replaced


def load() -> None:
    """Import what the commands import, without computing anything."""
    import cv2  # noqa: F401
    import duckdb  # noqa: F401
    import numba.typed.typedlist  # noqa: F401
    import obstore.store  # noqa: F401
    import open_clip  # noqa: F401
    import scipy.linalg  # noqa: F401
    import skimage.segmentation  # noqa: F401
    import zarr  # noqa: F401

    import flows.cli.exits  # and all commands
    import flows.cli.running  # noqa: F401
    import sclip_core.pipeline.pipeline
    import sclip_core.results  # noqa: F401
    from sclip_core.masks.sam import loading
    from tests.masks.sam.models import WIDTH, build

    loading.CHECKPOINTS[SAM_SIZE] = loading.CHECKPOINTS[SAM_SIZE]._replace(width=WIDTH)
    loading.library = lambda: {SAM_SIZE: build}
