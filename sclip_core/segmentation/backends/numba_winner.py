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

from sclip_core.segmentation.backends.numba_stencil import LANES, Values

EIGHT = 8  # of which the number of words is a multiple


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
            def data(n: int) -> Any:
                array = context.make_array(signature.args[n])
                return array(context, builder, arguments[n]).data

            first, words = arguments[3:5]
            emitted = _Emitted(builder, words, data(0), data(5))
            if taps:
                emitted.mix(taps, data(1), data(2), first)
            else:
                emitted.begin_at(first)
            emitted.compare_all()
            return context.make_tuple(builder, signature.return_type, emitted.found())

        return signature, generate

    return winner  # type: ignore[no-any-return]


class _Emitted:
    """The code of one pixel as it is emitted."""

    def __init__(self, builder: Any, words: Any, line: Any, added: Any) -> None:
        self._builder, self._words, self._line, self._added = builder, words, line, added
        self._floats = ir.VectorType(ir.FloatType(), LANES)
        self._whole = ir.VectorType(ir.IntType(32), LANES)
        lowest = ir.Constant(self._floats, [float("-inf")] * LANES)
        self._best = cgutils.alloca_once_value(builder, lowest)
        self._where = cgutils.alloca_once_value(builder, ir.Constant(self._whole, [0] * LANES))

    def begin_at(self, first: Any) -> None:
        """The logits are there."""
        self._starts: Values = [first]
        self._factors: Values = []

    def mix(self, taps: int, columns: Any, weights: Any, first: Any) -> None:
        """The logits are mixed from some columns of the line."""
        builder = self._builder
        self._starts, self._factors = [], []
        for k in range(taps):
            place = [builder.add(first, first.type(k))]
            column = builder.load(builder.gep(columns, place))
            self._starts.append(builder.mul(column, self._words))
            self._factors.append(builder.load(builder.gep(weights, place)))

    def compare_all(self) -> None:
        """All vectors of words; a last one may have eight."""
        builder = self._builder
        count = builder.udiv(self._words, self._words.type(LANES))
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(loop.index, self._words.type(LANES))
            self._compare(self._logits(at, LANES), loop.index)
        if LANES == EIGHT:
            return
        at = builder.mul(count, self._words.type(LANES))
        with builder.if_then(builder.icmp_unsigned("<", at, self._words)):
            eight = self._logits(at, EIGHT)
            lowest = ir.Constant(eight.type, [float("-inf")] * EIGHT)
            lanes = ir.Constant(self._whole, list(range(LANES)))
            self._compare(builder.shuffle_vector(eight, lowest, lanes), count)

    def found(self) -> list[Any]:
        """The highest of the lanes, and the first word that has it."""
        builder, number = self._builder, ir.IntType(32)
        best, where = builder.load(self._best), builder.load(self._where)
        highest = self._reduce("fmax", best, ir.FloatType(), "f32", ("nnan",))
        same = builder.fcmp_ordered("==", best, self._splat(highest, self._floats))
        lanes = ir.Constant(self._whole, list(range(LANES)))
        place = builder.add(builder.mul(where, ir.Constant(self._whole, [LANES] * LANES)), lanes)
        none = ir.Constant(self._whole, [2**31 - 1] * LANES)
        first = self._reduce("umin", builder.select(same, place, none), number, "i32")
        return [highest, builder.zext(first, self._words.type)]

    def _logits(self, at: Any, lanes: int) -> Any:
        """Those of the words from ``at`` on that may win; of the others -inf."""
        builder = self._builder
        found = [self._vector(self._line, builder.add(s, at), lanes) for s in self._starts]
        if self._factors:
            found = [self._mixed(found[k : k + 4], k) for k in range(0, len(found), 4)]
        total = found[0] if len(found) == 1 else builder.fadd(*found)
        return builder.fadd(total, self._vector(self._added, at, lanes))

    def _mixed(self, vectors: Sequence[Any], first: int) -> Any:
        """Four taps; the second comes first, as LLVM contracts ``a·b + c·d``."""
        builder, kind = self._builder, vectors[0].type
        signature = ir.FunctionType(kind, [kind] * 3)
        name = f"llvm.fmuladd.v{kind.count}f32"
        fmuladd = cgutils.get_or_insert_function(builder.module, signature, name)
        factors = [self._splat(f, kind) for f in self._factors[first : first + 4]]
        total = builder.fmul(factors[1], vectors[1])
        for k in (0, 2, 3):
            total = builder.call(fmuladd, [factors[k], vectors[k], total])
        return total

    def _compare(self, logits: Any, number: Any) -> None:
        """Keep the better of each lane, and the number of its vector."""
        builder = self._builder
        best, where = builder.load(self._best), builder.load(self._where)
        better = builder.fcmp_ordered(">", logits, best)
        here = self._splat(builder.trunc(number, ir.IntType(32)), self._whole)
        builder.store(builder.select(better, logits, best), self._best)
        builder.store(builder.select(better, here, where), self._where)

    def _vector(self, data: Any, place: Any, lanes: int) -> Any:
        kind = ir.VectorType(ir.FloatType(), lanes)
        pointer = self._builder.bitcast(self._builder.gep(data, [place]), kind.as_pointer())
        return self._builder.load(pointer, align=4)

    def _splat(self, value: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        one = self._builder.insert_element(undefined, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return self._builder.shuffle_vector(one, undefined, zeros)

    def _reduce(
        self, name: str, vector: Any, kind: Any, suffix: str, fastmath: Sequence[str] = ()
    ) -> Any:
        full = f"llvm.vector.reduce.{name}.v{LANES}{suffix}"
        signature = ir.FunctionType(kind, [vector.type])
        function = cgutils.get_or_insert_function(self._builder.module, signature, full)
        return self._builder.call(function, [vector], fastmath=fastmath)


winner_of_logits, winner_of_four, winner_of_eight = map(winner_of, (0, 4, 8))
