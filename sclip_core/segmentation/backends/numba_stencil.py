"""Vector instructions that a plain loop does not become: a block of pixels of PAMR's stencil.

A loop over words loads 16 neighbours for each vector of words. Pixels side by side on PAMR's
lattice (``numba_lattice.py``) share most of them: four need 36 instead of 64. What shares them is
written here as LLVM's own code, because its optimiser does not find it. LLVM breaks vectors down
to what a CPU has; the widths below only decide how many registers are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sclip_core.segmentation.backends.numba_vectors import LANES, WIDE, Values, Vectors, data_of

BLOCK = 4  # pixels side by side that are computed together
PAIR = 2 if WIDE else 1  # vectors of words at once: 16 sums a vector, of 32 or 16 registers

Add = Callable[[int, bool, int, Values], None]  # pixel, whether far, weight, vectors
Load = Callable[[int, int], Values]  # row, column of the stencil


def stencil_of(vectors: int, lanes: int) -> Callable[..., None]:
    """A function for compiled code: one step of PAMR for ``BLOCK`` pixels and some words.

    The function takes the source, the place of the first pixel's first word in it, numbers from a
    row to the next, numbers from a pixel to the next; the weights, 16 a pixel, and the place of the
    first; the target, laid out like the source, and the place in it. The additions are those of
    ``numba_pamr_kernels.step_row`` in the same order.

    Args:
        vectors: of words.
        lanes: words in a vector.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def stencil(
        typing: Any,
        source: Any,
        at: Any,
        row: Any,
        pixel: Any,
        weights: Any,
        first: Any,
        target: Any,
        to: Any,
    ) -> Any:
        """The types that Numba knows the arguments by, and what emits the code."""
        place = types.intp
        signature = types.void(source, place, place, place, weights, place, target, place)

        def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            """Emit the block; returns nothing."""

            def data(n: int) -> Any:
                return data_of(context, builder, signature.args[n], arguments[n])

            emitted = _Emitted(builder, vectors, lanes)
            emitted.read_from(data(0), *arguments[1:4])
            emitted.weigh_by(data(4), arguments[5])
            _sum_neighbours(emitted.load, emitted.add)
            emitted.store(data(6), arguments[7])
            return context.get_dummy_value()

        return signature, generate

    return stencil  # type: ignore[no-any-return]


def _sum_neighbours(load: Load, add: Add) -> None:
    """All products of a block, row by row of the stencil; each sum in the order of its weights.

    Of the three neighbours above, the middle one comes first, as LLVM contracts ``a·b + c·d``.
    """
    for row in (-2, -1, 0, 1, 2):
        columns = [(k, load(row, k)) for k in _columns(row)]
        at = dict(columns)
        far, reach = abs(row) == 2, max(abs(row), 1)
        for k, vectors in columns:
            if row < 0:
                if 0 <= k < BLOCK:
                    add(k, far, 1, vectors)
                    add(k, far, 0, at[k - reach])
                if 0 <= k - reach < BLOCK:
                    add(k - reach, far, 2, vectors)
            elif row > 0:
                for offset, weight in ((reach, 7), (0, 6), (-reach, 5)):
                    if 0 <= k - offset < BLOCK:
                        add(k - offset, far, weight, vectors)
            else:
                for offset, weight in ((-1, 3), (1, 4), (-2, 3), (2, 4)):
                    if 0 <= k - offset < BLOCK:
                        add(k - offset, abs(offset) == 2, weight, vectors)


def _columns(row: int) -> range:
    """The columns that a block of pixels reads of a row of the stencil."""
    reach = 2 if row == 0 else abs(row)
    return range(-reach, BLOCK + reach)


class _Emitted:
    """The code of one block as it is emitted."""

    def __init__(self, builder: Any, vectors: int, lanes: int) -> None:
        self._builder, self._vectors, self._lanes = builder, vectors, lanes
        self._type, self._emit = ir.VectorType(ir.FloatType(), lanes), Vectors(builder)
        self._sums: dict[tuple[int, bool], Values] = {}

    def read_from(self, data: Any, at: Any, row: Any, pixel: Any) -> None:
        """Where the source lies, the place of the first pixel, and the distances."""
        self._source, self._at, self._row, self._pixel = data, at, row, pixel

    def weigh_by(self, data: Any, first: Any) -> None:
        """Where the weights lie, and the place of the first."""
        self._weights, self._first = data, first

    def load(self, row: int, column: int) -> Values:
        """The vectors of a neighbour."""
        builder = self._builder
        place = builder.add(self._at, builder.mul(self._row, self._row.type(row)))
        return [
            builder.load(pointer, align=4)
            for pointer in self._pointers(self._source, place, column)
        ]

    def add(self, pixel: int, far: bool, weight: int, vectors: Values) -> None:
        """Add a weighted neighbour to a sum of a pixel."""
        builder = self._builder
        place = builder.add(self._first, self._first.type(16 * pixel + 8 * far + weight))
        number = builder.load(builder.gep(self._weights, [place]))
        factor = self._emit.splat(number, self._type)
        sums = self._sums.get((pixel, far))
        if sums is None:
            self._sums[pixel, far] = [builder.fmul(factor, vector) for vector in vectors]
        else:
            self._sums[pixel, far] = [
                self._emit.multiply_add(factor, vector, total)
                for vector, total in zip(vectors, sums, strict=True)
            ]

    def store(self, data: Any, to: Any) -> None:
        """Write the block: near and far neighbours together."""
        for pixel in range(BLOCK):
            pointers = self._pointers(data, to, pixel)
            pairs = zip(self._sums[pixel, False], self._sums[pixel, True], strict=True)
            for pointer, (near, far) in zip(pointers, pairs, strict=True):
                self._builder.store(self._builder.fadd(near, far), pointer, align=4)

    def _pointers(self, data: Any, place: Any, pixels: int) -> Values:
        """Of the vectors of a pixel, some pixels beyond a place."""
        builder = self._builder
        place = builder.add(place, builder.mul(self._pixel, self._pixel.type(pixels)))
        return [
            builder.bitcast(
                builder.gep(data, [builder.add(place, place.type(k * self._lanes))]),
                self._type.as_pointer(),
            )
            for k in range(self._vectors)
        ]


stencil_pair = stencil_of(PAIR, LANES)
stencil_one = stencil_of(1, LANES)
stencil_eight = stencil_of(1, 8)
AT_ONCE = PAIR * LANES  # words that ``stencil_pair`` computes
