# mypy: disable-error-code="import-untyped"
"""More instructions for numba: from levels to codes, and registers of sixteen floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from imcsim.kernels.simd import (
    ADDRESS,
    F32,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    as_bytes,
    emit_call,
    emit_load,
    emit_minmax,
    emit_splat,
    emit_store,
    instruction,
    view,
)

# ------------------------------------------------------------------------- converters: levels to codes


@instruction
def byte_codes(context: Any, isa: Any, sums: Any, address: Any) -> Any:
    """Codes of byte sums, by the 256 bytes at `address`.

    They are looked up with AVX-512 VBMI; else bytes 0 and 1 are the ends of a clip.
    """

    def clip(builder: Any, values: Any) -> Any:
        ends = [emit_load(builder, builder.add(values[2], I64(i)), I8) for i in (0, 1)]
        low, high = (emit_splat(builder, end, isa.lanes) for end in ends)
        return emit_minmax("umin")(builder, emit_minmax("umax")(builder, values[1], low), high)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if isa.index_bits != 6:
            return clip(builder, values)
        kind = ir.VectorType(I8, 64)
        part = [emit_load(builder, builder.add(values[2], I64(64 * i)), kind) for i in range(4)]
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        lower = emit_call(builder, name, kind, part[0], values[1], part[1])
        upper = emit_call(builder, name, kind, part[2], values[1], part[3])
        return builder.select(builder.icmp_signed("<", values[1], ir.Constant(kind, [0] * 64)), upper, lower)

    return sums(isa, sums, ADDRESS), generate


@instruction
def affine_codes(context: Any, levels: Any, scale: Any, remainder: Any, origin: Any) -> Any:
    """``rint(levels (scale + remainder) + origin)`` on int16 lanes, half to even; it must fit in int16.

    In float32. The product is rounded once, as of a scale of twice the precision, and before the sum: a
    product that is exactly midway between two codes stays so.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pairs = view(builder, values[0], I32)
        count = pairs.type.count
        sixteen = emit_splat(builder, I32(16), count)
        floats = ir.VectorType(F32, count)
        scales, remainders, origins = (emit_splat(builder, v, count) for v in values[1:])
        codes = []
        for half in (builder.ashr(builder.shl(pairs, sixteen), sixteen), builder.ashr(pairs, sixteen)):
            level = builder.sitofp(half, floats)
            small = builder.fmul(level, remainders)
            product = emit_call(builder, f"llvm.fma.v{count}f32", floats, level, scales, small)
            codes.append(_round_to_i32(builder, builder.fadd(product, origins)))
        low = builder.and_(codes[0], emit_splat(builder, I32(0xFFFF), count))
        return as_bytes(builder, builder.or_(low, builder.shl(codes[1], sixteen)))

    return levels(levels, types.float32, types.float32, types.float32), generate


def _round_to_i32(builder: Any, value: Any) -> Any:
    """cvtps2dq: float32 to int32, half to even."""
    count = value.type.count
    if count == 16:
        kind = ir.VectorType(I32, 16)
        name = "llvm.x86.avx512.mask.cvtps2dq.512"
        everything = (ir.Constant(kind, [0] * 16), I16(-1), I32(4))  # 4: the rounding mode in force
        return emit_call(builder, name, kind, value, *everything)
    return emit_call(builder, "llvm.x86.avx.cvt.ps2dq.256", ir.VectorType(I32, count), value)


# ------------------------------------------------------------------------------------- sixteen float32

_VF = ir.VectorType(F32, 16)


def _floats(emit: Callable[..., Any], operands: int) -> Any:
    """An operation on `operands` vectors of sixteen floats."""
    if operands == 1:

        def unary(context: Any, a: Any) -> Any:
            return FLOATS(FLOATS), lambda context, builder, signature, values: emit(builder, *values)

        return instruction(unary)

    def binary(context: Any, a: Any, b: Any) -> Any:
        return FLOATS(FLOATS, FLOATS), lambda context, builder, signature, values: emit(builder, *values)

    return instruction(binary)


add_floats = _floats(lambda builder, a, b: builder.fadd(a, b), 2)
multiply_floats = _floats(lambda builder, a, b: builder.fmul(a, b), 2)
min_floats = _floats(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b), 2)
max_floats = _floats(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b), 2)
round_floats = _floats(lambda builder, a: emit_call(builder, "llvm.rint.v16f32", _VF, a), 1)


@instruction
def multiply_add_floats(context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c``, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit_call(builder, "llvm.fma.v16f32", _VF, *values)

    return FLOATS(FLOATS, FLOATS, FLOATS), generate


@instruction
def load_floats(context: Any, address: Any) -> Any:
    """Sixteen floats from memory."""
    return FLOATS(ADDRESS), lambda context, builder, signature, values: emit_load(builder, values[0], _VF)


@instruction
def look_up_floats(context: Any, low: Any, high: Any, index: Any) -> Any:
    """Entries of a table of 32 floats in two registers; AVX-512 only.

    The five lowest bits of each float's place are its index.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        index = builder.bitcast(values[2], ir.VectorType(I32, 16))
        return emit_call(builder, "llvm.x86.avx512.vpermi2var.ps.512", _VF, values[0], index, values[1])

    return FLOATS(FLOATS, FLOATS, FLOATS), generate


@instruction
def splat_floats(context: Any, value: Any) -> Any:
    """The same float sixteen times."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit_splat(builder, values[0], 16)

    return FLOATS(types.float32), generate


@instruction
def add_to_int32(context: Any, address: Any, value: Any, shift: Any) -> Any:
    """Add sixteen whole floats, shifted left as integers, to int32 in memory."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.VectorType(I32, 16)
        whole = builder.shl(
            builder.fptosi(values[1], kind), emit_splat(builder, builder.trunc(values[2], I32), 16)
        )
        return emit_store(builder, values[0], builder.add(emit_load(builder, values[0], kind), whole))

    return types.int64(ADDRESS, FLOATS, types.int64), generate
