"""Label maps of views: without PAMR at once from features, with it from kept logits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sclip_core.config import Settings, UserError
from sclip_core.encoder import TextBank
from sclip_core.encoder.clip import resized_pixels
from sclip_core.explore.deciding import Deciding, of_refiner
from sclip_core.explore.desk import Task
from sclip_core.explore.features import Features, FeatureSource
from sclip_core.explore.gallery import Collection
from sclip_core.explore.kept import Kept
from sclip_core.explore.refined import Arrays, Logits, bytes_of, gathered, refined, watching
from sclip_core.explore.view import View, settings_of
from sclip_core.explore.words import WordBank, Words, words_of
from sclip_core.methods.registry import Chosen
from sclip_core.segmentation import Refiner, backends
from sclip_core.segmentation.backends import compile_for
from sclip_core.segmentation.decision import Labels, apply_thresholds, decisions, without
from sclip_core.segmentation.refiners import is_whole

NO_LABEL = 65_535  # in label maps that are sent
LOGITS = 2**29  # bytes of refined logits that are kept
MAPS = 2**26  # bytes of label maps
DECISIONS = 2**28  # bytes of decisions
COSINES = 2**26  # bytes of what the scores of a pixel are made of


@dataclass(frozen=True)
class Scene:
    """An image of a view with its words and features, ready to be labelled.

    Attributes:
        collection: of the image.
        image: its id.
        settings: of the view.
        words: that are looked for.
        bank: their vectors.
        features: of the image.
        chosen: what labels the pixels.
        notes: what is to be known of the words, a line each.
        seconds: that words and features took.
        load: gives the normalised resized image.
    """

    collection: Collection
    image: str
    settings: Settings
    words: Words
    bank: TextBank
    features: Features
    chosen: Chosen
    notes: tuple[str, ...]
    seconds: dict[str, float]
    load: Callable[[], Tensor]

    @cached_property
    def refiner(self) -> Refiner:
        """From features to labels."""
        return Refiner(
            geometry=self.features.geometry,
            features=self.features.values,
            embeddings=self.bank.embeddings,
            protocol=self.settings,
            pixels=self.load,
            refining=self.chosen.refiner,
            deciding=self.chosen.decision,
        )

    @property
    def num_classes(self) -> int:
        """The classes that are decided among, distractors too."""
        vocabulary = self.words.vocabulary
        return vocabulary.num_classes + len(vocabulary.distractors)

    @property
    def may_win(self) -> int:
        """How many of them may win: distractors of closed lists only count in the softmax."""
        vocabulary = self.words.vocabulary
        return vocabulary.num_classes if vocabulary.closed else self.num_classes

    @property
    def of_logits(self) -> tuple[Any, ...]:
        """What decides the logits before PAMR."""
        refiner = self.chosen.refiner
        named = (refiner.name, str(refiner)) if refiner else ()
        embedded = *self.features.key, self.settings.template_set
        return embedded, self.bank.queries, *named

    @property
    def of_refined(self) -> tuple[Any, ...]:
        """What decides the logits after so many steps."""
        return *self.of_logits, self.settings.pamr_dilations

    @property
    def of_labels(self) -> tuple[Any, ...]:
        """What decides the labels."""
        s, vocabulary = self.settings, self.words.vocabulary
        refining = (*self.of_refined, s.pamr_steps) if s.pamr_steps else self.of_logits
        decision = s.prob_thd and s.logit_scale, s.prob_thd, s.area_thd, s.decision, s.after
        classes = vocabulary.num_classes, vocabulary.query_class, vocabulary.closed
        return refining, decision, s.parameters, classes


@dataclass(frozen=True)
class Cosines:
    """From which the logits of any pixel before PAMR follow: ``rows[y] · L[q] · columns[x]``."""

    values: NDArray[np.float32]  # (h, w, Q)
    rows: NDArray[np.float32]  # (H, h)
    columns: NDArray[np.float32]  # (W, w)

    def at(self, row: int, column: int) -> NDArray[np.float32]:
        """Logits (Q,) of a pixel."""
        line = np.tensordot(self.rows[row], self.values, 1)
        found: NDArray[np.float32] = self.columns[column] @ line
        return found


class Labeller:
    """Labels of views, and what of their making is kept for the next one."""

    def __init__(self, source: FeatureSource, bank: WordBank) -> None:
        """Keep nothing yet.

        Args:
            source: of features.
            bank: of words.
        """
        self.source, self.bank = source, bank
        self.logits: Kept[Logits] = Kept(LOGITS)
        self.maps: Kept[Labels] = Kept(MAPS)
        self.cosines: Kept[Cosines] = Kept(COSINES)
        self._decidings: Kept[Deciding] = Kept(DECISIONS)

    def scene(self, collection: Collection, view: View, task: Task) -> Scene:
        """The image of a view, with its words and features.

        Raises:
            UserError: no words, an unknown image, a method that cannot be used here.
        """
        started = time.perf_counter()
        settings = settings_of(view, collection.settings)
        words = words_of(view.words, collection)
        notes = self.bank.notes(collection, words.vocabulary, settings.template_set)
        bank = self.bank.bank(collection, words.vocabulary, settings.template_set, task)
        read = time.perf_counter()
        vectors = bank.embeddings
        arguments = collection, view.image, settings, words.vocabulary, lambda: vectors, task
        features = self.source.of(*arguments)
        run = self.source.pipeline(collection, settings).run
        chosen = run.chosen
        for step in chosen.after:
            if step.reads_masks:
                raise UserError(
                    f"the step '{step.name}' after the decision reads masks, which are not made "
                    "here: take another method"
                )
        if words.own:
            notes = [*words.vocabulary.notes, *notes]

        def load() -> Tensor:
            pixels = collection.pixels(view.image)
            return resized_pixels(pixels, features.geometry, run.models.spec)

        return Scene(
            collection=collection,
            image=view.image,
            settings=settings,
            words=words,
            bank=bank,
            features=features,
            chosen=chosen,
            notes=(*words.notes, *notes),
            seconds={"words": read - started, "encode": time.perf_counter() - read},
            load=load,
        )

    def labels(self, scene: Scene, task: Task) -> Labels:
        """The label map (H, W) of a scene, as ``sclip run`` has it.

        Pixels that became a distractor have the highest value of its type.
        """
        found = self.maps.get(scene.of_labels)
        if found is None:
            task.check()
            compile_for(scene.bank.embeddings.device)
            started, before = time.perf_counter(), scene.seconds.get("pamr", 0.0)
            found = self._finished(scene, self._decided(scene, task))
            took = time.perf_counter() - started
            scene.seconds["labels"] = took - scene.seconds.get("pamr", 0.0) + before
            self.maps.put(scene.of_labels, found, found.nbytes)
        self._keep_cosines(scene)
        return found

    def refined(self, scene: Scene, task: Task) -> Logits | None:
        """Logits after PAMR, kept or made now; None: there is none, or they do not fit in memory.

        They go on from the logits after fewer steps that are kept.
        """
        steps = scene.settings.pamr_steps
        if not steps or bytes_of(scene.refiner) > self.logits.most:
            return None
        started = time.perf_counter()
        found = self.logits.get((*scene.of_refined, steps))
        if found is None:
            fewer = [(n, kept) for n in range(1, steps) if (kept := self._after(scene, n))]
            if fewer:
                done, before = fewer[-1]
                found = before.further(scene.refiner, steps - done, task)
            else:
                found = self._of_other_words(scene, steps, task)
                found = found or refined(scene.refiner, steps, task)
            self.logits.put((*scene.of_refined, steps), found, found.nbytes)
        scene.seconds["pamr"] = time.perf_counter() - started
        return found

    def _of_other_words(self, scene: Scene, steps: int, task: Task) -> Logits | None:
        """Logits of which some are kept with another list of words; None: there are none such.

        PAMR takes each query by itself, so that only new words are refined.
        """
        if scene.chosen.refiner is not None:  # which may read all words
            return None
        features, queries, dilations = scene.of_refined
        best: tuple[int, Logits | None, dict[str, int]] = 0, None, {}
        for key, logits in self.logits.items():
            if isinstance(key, tuple) and len(key) == 4 and key[0] == features:
                places = {word: place for place, word in enumerate(key[1])}
                common = sum(word in places for word in queries)
                if key[2:] == (dilations, steps) and common > best[0]:
                    best = common, logits, places
        _, there, places = best
        if there is None:
            return None
        missing = [k for k, word in enumerate(queries) if word not in places]
        new = None
        if missing:
            some = replace(scene.refiner, embeddings=scene.bank.embeddings[missing])
            new = refined(some, steps, task)
        others = iter(range(len(missing)))
        return gathered(
            [
                (there, places[word]) if word in places or new is None else (new, next(others))
                for word in queries
            ]
        )

    def _after(self, scene: Scene, steps: int) -> Logits | None:
        return self.logits.get((*scene.of_refined, steps))

    def _decided(self, scene: Scene, task: Task) -> Labels:
        """The classes (H, W), before the method's last steps."""
        s, bank = scene.settings, scene.bank
        refiner, count = scene.refiner, scene.num_classes
        logits = self.refined(scene, task)
        task.check()
        own = scene.chosen.decision is not None
        steps_left = s.pamr_steps and logits is None
        by_numba = backends.decides_by_numba(refiner.features.device) and not steps_left
        if not own and by_numba and not (logits is None and is_whole(scene.chosen.refiner)):
            return self._deciding(scene, logits).labels(s, scene.may_win)
        if logits is None:
            with watching(scene.refiner, s.pamr_steps, task):
                return refiner.labels_at([s], bank.query_class, count, scene.may_win)[0]
        barred = np.arange(count) >= scene.may_win
        if scene.chosen.decision is not None:
            asked = torch.from_numpy(~barred).to(bank.query_class.device)[bank.query_class]
            given = logits.tensor()[asked].contiguous(), bank.query_class[asked]
            return scene.chosen.decision.labels(*given, count - int(barred.sum()))
        blocks = partial(iter, [logits.tensor()])
        decision = decisions(blocks, bank.query_class, count, [s])[0]
        return apply_thresholds(without(decision, barred) if barred.any() else decision, count, s)

    def _deciding(self, scene: Scene, logits: Logits | None) -> Deciding:
        """The decision among the words, in which scale and thresholds may change."""
        vocabulary, steps = scene.words.vocabulary, scene.settings.pamr_steps
        of = (*scene.of_refined, steps) if steps else scene.of_logits
        key = of, vocabulary.query_class
        found = self._decidings.get(key)
        if found is None:
            classes = np.array(vocabulary.query_class, np.int64)
            if isinstance(logits, Arrays):
                found = Deciding.of_pixels(logits.values, classes, scene.num_classes)
            else:
                found = of_refiner(scene.refiner, classes, scene.num_classes)
            held = 0 if logits is None else logits.nbytes
            self._decidings.put(key, found, found.nbytes + held)
        return found

    def _finished(self, scene: Scene, labels: Labels) -> Labels:
        """The labels after the method's last steps; distractors have none."""
        for step in scene.chosen.after:
            labels = step(labels, None, scene.num_classes)
        vocabulary = scene.words.vocabulary
        if not vocabulary.distractors:
            return labels
        wide = labels.astype(np.uint16)
        wide[labels >= vocabulary.num_classes] = NO_LABEL
        return wide

    def _keep_cosines(self, scene: Scene) -> None:
        """Keep what the scores of a pixel are made of; small, as it is of patches."""
        if is_whole(scene.chosen.refiner) or self.cosines.get(scene.of_logits) is not None:
            return
        values, rows, columns = scene.refiner.factors()
        found = Cosines(
            np.ascontiguousarray(values.permute(1, 2, 0).cpu().numpy()),
            rows.cpu().numpy(),
            columns.cpu().numpy(),
        )
        size = found.values.nbytes + found.rows.nbytes + found.columns.nbytes
        self.cosines.put(scene.of_logits, found, size)


def shares(labels: Labels, num_classes: int) -> list[float]:
    """The share of the pixels that each class has, in percent."""
    counts = np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]
    return [round(100 * float(count) / labels.size, 3) for count in counts]


def sent(labels: NDArray[Any], size: tuple[int, int]) -> bytes:
    """A map as little-endian uint16, row by row, reduced to a size by its nearest pixels."""
    return reduced(labels, size).astype("<u2").tobytes()


def reduced(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """A map (H, W) of a size, by the nearest pixels."""
    if values.shape == size:
        return values
    rows, columns = (
        ((np.arange(to) + 0.5) * of / to).astype(np.intp)
        for to, of in zip(size, values.shape, strict=True)
    )
    found: NDArray[Any] = values[np.ix_(rows, columns)]
    return found


def with_steps(scene: Scene, steps: int) -> Scene:
    """The same scene with another number of PAMR steps."""
    return replace(scene, settings=scene.settings.replace(pamr_steps=steps))
