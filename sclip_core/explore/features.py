"""Features of an image by a view: stored ones, those in memory, or the encoder's.

What is encoded is stored by the stage itself where that can be, so that a restart, the search and
``sclip run`` find it. Features that depend on words or masks, and those of images that belong to no
run, stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from torch import Tensor

from sclip_core.config import Geometry, Settings, UserError
from sclip_core.datasets import Vocabulary
from sclip_core.encoder.clip import CLIP, default_batch_size
from sclip_core.encoder.second import SecondNetwork
from sclip_core.explore.desk import Task
from sclip_core.explore.gallery import Collection
from sclip_core.explore.kept import Kept, room
from sclip_core.explore.uploaded import UploadedCollection
from sclip_core.methods.features import features_of
from sclip_core.methods.method import Method
from sclip_core.methods.networks import Networks
from sclip_core.pipeline.filling import Filling
from sclip_core.pipeline.models import Models
from sclip_core.pipeline.pipeline import Pipeline
from sclip_core.pipeline.run import Run
from sclip_core.pipeline.stage import Stage
from sclip_core.store.arrays import DamagedRow, RowGone
from sclip_core.store.files import DiskError

MOST_TOKENS = 4096, 65_536  # patches of a window, and of an image, that are encoded here
READ = (  # the settings that features depend on
    *("method", "attention", "parameters", "short_side", "tile", "slide_crop", "slide_stride"),
    *("window_multiple", "image_multiple", "templates", "proxy_model", "proxy_weights"),
    "sam_encoder",
)
MOST_PIPELINES = 64
Key = tuple[str, str, bool]


@dataclass(frozen=True)
class Features:
    """Of one image, as the stitcher takes them.

    Attributes:
        key: the digest of the image, the key of the stage that would store them, and whether they
            may be as the encoder gave them: those of a run's images are rounded as it stores them.
        geometry: how they lie.
        values: (windows, rows, columns, D) float32, on the device of the model.
        encoded: where they are from: ``stored``, ``memory``, or ``now`` by the encoder.
    """

    key: Key
    geometry: Geometry
    values: Tensor
    encoded: str


class FeatureSource:
    """Features of images of any collection, and the models that make them."""

    def __init__(self, most: int | None = None) -> None:
        """Load nothing.

        Args:
            most: bytes of features that stay in memory; None: as many as suit this machine.
        """
        self._kept: Kept[Features] = Kept(room() if most is None else most)
        self._pipelines: Kept[Pipeline] = Kept(MOST_PIPELINES)
        self._models: dict[Any, Models] = {}
        self._loaded: set[int] = set()
        self._read_only: set[str] = set()  # collections whose artifacts cannot be written

    def pipeline(
        self, collection: Collection, settings: Settings, words: Vocabulary | None = None
    ) -> Pipeline:
        """The stages that make features by some settings; they are of no image yet.

        Args:
            collection: of the images.
            settings: of a view.
            words: that the features are of, where they depend on words.
        """
        queries = words.queries if words else None
        key = collection.id, queries, *(getattr(settings, name) for name in READ)
        found = self._pipelines.get(key)
        if found is None:
            run = Run(settings, beside=collection.run)
            run.models = self.models(collection)
            if words is not None:
                run.inputs = collection.inputs_of([], words)
            found = self._pipelines.put(key, Pipeline.of(run), 1)
        return found

    def models(self, collection: Collection) -> Models:
        """The models of a collection, which others with the same ones share."""
        named = collection.settings
        key = named.model, named.pretrained, named.device, named.dtype
        return self._models.setdefault(key, collection.run.models)

    def clip(self, collection: Collection, task: Task) -> CLIP:
        """CLIP, loaded if need be."""
        models = self.models(collection)
        if id(models) not in self._loaded:
            task.progress(0, 1, "loading the model")
        found = models.clip()
        self._loaded.add(id(models))
        return found

    def is_stored(self, collection: Collection, image: str, settings: Settings) -> bool:
        """Whether the features of an image by a method that reads no words are stored."""
        stage = self.pipeline(collection, settings).dense_features
        return collection.digest(image) in stage.rows()

    def of(
        self,
        collection: Collection,
        image: str,
        settings: Settings,
        words: Vocabulary,
        vectors: Callable[[], Tensor],
        task: Task,
    ) -> Features:
        """The features of an image.

        Args:
            collection: of the image.
            image: its id.
            settings: of a view.
            words: that are looked for.
            vectors: gives their vectors (Q, D), for methods that read words.
            task: is told how far it is.

        Raises:
            UserError: the method needs masks and nothing is stored, a network cannot be had, or
                the image cannot be encoded.
        """
        run = self.pipeline(collection, settings).run
        method = run.chosen.method
        reads_words = bool(method and method.reads_words)
        pipeline = self.pipeline(collection, settings, words) if reads_words else None
        pipeline = pipeline or self.pipeline(collection, settings)
        stage, digest = pipeline.dense_features, collection.digest(image)
        exact = isinstance(collection, UploadedCollection)
        key = digest, self._key(pipeline), exact
        found = self._kept.get(key)
        if found is not None:
            return found
        damage: list[DamagedRow] = []
        found = self._stored(pipeline, key, damage)
        if found is None and method is not None and method.reads_masks:
            raise _needs_masks(method.name)
        now = found is None
        if found is None and self._storable(collection, method):
            self._check_size(collection, image, settings, pipeline)
            found = self._through_the_stage(collection, image, pipeline, key, damage, task)
        if found is None:
            self._check_size(collection, image, settings, pipeline)
            encoding = _Encoding(self.clip(collection, task), pipeline, task)
            geometry, values = encoding.of(collection.pixels(image), vectors)
            if not exact:  # as a run would store it
                values = values.to(stage.stored_as).float()
            found = Features(key, geometry, values, "memory")
        self._kept.put(key, found, found.values.nbytes)
        return Features(key, found.geometry, found.values, "now") if now else found

    def _key(self, pipeline: Pipeline) -> str:
        """The key of the features.

        Raises:
            UserError: the method reads masks, and their source cannot even be named.
        """
        method = pipeline.run.chosen.method
        if method is None or not method.reads_masks:
            return pipeline.dense_features.key
        with suppress(UserError):
            return pipeline.dense_features.key
        raise _needs_masks(method.name)

    def _stored(self, pipeline: Pipeline, key: Key, damage: list[DamagedRow]) -> Features | None:
        """What is stored of an image; None: nothing, or it is damaged, which is noted."""
        stage = pipeline.dense_features
        rows = stage.rows()
        if key[0] not in rows:
            return None
        try:
            geometry, values = stage.read(rows[key[0]])
        except RowGone:
            return None
        except DamagedRow as error:
            damage.append(error)
            return None
        return Features(key, geometry, values.to(pipeline.run.models.device), "stored")

    def _storable(self, collection: Collection, method: Method | None) -> bool:
        """Whether what is encoded now can be stored."""
        alone = method is None or not (method.reads_words or method.reads_masks)
        return alone and collection.writable and collection.id not in self._read_only

    def _through_the_stage(
        self,
        collection: Collection,
        image: str,
        pipeline: Pipeline,
        key: Key,
        damage: list[DamagedRow],
        task: Task,
    ) -> Features | None:
        """Execute the stage for one image; None: the artifacts cannot be written.

        A damaged row of it is struck first, as a run does.

        Raises:
            UserError: the image cannot be encoded.
        """
        self.clip(collection, task)
        task.progress(0, 1, "encoding")
        run, digest = pipeline.run, key[0]
        upstream = [each for each in pipeline.read_by_features if isinstance(each, Stage)]
        run.inputs, before = collection.inputs_of([image]), run.inputs
        run.stop, run.between_passes = _StopOf(task), task.check  # windows can take a minute
        try:
            for stage in (*upstream, pipeline.dense_features):
                stage.failed.discard(digest)
                stage.begin()
                if stage is pipeline.dense_features:
                    stage.mending.mend(damage)
                Filling(stage, [digest], 0).run()
        except DiskError:
            self._read_only.add(collection.id)
            return None
        finally:
            run.inputs, run.stop = before, Event()
        found = self._stored(pipeline, key, [])
        if found is None:
            why = run.journal.failures.get(image, "its features could not be stored")
            raise UserError(why if image in why else f"{image}: {why}")
        return found

    def _check_size(
        self, collection: Collection, image: str, settings: Settings, pipeline: Pipeline
    ) -> None:
        """Refuse windows whose attention would not fit in memory.

        Raises:
            UserError: they are too large, or too many.
        """
        geometry = Geometry.of(*collection.size(image), settings, pipeline.run.models.spec.patch)
        tokens = geometry.tokens[0] * geometry.tokens[1]
        if tokens > MOST_TOKENS[0] or geometry.num_tokens > MOST_TOKENS[1]:
            raise UserError(
                f"{geometry.num_windows} windows of {geometry.tokens[0]}×{geometry.tokens[1]} "
                f"patches: at most {MOST_TOKENS[0]:,} patches a window and {MOST_TOKENS[1]:,} an "
                "image are encoded here; take a smaller short side or window, or a larger stride"
            )


class _StopOf(Event):
    """Stops a run's stages where a task is cancelled: they ask between two batches."""

    def __init__(self, task: Task) -> None:
        """Ask this task."""
        super().__init__()
        self._task = task

    def is_set(self) -> bool:
        """False.

        Raises:
            Cancelled: nobody waits for the answer.
        """
        self._task.check()
        return False


class _OfModels(Networks):
    """The networks of a run's method, for an image whose features are not stored."""

    def __init__(self, models: Models, settings: Settings) -> None:
        """Take them from the models of a run."""
        super().__init__(device=models.device)
        self._of, self._settings = models, settings

    def second(self, method: Method) -> SecondNetwork:
        """The second network."""
        self._of.check_networks(self._settings, method)
        return self._of.second(self._settings)

    def sam(self) -> Any:
        """SAM's encoder."""
        return self._of.sam_trunk(self._settings)


@dataclass(frozen=True)
class _Encoding:
    """The encoding of one image in memory, pass by pass."""

    clip: CLIP
    pipeline: Pipeline
    task: Task

    @torch.no_grad()
    def of(self, pixels: Any, vectors: Callable[[], Tensor]) -> tuple[Geometry, Tensor]:
        """Features of an image (H, W, 3), as of ``SCLIP.refiner``, and how they lie."""
        clip, run = self.clip, self.pipeline.run
        geometry, windows = clip.windows_of(pixels, run.settings)
        method = run.chosen.method
        size = default_batch_size(clip.device, windows.shape, clip.spec.patch)
        parts = [slice(k, k + size) for k in range(0, len(windows), size)]
        if method is None:
            found = []
            for number, part in enumerate(parts):
                self.task.progress(number, len(parts), "encoding")
                found.append(clip.encoder.patch_features(windows[part], run.chosen.attention))
            return geometry, torch.cat(found)
        windows = windows[:]  # which methods read as a whole
        networks = _OfModels(run.models, run.settings)
        words = vectors() if method.reads_words else torch.empty(0)
        extra = networks.extra(method, pixels, geometry, windows, words, None)
        wanted, views = method.taps(clip.encoder.tower.layers), len(method.views)
        passes: list[Any] = []
        for number, part in enumerate(parts):
            self.task.progress(number, len(parts), "encoding")
            taps = clip.window_taps(windows[part], wanted, method.views, method.positions)
            passes.append({tap: value.unflatten(0, (views, -1)) for tap, value in taps.items()})
        taps = {tap: torch.cat([one[tap] for one in passes], 1).flatten(0, 1) for tap in wanted}
        found_all = features_of(method, clip.encoder, geometry, taps, lambda: windows, extra)
        return method.layout(geometry, extra.patch), found_all


def _needs_masks(method: str) -> UserError:
    return UserError(
        f"method '{method}' needs masks, which are not made here: run `sclip run --method {method}`"
        " over these images first, or take another method"
    )
