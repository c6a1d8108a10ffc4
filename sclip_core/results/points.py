"""The points of a sweep: runs over the same images, the settings that vary, scores, ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sclip_core.config import SEVERAL, Settings, unread, usual_value, value_text
from sclip_core.evaluation import Interval, Resampled, bootstrap
from sclip_core.results.build import run_name
from sclip_core.results.tables import paired
from sclip_core.store.keys import artifact_key


@dataclass(frozen=True, eq=False)
class Points:
    """Runs over the same images that differ in some settings."""

    settings: tuple[Settings, ...]
    run_ids: tuple[str, ...]
    seconds: tuple[float | None, ...]  # of refining and filling; None: both were cached
    images: int  # that all of them have
    scores: Resampled  # run by run, on the same draws of images

    @classmethod
    def of(
        cls, settings: Sequence[Settings], run_ids: Sequence[str], seconds: Sequence[float | None]
    ) -> Points:
        """The points of scored runs, in their order; their scores are read from the results.

        Args:
            settings: of each run.
            run_ids: of each run.
            seconds: of refining and filling in each run; None: both were cached.
        """
        pairs = paired(run_ids, settings[0].artifacts)
        images, scores = len(pairs), bootstrap(pairs.sparse)
        return cls(tuple(settings), tuple(run_ids), tuple(seconds), images, scores)

    def __len__(self) -> int:
        """The number of points."""
        return len(self.settings)

    @property
    def dataset(self) -> str:
        """The name of the dataset."""
        return self.settings[0].dataset

    @property
    def name(self) -> str:
        """A name of the sweep for files; the same runs give the same name."""
        return run_name(self.dataset, artifact_key({"stage": "sweep", "runs": list(self.run_ids)}))

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Settings that have several values."""
        return tuple(n for n in SEVERAL if len({getattr(s, n) for s in self.settings}) > 1)

    def value(self, point: int, name: str) -> str | None:
        """A setting as a flag takes it; None where it changes no label of the point."""
        settings = self.settings[point]
        return None if name in unread(settings) else value_text(getattr(settings, name))

    def described(self, point: int) -> str:
        """``pamr_steps 10, pamr_dilations 8,16``."""
        values = ((name, self.value(point, name)) for name in self.varied)
        return ", ".join(f"{name} {value}" for name, value in values if value is not None)

    def miou(self, point: int) -> Interval:
        """In percent, with its interval."""
        return self.scores.of("miou", point)

    def gain(self, point: int, other: int) -> Interval:
        """The mIoU of a point less that of another on the same images, with its interval."""
        return self.scores.difference("miou", point, other)

    @cached_property
    def ranked(self) -> list[int]:
        """Points by mIoU, the best first; of equal ones the earlier."""
        order = np.argsort(-self.scores.miou[:, 0], kind="stable")  # NaN: at the end
        return [int(point) for point in order]

    @property
    def usual(self) -> int | None:
        """The point with the protocol's own values, if it is one of them."""
        return usual_point(self.settings, self.varied)


def usual_point(settings: Sequence[Settings], varied: Sequence[str]) -> int | None:
    """The first of some points whose varied settings are the protocol's own, as far as it reads."""
    for point, each in enumerate(settings):
        read = set(varied) - unread(each)
        if all(getattr(each, n) == usual_value(each, n) for n in read):
            return point
    return None
