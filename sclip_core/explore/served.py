"""What the server calls: the methods of ``Explorer``, without its imports."""

from __future__ import annotations

from typing import Any, Protocol

from sclip_core.explore.desk import Answer, Task
from sclip_core.explore.view import Point, View


class Served(Protocol):
    """Answers the page's questions; see ``sclip_core.explore.explorer.Explorer``.

    Methods with a task are heavy and run one at a time, in one thread; the others run beside
    them, several at a time, in threads of their own. All raise UserError for what the page should
    not have asked for.
    """

    def about(self) -> dict[str, Any]:
        """Collections, methods, limits and colours."""

    def images(
        self, collection: str, order: str, find: str, start: int, count: int
    ) -> dict[str, Any]:
        """A piece of a collection's images, in an order."""

    def image(self, collection: str, image: str) -> dict[str, Any]:
        """What is known of an image."""

    def thumbnail(self, collection: str, image: str) -> tuple[bytes, str]:
        """A WebP file and its ETag."""

    def picture(self, collection: str, image: str) -> tuple[bytes, str, str]:
        """A file of the shown size, its ETag and its media type."""

    def labels(self, view: View, task: Task) -> Answer:
        """A label map."""

    def heat(self, view: View, word: str, task: Task) -> Answer:
        """How similar each pixel is to a word."""

    def likeness(self, view: View, point: Point, task: Task) -> Answer:
        """How similar the feature of a pixel is to every other."""

    def attention(self, view: View, point: Point, task: Task) -> Answer:
        """What a pixel attends to."""

    def truth(self, view: View, task: Task) -> Answer:
        """The ground truth, as a label map."""

    def scores(self, view: View, point: Point) -> dict[str, Any]:
        """The scores of all words at a pixel."""

    def search(self, view: View, word: str, task: Task) -> Answer:
        """Rank the images of a collection by a word."""

    def encode(self, view: View, task: Task) -> Answer:
        """Encode what is not encoded yet."""

    def save(self, view: View, what: str, word: str, task: Task) -> Answer:
        """A file of what is shown."""

    def commands(self, view: View) -> dict[str, Any]:
        """The same as a command, and in Python."""

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Take an image."""
