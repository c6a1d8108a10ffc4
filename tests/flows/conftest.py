"""A folder of one's own with three drawn pictures, and the command line that segments it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from flows import cli

from ..acquire.conftest import of_size, publisher
from ..conftest import TINY
from ..pictures import CLASSES, scene

__all__ = ["of_size", "publisher"]  # fixtures of the data's tests


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``images/``, ``labels/`` and ``classes.txt``."""
    root = tmp_path_factory.mktemp("own")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for number in range(3):
        picture, labels = scene(number)
        cv2.imwrite(str(root / "images" / f"{number}.png"), picture)
        cv2.imwrite(str(root / "labels" / f"{number}.png"), labels)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with pictures of a few patches; not to be written to."""
    return write_own(tmp_path_factory.mktemp("small"), 3)


def write_own(root: Path, count: int) -> Path:
    """``images/``, ``labels/`` and ``classes.txt`` below a folder, which is returned."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        picture, labels = scene(number)
        cv2.imwrite(str(root / "images" / f"{number}.png"), picture[160:208, 100:164])
        cv2.imwrite(str(root / "labels" / f"{number}.png"), labels[160:208, 100:164] % 3)
    (root / "classes.txt").write_text("sky\ngrass\nroad")
    return root


def flags(own: Path, artifacts: Path, **others: object) -> list[str]:
    """The flags of a run over the folder, with the tiny CLIP."""
    paths = {"images": own / "images", "labels": own / "labels", "classes": own / "classes.txt"}
    given = {**paths, "artifacts": artifacts, **TINY, **others}
    return [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The API of one server for the flows of all tests; it ends before pytest closes its streams.

    Prefect is imported here at the latest: its log handler keeps the ``sys.stderr`` of that
    moment, and that of a single test is closed when a later flow has something to log.
    """
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()


@pytest.fixture
def sclip(capsys: pytest.CaptureFixture[str]):
    """Run the command in this process: (exit code, standard output, standard error)."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command
