"""What the page asks for: the methods of one object, by the routes of the server."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import PurePath
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from sclip_core.config import ImageError, Settings, UserError
from sclip_core.datasets import Reading
from sclip_core.drawing.colours import palette
from sclip_core.evaluation.areas import image_areas
from sclip_core.evaluation.scores import scores as scores_of
from sclip_core.explore import maps
from sclip_core.explore.about import collection_about, methods_about
from sclip_core.explore.commands import commands
from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.features import FeatureSource
from sclip_core.explore.gallery import Collection, find
from sclip_core.explore.kept import Kept
from sclip_core.explore.labels import NO_LABEL, Labeller, Scene, sent, shares
from sclip_core.explore.opening import open_collections
from sclip_core.explore.orders import Orders
from sclip_core.explore.saving import saved
from sclip_core.explore.search import Quiet, Searches, encode_missing
from sclip_core.explore.thumbnails import Thumbnails
from sclip_core.explore.truth import classes_about, truth_answer
from sclip_core.explore.uploaded import UploadedCollection
from sclip_core.explore.uploads import MOST_BYTES, MOST_PIXELS, Uploads
from sclip_core.explore.view import MOST_STEPS, Point, View, settings_of, shown_size
from sclip_core.explore.words import MOST_CLASSES, WordBank, parsed
from sclip_core.provenance import versions
from sclip_core.segmentation import backends
from sclip_core.segmentation.decision import Labels

NO_CLASS = ("pixels of words that are no class have no label",)
THUMBNAIL = 256, 256  # pixels, at most
SCENES = 2**28  # bytes of the views whose scores can be asked for


class Explorer:
    """Collections of images, and what is computed of them.

    Methods with a task are heavy: one at a time, in one thread. The others may run beside them.
    """

    def __init__(self, collections: tuple[Collection, ...], notes: tuple[str, ...] = ()) -> None:
        """Show some collections.

        Args:
            collections: at least one.
            notes: what is to be said of them at the start.
        """
        self.collections, self.notes = list(collections), notes
        self.source = FeatureSource()
        self.bank = WordBank(self.source)
        self.labeller = Labeller(self.source, self.bank)
        self._scenes: Kept[Scene] = Kept(SCENES)
        self._orders: dict[str, Orders] = {}
        first = self.collections[0]
        self._thumbnails = Thumbnails(first.settings.local_artifacts, first.writable)
        self._searches = Searches()
        self._uploads = Uploads(Reading.of(first.settings))
        self._uploaded = UploadedCollection(first, self._uploads)

    @classmethod
    def open(cls, settings: Settings, own: bool) -> Self:
        """Open what there is to explore; no image is read, and no model loaded.

        Args:
            settings: of the command.
            own: whether it names images; else those of the runs in its artifacts.

        Raises:
            UserError: there is nothing to explore.
        """
        opening = open_collections(settings, own)
        backends.warm_up()  # the first labels would wait for it
        return cls(opening.collections, opening.notes)

    def collection(self, name: str) -> Collection:
        """A collection by its id.

        Raises:
            UserError: there is none.
        """
        return find([*self.collections, self._uploaded], name)

    def about(self) -> dict[str, Any]:
        """Collections, methods, limits and colours."""
        return {
            "version": versions()["sclip-benchmark"],
            "collections": [collection_about(each) for each in self._shown()],
            "methods": self._methods,
            "limits": {
                "classes": MOST_CLASSES,
                "upload_bytes": MOST_BYTES,
                "upload_pixels": MOST_PIXELS,
                "pamr_steps": MOST_STEPS,
            },
            "colours": ["#{:02x}{:02x}{:02x}".format(*each) for each in palette(256).tolist()],
        }

    @cached_property
    def _methods(self) -> list[dict[str, Any]]:
        return methods_about(self.collections)

    def _shown(self) -> list[Collection]:
        """The collections, with the images that were sent if there are any."""
        return [*self.collections, *([self._uploaded] if len(self._uploads) else [])]

    def images(
        self, collection: str, order: str, find: str, start: int, count: int
    ) -> dict[str, Any]:
        """Some images of a collection, in an order."""
        found = self.collection(collection)
        return self._orders_of(found).page(order, find, start, count)

    def _orders_of(self, collection: Collection) -> Orders:
        if collection is self._uploaded:  # which grows
            return Orders(collection, self._searches.ranking)
        if collection.id not in self._orders:
            orders = Orders(collection, self._searches.ranking)
            self._orders.setdefault(collection.id, orders)  # of another thread, if it was first
        return self._orders[collection.id]

    def image(self, collection: str, image: str) -> dict[str, Any]:
        """What is known of an image."""
        found = self.collection(collection)
        size = found.size(image)
        return {
            "id": image,
            "size": list(size),
            "shown": list(shown_size(size)),
            "has_truth": found.has_truth,
            "encoded": self._is_encoded(found, image),
            "file": PurePath(str(found.file(image))).name,
        }

    def _is_encoded(self, collection: Collection, image: str) -> bool:
        try:
            return self.source.is_stored(collection, image, collection.settings)
        except UserError:  # the model is not there: told where it is needed
            return False

    def thumbnail(self, collection: str, image: str) -> tuple[bytes, str]:
        """A WebP file, and its ETag."""
        found = self.collection(collection)
        if found is self._uploaded:
            return self._file(image, THUMBNAIL), f'"t-{image}"'
        return self._thumbnails.thumbnail(found, image)

    def picture(self, collection: str, image: str) -> tuple[bytes, str, str]:
        """A file of the shown size, its ETag and its media type."""
        found = self.collection(collection)
        if found is self._uploaded:
            return self._file(image, shown_size(found.size(image))), f'"p-{image}"', "image/webp"
        return self._thumbnails.picture(found, image)

    def _file(self, image: str, size: tuple[int, int]) -> bytes:
        """An image that was sent, within a height and a width, as WebP."""
        found, into = Image.fromarray(self._uploaded.pixels(image)), io.BytesIO()
        found.thumbnail(size[::-1])
        found.save(into, "WEBP", quality=90)
        return into.getvalue()

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Take an image that the page sends; it is kept in memory alone."""
        return {"collection": self._uploaded.id, "image": self._uploads.add(name, data)}

    def labels(self, view: View, task: Task) -> Answer:
        """The labels of a view, uint16 row by row, 65535 where there is none."""
        scene = self._scene(view, task)
        labels = self.labeller.labels(scene, task)
        vocabulary = scene.words.vocabulary
        size = labels.shape[0], labels.shape[1]
        notes = [*scene.notes, *(NO_CLASS if vocabulary.distractors else ())]
        score = None
        try:
            score = self._score(scene, labels)
        except ImageError as error:  # the label map: the labels can be shown without it
            notes.append(f"no score: {error}")
        about = {
            "classes": self._classes(scene, labels),
            "shown": list(shown_size(size)),
            "encoded": scene.features.encoded,
            "notes": notes,
            "seconds": {name: round(value, 4) for name, value in scene.seconds.items()},
            "score": score,
        }
        return Answer(about, sent(labels, shown_size(size)))

    def heat(self, view: View, word: str, task: Task) -> Answer:
        """How similar each pixel is to a class or to one of its words."""
        values = maps.heat(self.labeller, self._scene(view, task), word, task)
        return maps.ranged(values, word=word)

    def likeness(self, view: View, point: Point, task: Task) -> Answer:
        """How similar the feature of a pixel is to that of every patch."""
        return maps.ranged(maps.likeness(self._scene(view, task), point, task))

    def attention(self, view: View, point: Point, task: Task) -> Answer:
        """What a pixel attends to in the last block."""
        scene = self._scene(view, task)
        values, total = maps.attention(self.labeller, scene, point, task)
        return maps.ranged(values, sum=round(total, 4))

    def truth(self, view: View, task: Task) -> Answer:
        """The ground truth of an image, as ``labels``; 65535 where it is not evaluated."""
        return truth_answer(self.collection(view.collection), view)

    def search(self, view: View, word: str, task: Task) -> Answer:
        """Rank the images of a collection by where a word, or one of several, is strongest."""
        collection = self.collection(view.collection)
        settings = settings_of(view, collection.settings)
        vocabulary = parsed(word).vocabulary
        bank = self.bank.bank(collection, vocabulary, settings.template_set, Quiet(task))
        stage = self.source.pipeline(collection, settings).dense_features
        name = f"{settings.template_set}: {', '.join(vocabulary.queries)}"
        found = self._searches.search(collection, stage, name, bank.embeddings, task)
        notes = self.bank.notes(collection, vocabulary, settings.template_set)
        return Answer({**found.about, "notes": notes})

    def encode(self, view: View, task: Task) -> Answer:
        """Encode the images of a collection that are not, one after the other."""
        collection = self.collection(view.collection)
        settings = settings_of(view, collection.settings)
        words, quiet = collection.dataset.vocabulary, Quiet(task)
        self.source.clip(collection, task)
        stage = self.source.pipeline(collection, settings).dense_features

        def encode(image: str) -> None:
            none = torch.empty(0)  # the methods that read words are refused
            self.source.of(collection, image, settings, words, lambda: none, quiet)

        return encode_missing(collection, stage, encode, task)

    def scores(self, view: View, point: Point) -> dict[str, Any]:
        """The scores of the words at a pixel of a view whose labels were asked for just now."""
        scene = self._scenes.get(view)
        found = maps.scored(self.labeller, scene, point) if scene else None
        if scene is None or found is None:
            return {"ready": False, "label": None, "refined": False, "scores": []}
        labels = self.labeller.maps.get(scene.of_labels)
        names, label = scene.words.vocabulary.class_names, None
        if labels is not None and labels[point] < len(names):
            label = names[labels[point]]
        scored = maps.score_list(scene, found)
        return {"ready": True, "label": label, "refined": found.refined, "scores": scored}

    def save(self, view: View, what: str, word: str, task: Task) -> Answer:
        """A file of what is shown: ``picture``, ``labels`` or ``heat`` of a word."""
        return saved(self.labeller, self._scene(view, task), what, word, task)

    def commands(self, view: View) -> dict[str, Any]:
        """The same as a command, and in Python."""
        return commands(self.collection(view.collection), view)

    def close(self) -> None:
        """Let go of what is kept."""
        self._scenes = Kept(SCENES)

    def _scene(self, view: View, task: Task) -> Scene:
        scene = self.labeller.scene(self.collection(view.collection), view, task)
        size = scene.features.values.nbytes + scene.bank.embeddings.nbytes
        return self._scenes.put(view, scene, size)

    def _classes(self, scene: Scene, labels: Labels) -> list[dict[str, Any]]:
        """The classes with their words, colours and shares."""
        vocabulary = scene.words.vocabulary
        return classes_about(vocabulary, shares(labels, vocabulary.num_classes))

    def _score(self, scene: Scene, labels: Labels) -> dict[str, Any] | None:
        """The scores of the image, where the words are the collection's and there is truth."""
        if not scene.words.own or not scene.collection.has_truth:
            return None
        truth = scene.collection.truth(scene.image)
        vocabulary = scene.words.vocabulary
        if truth is None or truth.shape != labels.shape:
            return None
        unlabelled = NO_LABEL if vocabulary.distractors else None
        found = scores_of(image_areas(labels, truth, vocabulary.num_classes, unlabelled))
        named = zip(vocabulary.class_names, found.iou.tolist(), strict=True)
        classes = [{"name": name, "iou": round(iou, 2)} for name, iou in named if not np.isnan(iou)]
        miou = None if np.isnan(found.miou) else round(found.miou, 2)
        return {"miou": miou, "classes": classes}
