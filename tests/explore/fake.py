"""An explorer of drawn pictures that answers as the real one does, without any model.

Two collections, 300 pictures each. ``python -m tests.explore.fake --port 8901`` serves it, so that
the page can be worked on. The word "boom" crashes, "bad" is refused, and PAMR takes 0.1 s a step.
"""

from __future__ import annotations

import argparse
import io
import time
from typing import Any

import numpy as np
from PIL import Image

from sclip_core.config import UserError
from sclip_core.drawing.colours import palette
from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.view import Point, View

COUNT = 300
DEFAULTS: dict[str, Any] = {
    "method": "csa",
    "pamr_steps": 0,
    "pamr_dilations": "8,16",
    "logit_scale": 40.0,
    "prob_thd": 0.0,
    "area_thd": 0.0,
    "short_side": 336,
    "slide_crop": 224,
    "slide_stride": 112,
}
WORDS = {"scenes": "sky; grass, lawn; car; house", "photos": "person, people; road; tree"}
METHODS = [
    ("csa", "SCLIP", "attention", "CLIP alone"),
    ("vanilla", "CLIP", "attention", "CLIP alone"),
    ("resclip", "ResCLIP", "method", "CLIP alone"),
    ("proxyclip", "ProxyCLIP", "method", "+ DINO"),
]


class Fake:
    """As ``Explorer``."""

    def __init__(self, count: int = COUNT, encode_seconds: float = 0.02) -> None:
        self.count = count
        self.encode_seconds = encode_seconds
        self.searches: dict[str, dict[str, float]] = {}
        self.uploads: dict[str, np.ndarray] = {}
        self.encoded: set[tuple[str, str]] = set()
        self.calls: list[str] = []

    def about(self) -> dict[str, Any]:
        collections = [
            {
                "id": name,
                "title": name,
                "images": self.count,
                "model": "demo demo-v1",
                "has_truth": name == "scenes",
                "encodes": True,
                "words": words,
                "defaults": DEFAULTS,
                "runs": self._runs() if name == "scenes" else [],
            }
            for name, words in WORDS.items()
        ]
        if self.uploads:
            first = {"id": "uploads", "title": "uploads", "has_truth": False, "runs": []}
            collections.append({**collections[1], **first, "images": len(self.uploads)})
        return {
            "version": "0",
            "collections": collections,
            "methods": [
                {
                    "name": name,
                    "title": title,
                    "group": group,
                    "needs": needs,
                    "why_not": "no weights of DINO are here" if "DINO" in needs else None,
                }
                for name, title, group, needs in METHODS
            ],
            "limits": {
                "classes": 1000,
                "upload_bytes": 50 << 20,
                "upload_pixels": 100_000_000,
                "pamr_steps": 100,
            },
            "colours": ["#" + bytes(colour).hex() for colour in palette(256)],
        }

    def _runs(self) -> list[dict[str, Any]]:
        return [
            {
                "run_id": f"2026010{k}-csa-{steps}",
                "title": "csa" + (f", PAMR {steps}" if steps else ""),
                "miou": 70.0 + steps,
                "created_at": f"2026-01-0{k}T10:00:00",
                "view": {"method": "csa", "pamr_steps": steps, "words": WORDS["scenes"]},
            }
            for k, steps in ((2, 10), (1, 0))
        ] + [
            {
                "run_id": "20260100-masks",
                "title": "csa, hybrid with masks",
                "miou": 60.0,
                "created_at": "2026-01-00T10:00:00",
                "view": None,
            }
        ]

    def _ids(self, collection: str) -> list[str]:
        if collection == "uploads" and self.uploads:
            return list(self.uploads)
        if collection not in WORDS:
            raise UserError(f"unknown collection '{collection}'. Known: scenes, photos.")
        return [f"{k:06d}" for k in range(self.count)]

    def _index(self, collection: str, image: str) -> int:
        ids = self._ids(collection)
        if image not in ids:
            raise UserError(f"no image '{image}' in {collection}: expected an id of the list")
        return ids.index(image)

    def _size(self, collection: str, image: str) -> tuple[int, int]:
        if image in self.uploads:
            height, width = self.uploads[image].shape[:2]
            return height, width
        k = self._index(collection, image)
        return (480, 640) if k % 3 else (640, 427)

    def _pixels(self, collection: str, image: str) -> np.ndarray:
        k = self._index(collection, image)
        if image in self.uploads:
            return self.uploads[image]
        height, width = self._size(collection, image)
        rows, columns = np.mgrid[:height, :width]
        row, column = height * (0.3 + 0.4 * (k * 37 % 100) / 100), width * (k * 61 % 100) / 100
        pixels = np.stack([rows * 200 / height, columns * 200 / width, 0 * rows + k % 255], -1)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < (height / 6) ** 2] = palette(300)[k]
        return pixels.astype(np.uint8)

    def images(self, collection: str, order: str, find: str, start: int, count: int) -> dict:
        ids = [name for name in self._ids(collection) if find in name]
        kind, _, of = order.partition(":")
        scores: dict[str, float] = {}
        if kind == "search":
            if of not in self.searches:
                raise UserError(f"no search '{of}': search again")
            scores = self.searches[of]
            ids = sorted((i for i in ids if i in scores), key=lambda i: -scores[i])
        elif kind == "random":
            ids = list(np.random.default_rng(0).permutation(ids))
        elif kind in ("worst", "best", "changed"):
            scores = {i: int(i) * 7919 % 1000 / 10 for i in ids if i.isdigit()}
            ids = sorted(scores, key=lambda i: scores[i], reverse=kind == "best")
        elif kind != "name":
            raise UserError(f"unknown order '{order}'. Known: name, random, worst:RUN, best:RUN.")
        return {
            "total": len(ids),
            "images": [
                {
                    "id": str(name),
                    "score": scores.get(name),
                    "point": [100, 200] if kind == "search" else None,
                    "size": list(self._size(collection, name)),
                    "encoded": (collection, name) in self.encoded or name < "000100",
                }
                for name in ids[start : start + count]
            ],
        }

    def image(self, collection: str, image: str) -> dict:
        size = self._size(collection, image)
        return {
            "id": image,
            "size": list(size),
            "shown": list(size),
            "has_truth": collection == "scenes",
            "encoded": (collection, image) in self.encoded,
            "file": f"{image}.png",
        }

    def _file(self, pixels: np.ndarray, side: int) -> bytes:
        out = io.BytesIO()
        picture = Image.fromarray(pixels)
        picture.thumbnail((side, side))
        picture.save(out, "WEBP", quality=80)
        return out.getvalue()

    def thumbnail(self, collection: str, image: str) -> tuple[bytes, str]:
        return self._file(self._pixels(collection, image), 256), f'"t-{collection}-{image}"'

    def picture(self, collection: str, image: str) -> tuple[bytes, str, str]:
        file = self._file(self._pixels(collection, image), 4096)
        return file, f'"p-{collection}-{image}"', "image/webp"

    def _classes(self, view: View) -> list[list[str]]:
        text = view.words if view.words is not None else WORDS.get(view.collection, "thing")
        classes = [[w.strip() for w in part.split(",") if w.strip()] for part in text.split(";")]
        classes = [words for words in classes if words]
        for words in classes:
            if "boom" in words:
                raise RuntimeError("boom")
            if "bad" in words:
                raise UserError("the word 'bad' is refused: take another one")
        if not classes:
            raise UserError("no words: type some, 'cat, kitten; grass'")
        return classes

    def _label_map(self, view: View, classes: int) -> np.ndarray:
        height, width = self._size(view.collection, view.image)
        rows, columns = np.mgrid[:height, :width]
        steps = view.pamr_steps or 0
        wave = np.sin(columns / (20 + steps)) * 20
        labels = ((rows + wave) * classes / height).clip(0, classes - 1).astype("<u2")
        labels[:8] = 65535
        return labels

    def _shares(self, labels: np.ndarray, classes: list[list[str]]) -> list[dict[str, Any]]:
        return [
            {
                "name": words[0],
                "words": words,
                "colour": "#" + bytes(palette(256)[k % 256]).hex(),
                "share": round(100 * float((labels == k).mean()), 2),
            }
            for k, words in enumerate(classes)
        ]

    def labels(self, view: View, task: Task) -> Answer:
        self.calls.append("labels")
        self._index(view.collection, view.image)
        classes, started = self._classes(view), time.perf_counter()
        known = (view.collection, view.image) in self.encoded
        time.sleep(0 if known else self.encode_seconds)
        self.encoded.add((view.collection, view.image))
        steps = view.pamr_steps or 0
        for step in range(steps):
            task.progress(step, steps, "PAMR")
            time.sleep(0.1)
        labels = self._label_map(view, len(classes))
        known_words = view.words in (None, WORDS.get(view.collection))
        score = {
            "miou": 71.2,
            "classes": [{"name": words[0], "iou": 60.0 + k} for k, words in enumerate(classes)],
        }
        return Answer(
            {
                "classes": self._shares(labels, classes),
                "shown": list(labels.shape),
                "encoded": "memory" if known else "now",
                "notes": [],
                "seconds": {
                    "encode": 0.0 if known else self.encode_seconds,
                    "words": 0.01,
                    "labels": round(time.perf_counter() - started, 3),
                    "pamr": 0.1 * steps,
                },
                "score": score if view.collection == "scenes" and known_words else None,
            },
            labels.tobytes(),
        )

    def _heat(self, view: View, row: float, column: float, **more: Any) -> Answer:
        height, width = self._size(view.collection, view.image)
        rows, columns = np.mgrid[:height, :width]
        far = np.hypot((rows - row) / height, (columns - column) / width)
        values = np.exp(-4 * far) / np.exp(-4 * far).max()
        about = {"shown": [height, width], "low": -0.1, "high": 0.3, **more}
        return Answer(about, (values * 65535).astype("<u2").tobytes())

    def heat(self, view: View, word: str, task: Task) -> Answer:
        if word not in [word for words in self._classes(view) for word in words]:
            raise UserError(f"no word '{word}' in the list: add it")
        k = sum(map(ord, word))
        height, width = self._size(view.collection, view.image)
        return self._heat(view, k * 37 % height, k * 61 % width, word=word)

    def likeness(self, view: View, point: Point, task: Task) -> Answer:
        return self._heat(view, point.row, point.column)

    def attention(self, view: View, point: Point, task: Task) -> Answer:
        return self._heat(view, point.row, point.column, sum=1.0)

    def truth(self, view: View, task: Task) -> Answer:
        if view.collection != "scenes":
            raise UserError(f"{view.collection} has no ground truth")
        plain = view.model_copy(update={"words": WORDS["scenes"], "pamr_steps": 10})
        classes = self._classes(plain)
        labels = self._label_map(plain, len(classes))
        shares, same = self._shares(labels, classes), view.words in (None, plain.words)
        about = {"classes": shares, "shown": list(labels.shape), "comparable": same}
        return Answer(about, labels.tobytes())

    def scores(self, view: View, point: Point) -> dict:
        classes = self._classes(view)
        height = self._size(view.collection, view.image)[0]
        label = min(max(point.row, 0) * len(classes) // height, len(classes) - 1)
        found = [
            {
                "word": word,
                "class": k,
                "score": round(0.3 - 0.05 * abs(k - label) - 0.01 * n, 4),
                "probability": round(0.7 / (1 + 3 * abs(k - label) + n), 4),
            }
            for k, words in enumerate(classes)
            for n, word in enumerate(words)
        ]
        found.sort(key=lambda s: -s["score"])
        name = classes[label][0]
        return {"ready": True, "label": name, "refined": False, "scores": found[:20]}

    def search(self, view: View, word: str, task: Task) -> Answer:
        if word == "boom":
            raise RuntimeError("boom")
        name = f"s{len(self.searches)}"
        found = self.searches[name] = {}
        ids = self._ids(view.collection)
        for done, image in enumerate(ids):
            task.progress(done, len(ids), "images", id=name)
            task.give_way()
            time.sleep(0.005)
            found[image] = (done * 7919 + len(word) * 31) % 997 / 997
        return Answer({"id": name, "searched": len(ids), "of": len(ids), "skipped_not_encoded": 0})

    def encode(self, view: View, task: Task) -> Answer:
        ids = self._ids(view.collection)
        for done, image in enumerate(ids):
            task.progress(done, len(ids), "images")
            task.give_way()
            time.sleep(self.encode_seconds)
            self.encoded.add((view.collection, image))
        return Answer({"encoded": len(ids)})

    def save(self, view: View, what: str, word: str, task: Task) -> Answer:
        if what not in ("picture", "labels", "heat"):
            raise UserError(f"unknown file '{what}'. Known: heat, labels, picture.")
        out = io.BytesIO()
        labels = self._label_map(view, len(self._classes(view)))
        Image.fromarray(labels.astype(np.uint8)).save(out, "PNG")
        return Answer({"name": f"{view.image}.{what}.png", "type": "image/png"}, out.getvalue())

    def commands(self, view: View) -> dict:
        words = "; ".join(", ".join(words) for words in self._classes(view))
        return {
            "command": f"sclip segment {view.image}.png --classes '{words}'",
            "python": f"from sclip_core import SCLIP\nmodel = SCLIP.load()\nmodel.segment(..., "
            f"classes={words!r})",
        }

    def upload(self, name: str, data: bytes) -> dict:
        from sclip_core.datasets import decode_image

        image = f"upload-{len(self.uploads)}"
        self.uploads[image] = decode_image(data, name)
        return {"collection": "uploads", "image": image}

    def close(self) -> None:
        pass


def main() -> None:
    """Serve the fake until Ctrl-C."""
    from sclip_core.explore.serving import listening, serve

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8901)
    parser.add_argument("--count", type=int, default=COUNT)
    given = parser.parse_args()
    listener = listening("127.0.0.1", given.port)
    serve(Fake(given.count), "127.0.0.1", listener, lambda guard: print(guard.address, flush=True))


if __name__ == "__main__":
    main()
