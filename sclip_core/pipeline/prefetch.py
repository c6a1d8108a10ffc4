"""Reading ahead: files are decoded while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sclip_core.config import ImageError

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    load: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result | ImageError]]:
    """Load items in threads, in order, at most twice as many ahead as there are threads.

    Args:
        load: reads one item; OpenCV, Zarr and numpy release the GIL.
        items: what to read.
        workers: threads; 0: in the caller's own.

    Yields:
        Each item with what ``load`` gave, or with the ``ImageError`` that it raised.
    """

    def attempt(item: Item) -> Result | ImageError:
        try:
            return load(item)
        except ImageError as error:
            return error

    if workers == 0:
        yield from ((item, attempt(item)) for item in items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="prefetch") as pool:
        ahead: deque[tuple[Item, Future[Result | ImageError]]] = deque()
        try:
            for item in items:
                ahead.append((item, pool.submit(attempt, item)))
                if len(ahead) > 2 * workers:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:
            for _, future in ahead:
                future.cancel()
