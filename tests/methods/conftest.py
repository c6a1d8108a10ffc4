"""The 12-block CLIP of the methods' golden arrays, and the arrays.

The arrays beside the tests are a part of them; the whole is read where it is at hand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sclip_core import SCLIP

from ..conftest import GOLDEN

USUAL = GOLDEN.parents[2] / "shared" / "golden-methods"
WHOLE = Path(os.environ.get("SCLIP_GOLDEN_METHODS", USUAL))


class Arrays(dict[str, np.ndarray]):
    """Arrays by name; a test that asks for one that is not among them is skipped."""

    def __missing__(self, name: str) -> Any:
        """Skip the test: only a part of the arrays is beside the tests."""
        pytest.skip(f"no array {name}: it is not part of the project")

    def renamed(self, start: str = "", end: str = "") -> Arrays:
        """Those whose names begin and end so, without that."""
        names = [name for name in self if name.startswith(start) and name.endswith(end)]
        return Arrays({name[len(start) : len(name) - len(end)]: self[name] for name in names})


OTHERS = ("shapes_300x420", "shapes_wide_100x1500")


def merged(folder: Path, *layers: str) -> Path:
    """Weights of the 12-block CLIP: the text tower of tiny_clip, and layers that replace others."""
    text = load_file(GOLDEN / "tiny_clip.safetensors")
    state = {name: value for name, value in text.items() if not name.startswith("visual.")}
    for layer in layers:
        state |= load_file(GOLDEN / f"{layer}.safetensors")
    path = folder / f"{layers[-1]}-merged.safetensors"
    save_file(state, path)
    return path


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fast tests have one image: arrays of the others are no part of the project."""
    for item in items:
        here = item.path.parent == Path(__file__).parent
        if here and any(image in item.name for image in OTHERS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def weights12(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the methods that need CLIP alone."""
    return merged(tmp_path_factory.mktemp("weights"), "tiny_clip12")


@pytest.fixture(scope="session")
def weights12_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the methods with a second network."""
    return merged(tmp_path_factory.mktemp("weights"), "tiny_clip12", "tiny_clip12_head")


@pytest.fixture(scope="session")
def tiny12(weights12: Path) -> SCLIP:
    """The model of the methods that need CLIP alone."""
    return SCLIP.load(str(GOLDEN / "tiny_clip12.json"), str(weights12), device="cpu")


@pytest.fixture(scope="session")
def tiny12_head(weights12_head: Path) -> SCLIP:
    """The model of the methods with a second network."""
    return SCLIP.load(str(GOLDEN / "tiny_clip12.json"), str(weights12_head), device="cpu")


@pytest.fixture(scope="session")
def arrays():
    """The golden arrays of a method's file and an image, e.g. ("clip_only", "shapes_300x420")."""
    opened: dict[str, Arrays] = {}

    def load(kind: str, image: str) -> Arrays:
        name = f"{kind}_{image}.npz"
        if name not in opened:
            path = WHOLE / name if (WHOLE / name).is_file() else GOLDEN / name
            if not path.is_file():
                pytest.skip(f"no {name}: it is not part of the project")
            with np.load(path) as found:
                opened[name] = Arrays(found)
        return opened[name]

    return load
