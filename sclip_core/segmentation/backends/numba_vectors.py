"""Parts of LLVM's own code that pixels' words need: vectors of them, and lines fetched ahead.

A pixel's words lie side by side, a multiple of ``EIGHT`` of them: vectors of ``LANES``, and one of
eight more where that leaves some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDE = binding.get_host_cpu_features().get("avx512f", False)
LANES = 16 if WIDE else 8  # words in a vector
EIGHT = 8  # of which the number of words is a multiple
FLOATS = ir.VectorType(ir.FloatType(), LANES)
NUMBERS = ir.VectorType(ir.IntType(32), LANES)
LOWEST = float("-inf")
LINE = 16  # numbers in a cache line

Values = list[ir.Value]


def data_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Where the numbers of an array lie; nothing counts a reference."""
    return context.make_array(kind)(context, builder, array).data


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing: Any, array: Any, place: Any) -> Any:
    """In compiled code: fetch the cache line of a number of an array, which is read soon."""
    signature = types.void(array, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        """Emit the instruction; returns nothing."""
        data = data_of(context, builder, signature.args[0], arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, all_caches, of_data = number(0), number(3), number(1)
        builder.call(function, [pointer, read, all_caches, of_data])
        return context.get_dummy_value()

    return signature, generate


class Vectors:
    """Emits vector instructions."""

    def __init__(self, builder: Any) -> None:
        """Emit by a builder."""
        self.builder = builder

    def each(self, words: Any, emit: Callable[[Any, int, Any], None]) -> None:
        """All vectors of a pixel's words.

        Args:
            words: their number.
            emit: takes a vector's first word, how many it has, and which vector it is.
        """
        builder = self.builder
        count = builder.udiv(words, words.type(LANES))
        with cgutils.for_range(builder, count) as loop:
            emit(builder.mul(loop.index, words.type(LANES)), LANES, loop.index)
        if LANES == EIGHT:
            return
        at = builder.mul(count, words.type(LANES))
        with builder.if_then(builder.icmp_unsigned("<", at, words)):
            emit(at, EIGHT, count)

    def load(self, data: Any, place: Any, lanes: int) -> Any:
        """Floats side by side."""
        kind = ir.VectorType(ir.FloatType(), lanes)
        pointer = self.builder.bitcast(self.builder.gep(data, [place]), kind.as_pointer())
        return self.builder.load(pointer, align=4)

    def widened(self, vector: Any) -> Any:
        """As many lanes as others have; those that are new hold -inf."""
        if vector.type == FLOATS:
            return vector
        lowest = ir.Constant(vector.type, [LOWEST] * EIGHT)
        lanes = ir.Constant(NUMBERS, list(range(LANES)))
        return self.builder.shuffle_vector(vector, lowest, lanes)

    def splat(self, value: Any, kind: Any) -> Any:
        """A number in every lane."""
        undefined = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
        return self.builder.shuffle_vector(one, undefined, zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, contracted where the CPU can."""
        return self._called("fmuladd", a.type, [a, b, c])

    def larger(self, a: Any, b: Any) -> Any:
        """The larger one of each lane; neither is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def reduced(self, name: str, values: Values, fastmath: Sequence[str] = ()) -> Any:
        """One number of a vector, which comes last, by an operation of ``llvm.vector.reduce``."""
        vector = values[-1].type
        return self._called(f"vector.reduce.{name}", vector, values, vector.element, fastmath)

    def _called(
        self,
        name: str,
        vector: Any,
        values: Values,
        result: Any = None,
        fastmath: Sequence[str] = (),
    ) -> Any:
        kind = "f32" if vector.element == ir.FloatType() else "i32"
        full = f"llvm.{name}.v{vector.count}{kind}"
        signature = ir.FunctionType(result or vector, [value.type for value in values])
        function = cgutils.get_or_insert_function(self.builder.module, signature, full)
        return self.builder.call(function, values, fastmath=fastmath)
