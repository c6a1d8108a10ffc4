"""Whether the palettes of label maps agree on which index has which colour."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from sclip_core.config import UserError
from sclip_core.datasets.label_arrays import NPY_START
from sclip_core.datasets.label_files import opened

Colour = tuple[int, int, int]


class Drawn(NamedTuple):
    """The palette of a label map, and which of its indices the map uses."""

    name: str
    colours: tuple[Colour, ...]
    used: tuple[int, ...]


def drawn_with(data: bytes, name: str, values: Collection[int]) -> Drawn | None:
    """The palette of a label map; None if it has none.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.
        values: that it holds.
    """
    if data.startswith(NPY_START):
        return None
    image = opened(data, name)
    flat = image.getpalette("RGB") if image.mode == "P" else None
    if not flat:
        return None
    colours = tuple(zip(flat[::3], flat[1::3], flat[2::3], strict=False))
    return Drawn(name, colours, tuple(v for v in sorted(values) if v < len(colours)))


@dataclass
class Palettes:
    """The colours that some label maps use: an editor may number the colours of each file anew."""

    found: dict[Colour, tuple[int, str]] = field(default_factory=dict)  # index, label map
    conflict: str | None = None

    def add(self, drawn: Drawn | None) -> None:
        """Add a label map; of the first that disagrees with an earlier one, keep the reason."""
        if drawn is None or self.conflict:
            return
        for index in drawn.used:
            colour = drawn.colours[index]
            earlier, name = self.found.setdefault(colour, (index, drawn.name))
            # One palette may have a colour twice, such as black for all indices without a class.
            here = drawn.colours[earlier] if earlier < len(drawn.colours) else None
            if earlier != index and here != colour:
                self.conflict = (
                    f"the colour {','.join(map(str, colour))} is index {earlier} in {name} and "
                    f"index {index} in {drawn.name}"
                )

    def refuse_conflict(self) -> None:
        """Raise where one index stands for several colours.

        Raises:
            UserError: the palettes of two label maps differ in a colour that both use.
        """
        if self.conflict:
            raise UserError(
                f"the palettes of the label maps differ: {self.conflict}, so that one value stands "
                "for several classes: pass --palette FILE with the colour of each class, which are "
                "then read, or save the label maps with one palette"
            )
