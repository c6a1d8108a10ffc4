"""What earlier calls made of the images of annotations, in a file beside the label maps."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from sclip_core.config import ImageError
from sclip_core.store.files import write_whole
from sclip_core.store.keys import canonical_json

Value = TypeVar("Value")
State = list[int]  # of an image's file


class Drawn(NamedTuple):
    """What became of the images, by image id."""

    states: dict[str, State]  # of images whose maps are drawn, at that time
    faults: dict[str, list[str]]  # lines on shapes that are not in their maps
    failed: dict[str, tuple[State, str]]  # images that have no map: their state, and why

    @classmethod
    def read(cls, path: Path) -> Self:
        """What is in a file; nothing of what is damaged or of another form."""
        loaded: Any = {}
        with suppress(OSError, ValueError, RecursionError):
            loaded = json.loads(path.read_text("utf-8"))
        states = {i: state for i, state in _dict(loaded, "images").items() if _is_state(state)}
        faults = {i: found for i, found in _dict(loaded, "faults").items() if is_lines(found)}
        failed = {
            i: (entry[0], entry[1])
            for i, entry in _dict(loaded, "failed").items()
            if isinstance(entry, list)
            and len(entry) == 2
            and _is_state(entry[0])
            and isinstance(entry[1], str)
        }
        return cls(states, faults, failed)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content = {"images": self.states, "faults": self.faults, "failed": self.failed}
        text = canonical_json({key: found for key, found in content.items() if found})
        write_whole(path, lambda target: target.write_text(text, encoding="utf-8"))

    def known_to_fail(self, image_id: str, state: State) -> bool:
        """Whether an image, as it is now, is known to have no map."""
        return image_id in self.failed and self.failed[image_id][0] == state

    def with_results(
        self, results: Mapping[str, list[str] | ImageError], states: Mapping[str, State]
    ) -> Self:
        """What is known after more maps were drawn.

        Args:
            results: of each image, the lines on its shapes, or why it has no map.
            states: of the images' files.
        """
        drawn = {i: lines for i, lines in results.items() if not isinstance(lines, ImageError)}
        fails = {i: error for i, error in results.items() if isinstance(error, ImageError)}
        return type(self)(
            _without(self.states, results) | {i: states[i] for i in drawn},
            _without(self.faults, results) | {i: lines for i, lines in drawn.items() if lines},
            _without(self.failed, results) | {i: (states[i], str(fails[i])) for i in fails},
        )


def _without(part: dict[str, Value], ids: Container[str]) -> dict[str, Value]:
    return {i: value for i, value in part.items() if i not in ids}


def is_lines(value: object) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _dict(loaded: object, key: str) -> dict[str, Any]:
    found = loaded.get(key) if isinstance(loaded, dict) else None
    return found if isinstance(found, dict) else {}


def _is_state(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)
