"""Settings chosen on one part of the images and reported on the other.

The best of many settings is flattered on the images that it was chosen on. Here it is chosen on one
part and scored on the rest, beside what choosing on the test gives: the best of all images, and the
best of the rest itself. A mean over classes is of the classes that occur in the part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sclip_core.config import UserError
from sclip_core.config.counts import number_of
from sclip_core.config.errors import few
from sclip_core.config.places import Place
from sclip_core.evaluation import Interval, SparseAreas, bootstrap, scores
from sclip_core.evaluation.bootstrap import RESAMPLES
from sclip_core.results.build import run_name
from sclip_core.results.by_command import files_of, read_files, write_table
from sclip_core.results.comparison import FEW, sure
from sclip_core.results.files import ARTIFACTS, read_run, root_of
from sclip_core.results.split import digests_of, parts_of
from sclip_core.results.tables import Paired, paired
from sclip_core.store.keys import artifact_key

Values = NDArray[np.float64]
TUNE = "tune"  # the table, which has a file for each tuning
SCHEMA = pa.schema(
    {
        "tune_id": pa.string(),
        "run_id": pa.string(),
        "point": pa.int64(),
        **dict.fromkeys(("is_candidate", "is_default", "is_winner"), pa.bool_()),
        "part": pa.float64(),
        **dict.fromkeys(("seed", "images_tuning", "images_rest"), pa.int64()),
        **dict.fromkeys(("miou_tuning", "miou_rest", "miou_all"), pa.float64()),
    }
)


@dataclass(frozen=True, eq=False)
class Tuned:
    """Runs over the same images, each scored on the tuning part, on the rest, and on all.

    A run is named by its place. mIoU in percent.
    """

    pairs: Paired
    rows: tuple[dict[str, Any], ...]  # of the table ``runs``
    is_tuning: NDArray[np.bool_]  # (N,) of each image
    part: float
    seed: int
    default: int | None  # the run with the protocol's own settings; None: there is none
    candidates: tuple[int, ...]  # among which the winner is chosen
    tuning: Values  # (K,) mIoU of each run on the tuning part
    rest: Values  # (K,)
    whole: Values  # (K,)
    resamples: int

    @property
    def name(self) -> str:
        """A name for files; the same runs, candidates, share and seed give the same."""
        runs = list(self.pairs.run_ids)
        identity: dict[str, Any] = {"stage": "tune", "runs": runs}
        identity |= {"part": self.part, "seed": self.seed}
        if len(self.candidates) < len(runs):
            identity["candidates"] = list(self.candidates)
        return run_name(self.rows[0]["dataset"], artifact_key(identity))

    @property
    def counts(self) -> tuple[int, int]:
        """Images of the tuning part, and of the rest."""
        return int(self.is_tuning.sum()), int((~self.is_tuning).sum())

    @cached_property
    def tied(self) -> tuple[int, ...]:
        """The runs with the best mIoU on the tuning part; the first of them is the winner."""
        best = self._best(self.tuning)
        same = [run for run in self.candidates if self.tuning[run] == self.tuning[best]]
        return tuple(sorted(same, key=lambda run: (self.rows[run].get("pamr_steps") or 0, run)))

    @property
    def winner(self) -> int:
        """Best on the tuning part; of equal ones that with fewer steps of PAMR, then the first."""
        return self.tied[0]

    @property
    def naive(self) -> int:
        """Best on all images: what tuning on the test reports."""
        return self._best(self.whole)

    @property
    def best_of_rest(self) -> int:
        """Best on the rest, had it been chosen there."""
        return self._best(self.rest)

    @property
    def optimism(self) -> float:
        """How much higher the rest's own best is there than the winner; never below 0."""
        return float(self.rest[self.best_of_rest] - self.rest[self.winner])

    def held_out(self, run: int) -> Interval:
        """A run's mIoU on the rest, with its interval."""
        return self._scored("rest", [run])[0]

    def gain(self, run: int, base: int, part: str = "rest") -> Interval:
        """MIoU of a run less that of another on a part, paired: ``tuning``, ``rest``, ``whole``."""
        return self._scored(part, [run, base])[1]

    def on_all(self, run: int) -> Interval:
        """A run's mIoU on all images, with its interval."""
        return self._scored("whole", [run])[0]

    def _best(self, values: Values) -> int:
        """The candidate with the highest value; of equal ones the first."""
        known = [-np.inf if np.isnan(values[run]) else values[run] for run in self.candidates]
        return self.candidates[int(np.argmax(known))]

    def _kept(self, part: str) -> NDArray[np.bool_]:
        return {
            "tuning": self.is_tuning,
            "rest": ~self.is_tuning,
            "whole": np.ones_like(self.is_tuning),
        }[part]

    def _scored(self, part: str, runs: Sequence[int]) -> tuple[Interval, Interval]:
        """The first run's mIoU, and its difference to the last."""
        kept = self._kept(part)
        some = [self.pairs.sparse[run].only(kept) for run in runs]
        drawn = bootstrap(some, self.resamples)
        found = drawn.of("miou", 0), drawn.difference("miou", 0, len(runs) - 1)
        images = int(kept.sum())
        return sure(found[0], images), sure(found[1], images)

    def warnings(self) -> Iterator[str]:
        """What makes the parts too small, a line each."""
        for images, which in zip(self.counts, ("tuning", "other"), strict=True):
            if images < FEW:
                yield f"the {which} part has {number_of(images, 'image')}: so few say little"
        truth = self.pairs.sparse[0]
        labelled = [truth.only(self._kept(p)).images_with_label() > 0 for p in ("tuning", "rest")]
        names = self.pairs.class_names
        for here, which in enumerate(("tuning", "other")):
            alone = [names[i] for i in np.flatnonzero(labelled[here] & ~labelled[1 - here])]
            if alone:
                are = "class is" if len(alone) == 1 else "classes are"
                yield (
                    f"{len(alone)} {are} labelled in the {which} part alone ({few(alone)}): the "
                    "means of the parts are over different classes"
                )

    def table(self) -> pa.Table:
        """A row for each run: what the file of the tuning holds."""
        count = len(self.rows)
        tuning, rest = self.counts
        marks: dict[str, set[int | None]] = {
            "is_candidate": set(self.candidates),
            "is_default": {self.default},
            "is_winner": {self.winner},
        }
        return pa.table(
            {
                "tune_id": pa.repeat(self.name, count),
                "run_id": pa.array(self.pairs.run_ids, pa.string()),
                "point": pa.array(range(count), pa.int64()),
                **{name: [run in some for run in range(count)] for name, some in marks.items()},
                "part": pa.repeat(self.part, count),
                "seed": pa.array([self.seed] * count, pa.int64()),
                "images_tuning": pa.array([tuning] * count, pa.int64()),
                "images_rest": pa.array([rest] * count, pa.int64()),
                "miou_tuning": pa.array(self.tuning, from_pandas=True),
                "miou_rest": pa.array(self.rest, from_pandas=True),
                "miou_all": pa.array(self.whole, from_pandas=True),
            },
            schema=SCHEMA,
        )


def tuned(
    named: Sequence[str],
    part: float = 0.5,
    seed: int = 0,
    default: str | None = None,
    artifacts: Place | str = ARTIFACTS,
    digests: Mapping[str, str] | None = None,
    candidates: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Tuned:
    """Choose the best of some runs on one part of their images, and score it on the rest.

    Args:
        named: the runs, as ``find_run`` takes them; all over the same images and classes.
        part: the share of images to choose on; which they are follows from their bytes.
        seed: of the division.
        default: the run that the winner is compared with, one of them.
        artifacts: the folder of all artifacts.
        digests: sha256 of the bytes of each image by its id; None: the images are read.
        candidates: the runs to choose among; None: all.
        resamples: how often images are drawn for an interval.

    Raises:
        UserError: no such run, one run twice, runs that cannot be compared, a part without an image
            or without a class.
    """
    root = root_of(artifacts)
    pairs = paired(named, root)
    twice = [run_id for run_id in pairs.run_ids if pairs.run_ids.count(run_id) > 1]
    if twice:
        raise UserError(f"{twice[0]} is named twice: pass each run once")
    known = digests if digests is not None else digests_of(pairs.run_ids[0], pairs.images, root)
    is_tuning = parts_of(pairs.images, known, part, seed)
    return Tuned(
        pairs=pairs,
        rows=tuple(read_run(root, run_id)[0] for run_id in pairs.run_ids),
        is_tuning=is_tuning,
        part=part,
        seed=seed,
        default=None if default is None else _place(pairs, [*named], default),
        candidates=tuple(
            range(len(named))
            if candidates is None
            else [_place(pairs, [*named], one) for one in candidates]
        ),
        tuning=_miou(pairs.sparse, is_tuning),
        rest=_miou(pairs.sparse, ~is_tuning),
        whole=_miou(pairs.sparse, np.ones_like(is_tuning)),
        resamples=resamples,
    )


def _place(pairs: Paired, named: Sequence[str], one: str) -> int:
    """Which of the runs is meant, by its id or as it was named."""
    for known in (list(pairs.run_ids), list(named)):
        if one in known:
            return known.index(one)
    raise UserError(f"{one} is not among the runs: {few(pairs.run_ids)}")


def _miou(runs: Sequence[SparseAreas], kept: NDArray[np.bool_]) -> Values:
    """The mIoU of each run on some images."""
    return np.array([scores(run.only(kept).summed()).miou for run in runs])


def write_tuning(found: Tuned, artifacts: Place | str = ARTIFACTS) -> Place:
    """Write the table of a tuning to ``results/tune``; returns the file.

    Raises:
        DiskError: it could not be written.
    """
    return write_table(root_of(artifacts), TUNE, found.name, found.table())


def tunings(artifacts: Place | str = ARTIFACTS) -> pa.Table:
    """The table ``tune``: a row for each run of each tuning, its mIoU on both parts and on all.

    Files that cannot be read are left out (a ``ResultsWarning`` each).
    """
    files = files_of(root_of(artifacts), TUNE)
    found = read_files(files, SCHEMA, ("tune_id", "run_id", "is_winner"))
    return found.sort_by([("tune_id", "ascending"), ("point", "ascending")])
