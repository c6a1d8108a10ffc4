"""The images of a collection in an order, a page at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sclip_core.config import ImageError, UserError, unknown
from sclip_core.encoder.loading import find_model
from sclip_core.explore.gallery import Collection
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.results.ranking import image_scores, ranked
from sclip_core.results.tables import paired

KINDS = ("name", "random", "worst", "best", "changed", "search")
MOST_COUNT = 1000  # images of a page
MOST_FIND = 200  # characters
MOST_READ = 2**25  # bytes of images of a page that are read for what is stored of them
KEPT = 16  # orders of a collection that are remembered
SEED = 0  # of the random order, the same each time so that a view can be sent

UNREAD = (192, 256)  # height and width of the placeholder of an image that cannot be read


@dataclass(frozen=True, eq=False)
class Order:
    """Images of a collection, the first to look at first.

    Attributes:
        places: of the images in the collection.
        scores: of each, or None.
        points: where to look in each (N, 2), or None.
    """

    places: NDArray[np.intp]
    scores: NDArray[np.float64] | None = None
    points: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """The number of images."""
        return len(self.places)

    def only(self, kept: NDArray[np.bool_]) -> Order:
        """Those of some images of the collection; ``kept`` is of all its images."""
        inside = kept[self.places]
        scores = None if self.scores is None else self.scores[inside]
        points = None if self.points is None else self.points[inside]
        return Order(self.places[inside], scores, points)


Ranking = Callable[[str], Order]  # the order of a search, by its id, as far as it is


def _no_search(name: str) -> Order:
    raise unknown("search", name, [])


class Orders:
    """Orders of the images of one collection."""

    def __init__(self, collection: Collection, ranking: Ranking = _no_search) -> None:
        """Compute nothing yet.

        Args:
            collection: of the images.
            ranking: gives the order of a search.
        """
        self._collection, self._ranking = collection, ranking
        self._kept: OrderedDict[str, Order] = OrderedDict()
        self._lock = RLock()

    def page(self, order: str, find: str, start: int, count: int) -> dict[str, Any]:
        """Some images, as the page asks for them.

        Args:
            order: ``name``, ``random``, ``worst:RUN``, ``best:RUN``, ``changed:RUN,RUN`` or
                ``search:ID``.
            find: a part of their names, in upper or lower case.
            start: how many to leave out.
            count: how many at most.

        Raises:
            UserError: no such order, run or search, or runs that cannot be compared.
        """
        found = self.order(order)
        if find:
            found = found.only(self._named(find[:MOST_FIND].casefold()))
        start, count = max(0, start), min(max(0, count), MOST_COUNT)
        places = found.places[start : start + count].tolist()
        ids = self._collection.ids()
        names = [ids[place] for place in places]
        encoded = self._encoded(names)
        images = [
            {
                "id": name,
                "score": _score(found.scores, start + k),
                "point": None if found.points is None else found.points[start + k].tolist(),
                "encoded": encoded[k],
                **self._size(name),
            }
            for k, name in enumerate(names)
        ]
        return {"total": len(found), "images": images}

    def order(self, name: str) -> Order:
        """An order of all images.

        Raises:
            UserError: as of ``page``.
        """
        kind, _, of = name.partition(":")
        if kind == "search":
            return self._ranking(of)
        if kind not in KINDS or bool(of) != (kind in ("worst", "best", "changed")):
            raise UserError(
                f"order {name[:200]!r}: expected name, random, worst:RUN, best:RUN, "
                "changed:RUN,RUN or search:ID"
            )
        with self._lock:  # a second request for the same order waits for the first
            if name not in self._kept:
                self._kept[name] = self._made(kind, of)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name]

    def _made(self, kind: str, of: str) -> Order:
        count = len(self._collection)
        if kind == "name":
            return Order(np.arange(count, dtype=np.intp))
        if kind == "random":
            return Order(np.random.default_rng(SEED).permutation(count).astype(np.intp))
        runs = of.split(",")
        if kind == "changed" and len(runs) < 2:
            raise UserError(f"order changed:{of[:200]}: expected two runs, changed:RUN,RUN")
        return self._by_score(kind, runs if kind == "changed" else [of])

    def _by_score(self, kind: str, runs: Sequence[str]) -> Order:
        """Images by their scores in runs; those without one are left out."""
        collection = self._collection
        named = [collection.run_row(run_id)["run_id"] for run_id in runs]
        pairs = paired(named, collection.settings.artifacts)
        scores = image_scores(pairs.sparse)
        order = ranked(kind, scores)
        shown = np.ptp(scores, axis=0) if kind == "changed" else scores[0]
        places = self._places_of(pairs.ids.take(pa.array(order)))
        there = places >= 0
        return Order(places[there], shown[order][there])

    def _places_of(self, names: pa.StringArray) -> NDArray[np.intp]:
        """Places in the collection; -1: it has no such image."""
        collection = self._collection
        found = (collection.place(n) if n in collection else -1 for n in names.to_pylist())
        return np.fromiter(found, np.intp, len(names))

    @cached_property
    def _lower(self) -> list[str]:
        return [name.casefold() for name in self._collection.ids()]

    def _named(self, text: str) -> NDArray[np.bool_]:
        """Which images have a text in their names."""
        return np.fromiter((text in name for name in self._lower), np.bool_, len(self._lower))

    def _size(self, image_id: str) -> dict[str, Any]:
        """Height and width; of a file that cannot be read those of its placeholder."""
        try:
            return {"size": list(self._collection.size(image_id)), "broken": False}
        except ImageError:
            return {"size": list(UNREAD), "broken": True}

    def _encoded(self, names: Sequence[str]) -> list[bool | None]:
        """Whether features of images by the collection's own settings are stored; None: unknown."""
        if (stage := self._stage) is None:
            return [False] * len(names)
        rows = stage.rows()
        if not rows:
            return [False] * len(names)
        digests = self._collection.looked_up(names, MOST_READ)
        return [None if digest is None else digest in rows for digest in digests]

    @cached_property
    def _stage(self) -> DenseFeaturesStage | None:
        """The features of the collection's own settings; None: their key cannot be known here."""
        with self._lock:
            settings, run = self._collection.settings, self._collection.run
            try:
                find_model(settings.model, settings.pretrained, False, run.inputs.digests.of)
                stage = Pipeline.of(run).dense_features
                stage.rows()
            except UserError:  # told where something is to be encoded
                return None
            return stage


def _score(scores: NDArray[np.float64] | None, at: int) -> float | None:
    return None if scores is None else round(float(scores[at]), 4)
