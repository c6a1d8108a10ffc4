"""Images ranked by where a word is strongest, of stored features alone: no encoder runs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as SomeOf
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sclip_core.config import Geometry, ImageError, UserError
from sclip_core.config.errors import shown
from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.gallery import Collection
from sclip_core.explore.orders import Order
from sclip_core.pipeline.stages.dense_features import DenseFeaturesStage
from sclip_core.store.ledger import Row

THREADS = 3  # that read and unpack, which takes most of the time
AHEAD = 8  # images that are read before they are asked for
LOOKED_UP = 256  # images whose digests are looked up together
MOST_READ = 2**28  # bytes of them that are read: in all no more than their features
KEPT = 8  # searches that are remembered
MOST_FAILED = 20  # images that cannot be encoded, none before that can, end an encoding
MARGIN = 2e-3  # by which a product in fp16 is off by far


class Hit(NamedTuple):
    """Where a word is strongest in an image."""

    score: float  # the cosine
    row: int  # pixels of the original image
    column: int


@dataclass(eq=False)
class Search:
    """What is known of one search; it grows while it runs.

    Attributes:
        id: names it in an order.
        hits: by the digest of the image; None: its row cannot be used.
        places: in the collection, of the images that were searched, with their digests.
    """

    id: str
    hits: dict[str, Hit | None] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    made: Order | None = None  # of what is known now

    def order(self) -> Order:
        """The images that were searched so far, the strongest first."""
        with self.lock:
            if self.made is None:
                self.made = self._order()
            return self.made

    def add(self, place: int, digest: str | None, hit: Hit | None) -> None:
        """Take what was found in an image; no digest: nothing can be found in it any more."""
        with self.lock:
            before = self.places.get(place)
            if before == digest and (digest is None or self.hits.get(digest) == hit):
                return
            self.made = None
            if digest is None:
                del self.places[place]
                return
            self.places[place], self.hits[digest] = digest, hit

    def _order(self) -> Order:
        pairs = ((place, self.hits[digest]) for place, digest in self.places.items())
        found = [(place, hit) for place, hit in pairs if hit is not None]
        places = np.array([place for place, _ in found], np.intp)
        scores = np.array([hit.score for _, hit in found], np.float64)
        points = np.array([hit[1:] for _, hit in found], np.int64).reshape(-1, 2)
        order = np.lexsort((places, -scores))
        return Order(places[order], scores[order], points[order])


class Searches:
    """The last searches."""

    def __init__(self) -> None:
        """Remember none yet."""
        self._known: OrderedDict[str, Search] = OrderedDict()
        self._lock = Lock()

    def ranking(self, search: str) -> Order:
        """The order of a search, as far as it is.

        Raises:
            UserError: it is not remembered.
        """
        with self._lock:
            known = self._known.get(search)
        if known is None:
            raise UserError(
                f"search {shown(search)} is not remembered, as only the last {KEPT} are: "
                "search again"
            )
        return known.order()

    def search(
        self,
        collection: Collection,
        stage: DenseFeaturesStage,
        word: str,
        vectors: Tensor,
        task: Task,
    ) -> Answer:
        """Search all images of a collection whose features are stored.

        Args:
            collection: of the images.
            stage: whose rows are searched, of a view's settings.
            word: what is searched for, by name.
            vectors: of it, or of each of its synonyms (K, D): the strongest counts.
            task: is told how far it is; lines of progress have the search's ``id``.

        Returns:
            About it: ``id``, ``searched``, ``of`` and ``skipped_not_encoded``.
        """
        _refuse_words(stage)
        search = self._begun(collection, stage, word)
        vectors = vectors.detach().float().cpu().reshape(-1, vectors.shape[-1])
        count, rows = len(collection), stage.rows()
        done = skipped = 0
        with ThreadPoolExecutor(THREADS, "sclip-search") as pool:
            todo = _todo(collection, rows)
            for place, digest, hit in _ahead(pool, todo, search, stage, rows, vectors):
                search.add(place, digest if digest in rows else None, hit)
                skipped += hit is None
                done += 1
                task.progress(
                    done, count, "images searched", id=search.id, skipped_not_encoded=skipped
                )
                task.give_way()
        about = {
            "id": search.id,
            "searched": count - skipped,
            "of": count,
            "skipped_not_encoded": skipped,
        }
        return Answer(about)

    def _begun(self, collection: Collection, stage: DenseFeaturesStage, word: str) -> Search:
        """The search of a word, continued where it is remembered."""
        text = "\0".join((collection.id, stage.key, word)).encode("utf-8", "surrogatepass")
        name = hashlib.sha256(text).hexdigest()[:16]
        with self._lock:
            search = self._known.setdefault(name, Search(name))
            self._known.move_to_end(name)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        return search


def _refuse_words(stage: DenseFeaturesStage) -> None:
    """Refuse features that are of other words.

    Raises:
        UserError: the method reads the words.
    """
    method = stage.method
    if method is not None and method.reads_words:
        raise UserError(
            f"method '{method.name}' makes other features for other words, so nothing stored can "
            "be searched: take another method"
        )


def _todo(collection: Collection, rows: SomeOf[str]) -> Iterator[tuple[int, str | None]]:
    """Each image's place and its digest, as far as that is known or quickly read."""
    most = MOST_READ if rows else 0
    names: Sequence[str] = collection.ids()
    for first in range(0, len(names), LOOKED_UP):
        some = collection.looked_up(names[first : first + LOOKED_UP], most)
        yield from enumerate(some, first)


def _ahead(
    pool: ThreadPoolExecutor,
    todo: Iterator[tuple[int, str | None]],
    search: Search,
    stage: DenseFeaturesStage,
    rows: Mapping[str, Row],
    vectors: Tensor,
) -> Iterator[tuple[int, str | None, Hit | None]]:
    """Of each image where the word is strongest; a few are computed ahead, in threads."""
    waiting: deque[tuple[int, str | None, Future[Hit | None] | Hit | None]] = deque()
    known = search.hits

    def begin(place: int, digest: str | None) -> None:
        result: Future[Hit | None] | Hit | None = None
        if digest is not None and known.get(digest) is not None:
            result = known[digest]
        elif digest is not None and digest in rows:
            result = pool.submit(_hit, stage, rows[digest], vectors)
        waiting.append((place, digest, result))

    for place, digest in islice(todo, AHEAD):
        begin(place, digest)
    while waiting:
        place, digest, result = waiting.popleft()
        for more in islice(todo, 1):
            begin(*more)
        yield place, digest, result.result() if isinstance(result, Future) else result


def _hit(stage: DenseFeaturesStage, row: Row, vectors: Tensor) -> Hit | None:
    """Where the vectors are strongest in a stored image; None: its row cannot be used."""
    try:
        values = torch.from_numpy(np.asarray(stage.table.read(row)))
        geometry = stage.layout(stage.table.size_of(row))
    except ImageError:  # damaged, or computed again just now
        return None
    if len(values) != geometry.num_tokens:
        return None
    score, patch = strongest(values, vectors)
    return Hit(score, *pixel_of(geometry, patch))


def strongest(values: Tensor, vectors: Tensor) -> tuple[float, int]:
    """The highest product of a patch with a vector, and which patch it is.

    Args:
        values: (N, D) fp16 or float32.
        vectors: (K, D) float32.

    fp16 is multiplied as it is, ten times as fast, and only patches that are nearly as strong as
    the strongest are multiplied anew in float32.
    """
    if values.dtype != torch.float16:
        return _highest(torch.arange(len(values)), values, vectors)
    rough = torch.stack([torch.mv(values, vector) for vector in vectors.half()])
    best = rough.float().amax(dim=0)
    top = float(best.max())
    near = (~(best < top - MARGIN * max(1.0, abs(top)))).nonzero()[:, 0]
    return _highest(near, values[near].float(), vectors)


def _highest(places: Tensor, values: Tensor, vectors: Tensor) -> tuple[float, int]:
    products = (values @ vectors.T).amax(dim=1)
    at = int(products.argmax())
    return float(products[at]), int(places[at])


def pixel_of(geometry: Geometry, patch: int) -> tuple[int, int]:
    """The pixel of the original image at the middle of a patch.

    Args:
        geometry: of the image.
        patch: its number, window by window, row by row.
    """
    rows, columns = geometry.tokens
    window, inside = divmod(patch, rows * columns)
    at = divmod(inside, columns)
    corner = divmod(window, len(geometry.lefts))
    starts = geometry.tops[corner[0]], geometry.lefts[corner[1]]
    before = geometry.padding[0], geometry.padding[2]
    found = []
    for axis in (0, 1):
        side = geometry.frame[axis] / geometry.tokens[axis]
        within = (at[axis] + 0.5) * side - before[axis]
        within = min(max(within, 0), geometry.window[axis] - 1)
        scale = geometry.original[axis] / geometry.resized[axis]
        found.append(min(int((starts[axis] + within) * scale), geometry.original[axis] - 1))
    return found[0], found[1]


class Quiet(Task):
    """A task within another one: it is cancelled with it, and tells nobody."""

    def __init__(self, task: Task) -> None:
        """Ask that task."""
        super().__init__()
        self._task = task

    def check(self) -> None:
        """As of the other task."""
        self._task.check()


def encode_missing(
    collection: Collection,
    stage: DenseFeaturesStage,
    encode: Callable[[str], object],
    task: Task,
) -> Answer:
    """Encode the images of a collection whose features are not stored, one after the other.

    Args:
        collection: of the images.
        stage: whose rows are wanted.
        encode: encodes one image, by its id, and stores its features.
        task: is told how far it is.

    Returns:
        About it: ``encoded``, ``of``, ``there`` before, and ``failed``, a line each for the first.

    Raises:
        UserError: the features cannot be stored.
    """
    _refuse_words(stage)
    if stage.method is not None and stage.method.reads_masks:
        raise UserError(
            f"method '{stage.method.name}' needs masks, which are not made here: run `sclip run "
            f"--method {stage.method.name}` over these images"
        )
    if not collection.writable:
        raise _cannot_be_kept(collection)
    names, failed = collection.ids(), list[str]()
    there = encoded = 0
    for done, (place, digest) in enumerate(_todo(collection, stage.rows()), 1):
        rows = stage.rows()
        if digest is not None and digest in rows:
            there += 1
        else:
            try:
                encode(names[place])
                encoded += 1
            except UserError as error:
                failed.append(str(error))
                if not encoded and len(failed) >= MOST_FAILED:
                    raise
            else:
                if collection.digest(names[place]) not in stage.rows():
                    raise _cannot_be_kept(collection)
        what = "images encoded"
        task.progress(done, len(names), what, encoded=encoded, failed=len(failed))
        task.give_way()
    about = {"encoded": encoded, "of": len(names), "there": there, "failed": failed[:MOST_FAILED],
             "num_failed": len(failed)}  # fmt: skip
    return Answer(about)


def _cannot_be_kept(collection: Collection) -> UserError:
    where = collection.settings.artifacts
    return UserError(f"{where} cannot be written, so no features can be kept: make it writable")
