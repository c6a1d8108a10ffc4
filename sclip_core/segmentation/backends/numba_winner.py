"""The best word of a pixel in vector instructions, stitched from up to eight taps on the way.

A loop that compares words and remembers which was largest is not vectorised. Here every lane of a
vector remembers its best and in which vector that was, and the lanes are compared once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sclip_core.segmentation.backends.numba_vectors import (
    FLOATS,
    LANES,
    LOWEST,
    NUMBERS,
    Values,
    Vectors,
    data_of,
)


def winner_of(taps: int) -> Callable[..., tuple[Any, int]]:
    """A function for compiled code: the highest logit of a pixel that may win, and its word.

    The function takes the line that is mixed (columns × words, one after the other), columns and
    weights of the taps and the place of the pixel's first in both, the number of words, a
    multiple of 8, and what is added to each: 0, or -inf for one that may not win. Of equal ones the
    first wins. Sums are taken as in ``numba_stitch.mix_columns``.

    Args:
        taps: 4 or 8 columns that are mixed; 0: the place is that of the pixel's logits in the line.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def winner(
        typing: Any, line: Any, columns: Any, weights: Any, first: Any, words: Any, added: Any
    ) -> Any:
        pair = types.Tuple((types.float32, types.intp))
        signature = pair(line, columns, weights, types.intp, types.intp, added)

        def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            """Emit the pixel; returns its highest logit and the word."""

            def data(n: int) -> Any:
                return data_of(context, builder, signature.args[n], arguments[n])

            first, words = arguments[3:5]
            emitted = _Emitted(builder, words, data(0), data(5))
            if taps:
                emitted.mix(taps, data(1), data(2), first)
            else:
                emitted.begin_at(first)
            emitted.each(words, emitted.compare)
            return context.make_tuple(builder, signature.return_type, emitted.found())

        return signature, generate

    return winner  # type: ignore[no-any-return]


class _Emitted(Vectors):
    """The code of one pixel as it is emitted."""

    def __init__(self, builder: Any, words: Any, line: Any, added: Any) -> None:
        super().__init__(builder)
        self._words, self._line, self._added = words, line, added
        lowest = ir.Constant(FLOATS, [LOWEST] * LANES)
        self._best = cgutils.alloca_once_value(builder, lowest)
        self._where = cgutils.alloca_once_value(builder, ir.Constant(NUMBERS, [0] * LANES))

    def begin_at(self, first: Any) -> None:
        """The logits are there."""
        self._starts: Values = [first]
        self._factors: Values = []

    def mix(self, taps: int, columns: Any, weights: Any, first: Any) -> None:
        """The logits are mixed from some columns of the line."""
        builder = self.builder
        self._starts, self._factors = [], []
        for k in range(taps):
            place = [builder.add(first, first.type(k))]
            column = builder.load(builder.gep(columns, place))
            self._starts.append(builder.mul(column, self._words))
            self._factors.append(builder.load(builder.gep(weights, place)))

    def compare(self, at: Any, lanes: int, number: Any) -> None:
        """Keep the better of each lane, and the number of its vector."""
        builder = self.builder
        logits = self.widened(self._logits(at, lanes))
        best, where = builder.load(self._best), builder.load(self._where)
        better = builder.fcmp_ordered(">", logits, best)
        here = self.splat(builder.trunc(number, ir.IntType(32)), NUMBERS)
        builder.store(builder.select(better, logits, best), self._best)
        builder.store(builder.select(better, here, where), self._where)

    def found(self) -> list[Any]:
        """The highest of the lanes, and the first word that has it."""
        builder = self.builder
        best, where = builder.load(self._best), builder.load(self._where)
        highest = self.reduced("fmax", [best], ("nnan",))
        same = builder.fcmp_ordered("==", best, self.splat(highest, FLOATS))
        lanes = ir.Constant(NUMBERS, list(range(LANES)))
        place = builder.add(builder.mul(where, ir.Constant(NUMBERS, [LANES] * LANES)), lanes)
        none = ir.Constant(NUMBERS, [2**31 - 1] * LANES)
        first = self.reduced("umin", [builder.select(same, place, none)])
        return [highest, builder.zext(first, self._words.type)]

    def _logits(self, at: Any, lanes: int) -> Any:
        """Those of the words from ``at`` on that may win; of the others -inf."""
        found = [self.load(self._line, self.builder.add(s, at), lanes) for s in self._starts]
        if self._factors:
            found = [self._mixed(found[k : k + 4], k) for k in range(0, len(found), 4)]
        total = found[0] if len(found) == 1 else self.builder.fadd(*found)
        return self.builder.fadd(total, self.load(self._added, at, lanes))

    def _mixed(self, vectors: Sequence[Any], first: int) -> Any:
        """Four taps; the second comes first, as LLVM contracts ``a·b + c·d``."""
        factors = [self.splat(f, vectors[0].type) for f in self._factors[first : first + 4]]
        total = self.builder.fmul(factors[1], vectors[1])
        for k in (0, 2, 3):
            total = self.multiply_add(factors[k], vectors[k], total)
        return total


winner_of_logits, winner_of_four, winner_of_eight = map(winner_of, (0, 4, 8))
