"""The softmax's sum of a pixel's words in vector instructions.

A loop over words becomes vectors too, but goes over arrays of mantissas and powers in between, and
takes the last words one by one: 1 ns a word, where this takes a quarter of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sclip_core.segmentation.backends.numba_vectors import FLOATS, NUMBERS, Vectors, data_of

LEAST = -100.0  # what is less counts as this
# Taylor's of 2**x; see ``numba_weights.split_power``
TERMS = [math.log(2) ** n / math.factorial(n) for n in range(6, -1, -1)]


@intrinsic  # type: ignore[untyped-decorator]
def sum_of_powers(
    typing: Any, row: Any, first: Any, words: Any, added: Any, highest: Any, scale: Any
) -> Any:
    """The sum of ``2**(scale · (logit - highest))`` over a pixel's words, within 3e-7 of it.

    For compiled code. It takes the logits, the place of the pixel's first, the number of words, a
    multiple of 8, what is added to each exponent (0, or -inf for one that does not count), the
    highest logit and the scale.
    """
    number, place = types.float32, types.intp
    signature = number(row, place, place, added, number, number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        """Emit the pixel; returns the sum."""
        row, first, words, added, highest, scale = arguments
        row = data_of(context, builder, signature.args[0], row)
        added = data_of(context, builder, signature.args[3], added)
        vectors = Vectors(builder)
        total = cgutils.alloca_once_value(builder, ir.Constant(FLOATS, [0.0] * FLOATS.count))

        def add(at: Any, lanes: int, _: Any) -> None:
            logits = vectors.load(row, builder.add(first, at), lanes)
            below = builder.fsub(logits, vectors.splat(highest, logits.type))
            factor, more = vectors.splat(scale, logits.type), vectors.load(added, at, lanes)
            exponents = vectors.widened(vectors.multiply_add(below, factor, more))
            builder.store(builder.fadd(builder.load(total), _power(vectors, exponents)), total)

        vectors.each(words, add)
        nothing = ir.Constant(ir.FloatType(), 0.0)
        return vectors.reduced("fadd", [nothing, builder.load(total)], ("reassoc",))

    return signature, generate


def _power(vectors: Vectors, x: Any) -> Any:
    """2**x of exponents of at most 0, as ``numba_weights.split_power`` takes it.

    2 to the rest by a polynomial, to whose bits of the exponent the rounded x is added.
    """
    builder = vectors.builder

    def constant(value: float) -> Any:
        return ir.Constant(FLOATS, [value] * FLOATS.count)

    x = vectors.larger(x, constant(LEAST))
    whole = builder.fptosi(builder.fsub(x, constant(0.5)), NUMBERS)
    rest = builder.fsub(x, builder.sitofp(whole, FLOATS))
    value = constant(TERMS[0])
    for term in TERMS[1:]:
        value = vectors.multiply_add(value, rest, constant(term))
    shift = ir.Constant(NUMBERS, [23] * NUMBERS.count)
    bits = builder.add(builder.bitcast(value, NUMBERS), builder.shl(whole, shift))
    return builder.bitcast(bits, FLOATS)
