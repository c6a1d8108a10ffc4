"""An artifact to check and to clear."""

from ..store.conftest import artifact

__all__ = ["artifact"]
