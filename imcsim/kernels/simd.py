"""SIMD registers inside numba: values of 32 or 64 bytes and one function per machine instruction.

numba has no vector types, but lets a library add types and emit LLVM code for them; that is all this file does. A kernel takes an
`InstructionSet` as its first argument and numba compiles it once per set, so AVX2 and AVX-512 share one source. Registers are
untyped bits, as in C's ``__m256i``; the name of an operation says how it reads them (``u8``, ``i16``, ``i32``).

Addresses are plain integers (``array.ctypes.data`` plus an offset in bytes): nothing here checks a bound.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class InstructionSet:
    """What a kernel is compiled for.

    Attributes:
        name: for messages.
        lanes: bytes in a register, which is the number of input vectors a byte kernel handles at once.
        index_bits: a table in a register has ``2^index_bits`` one-byte entries.
    """

    name: str
    lanes: int
    index_bits: int


AVX2 = InstructionSet("avx2", lanes=32, index_bits=4)
AVX512 = InstructionSet("avx512", lanes=64, index_bits=4)
AVX512_VBMI = InstructionSet("avx512vbmi", lanes=64, index_bits=6)


def available() -> list[InstructionSet]:
    """The sets that this processor has, best first; empty without AVX2."""
    has = llvmlite.binding.get_host_cpu_features()
    out = []
    if has.get("avx2") and has.get("fma"):
        out.append(AVX2)
        if has.get("avx512bw") and has.get("avx512vl"):
            out.insert(0, AVX512)
            if has.get("avx512vbmi"):
                out.insert(0, AVX512_VBMI)
    return out


# ------------------------------------------------------------------------------------------- decorators with types


def kernel(function: Function) -> Function:
    """Compile at the first call, without the GIL, and keep the machine code on disk."""
    try:
        return cast("Function", numba.njit(nogil=True, cache=True, error_model="numpy")(function))
    except (
        RuntimeError
    ):  # neither the package nor the home folder can be written: keep it for this machine's uptime
        numba.config.CACHE_DIR = tempfile.gettempdir() + "/imcsim-numba"
        return cast("Function", numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """A piece of a kernel: compiled into the kernels that use it."""
    return cast("Function", numba.njit(inline="always", error_model="numpy")(function))


# -------------------------------------------------------------------------------------------------------- types


class SetType(types.Type):  # type: ignore[misc]
    """The type of an `InstructionSet` argument; the value itself carries nothing."""

    def __init__(self, lanes: int, index_bits: int) -> None:
        self.lanes, self.index_bits = lanes, index_bits
        super().__init__(name=f"InstructionSet({lanes}, {index_bits})")


class RegisterType(types.Type):  # type: ignore[misc]
    """A vector register of `lanes` bytes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Register({lanes})")


class FloatsType(types.Type):  # type: ignore[misc]
    """Sixteen float32: one AVX-512 register, two of AVX2."""

    def __init__(self) -> None:
        super().__init__(name="Floats16")


FLOATS = FloatsType()
ADDRESS = types.intp
register_model(SetType)(models.OpaqueModel)


@register_model(RegisterType)
class _RegisterModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: RegisterType) -> None:
        super().__init__(manager, kind, ir.VectorType(I8, kind.lanes))


@register_model(FloatsType)
class _FloatsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: FloatsType) -> None:
        super().__init__(manager, kind, ir.VectorType(F32, 16))


@typeof_impl.register(InstructionSet)
def _type_of(value: InstructionSet, context: Any) -> SetType:
    return SetType(value.lanes, value.index_bits)


@unbox(SetType)
def _unbox(kind: SetType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


# ----------------------------------------------------------------------------------------- helpers that emit LLVM


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, address: Any, kind: Any) -> Any:
    value = builder.load(_pointer(builder, address, kind))
    value.align = 1
    return value


def _store(builder: Any, address: Any, value: Any) -> Any:
    builder.store(value, _pointer(builder, address, value.type)).align = 1
    return ir.Constant(I64, 0)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _width(element: Any) -> int:
    return 32 if element == F32 else int(element.width)


def _bits(value: Any) -> int:
    return int(value.type.count) * _width(value.type.element)


def _view(builder: Any, value: Any, element: Any) -> Any:
    """The same bits as a vector of another element."""
    return builder.bitcast(value, ir.VectorType(element, _bits(value) // _width(element)))


def _bytes(builder: Any, value: Any) -> Any:
    return _view(builder, value, I8)


def _unpack_order(count: int, per_block: int, high: bool) -> list[int]:
    """Interleaving of two vectors inside blocks of 16 bytes, as the machine does it."""
    half, order = per_block // 2, []
    for block in range(0, count, per_block):
        for i in range(half):
            at = block + i + (half if high else 0)
            order += [at, count + at]
    return order


def _binary(element: Any, emit: Callable[[Any, Any, Any], Any]) -> Any:
    """An operation register x register -> register on lanes of `element`."""

    def operation(context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            left, right = (_view(builder, v, element) for v in values)
            return _bytes(builder, emit(builder, left, right))

        return a(a, b), generate

    return intrinsic(operation)


def _minmax(name: str) -> Callable[[Any, Any, Any], Any]:
    def emit(builder: Any, a: Any, b: Any) -> Any:
        return _call(builder, f"llvm.{name}.v{a.type.count}i{a.type.element.width}", a.type, a, b)

    return emit


def _pairwise(narrow: str, wide: str, result: Any) -> Callable[[Any, Any, Any], Any]:
    """pmaddubsw and pmaddwd: multiply, then add neighbours."""

    def emit(builder: Any, a: Any, b: Any) -> Any:
        name = f"llvm.x86.avx512.{wide}.512" if _bits(a) == 512 else f"llvm.x86.avx2.{narrow}"
        return _call(builder, name, ir.VectorType(result, a.type.count // 2), a, b)

    return emit


def _unpack(per_block: int, high: bool) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, a, b: _shuffle(builder, a, b, _unpack_order(a.type.count, per_block, high))


# --------------------------------------------------------------------------- operations on two registers, lane by lane

add_u8 = _binary(I8, lambda builder, a, b: builder.add(a, b))
add_i16 = _binary(I16, lambda builder, a, b: builder.add(a, b))
add_i32 = _binary(I32, lambda builder, a, b: builder.add(a, b))
or_bits = _binary(I64, lambda builder, a, b: builder.or_(a, b))
and_bits = _binary(I64, lambda builder, a, b: builder.and_(a, b))
min_i16, max_i16 = _binary(I16, _minmax("smin")), _binary(I16, _minmax("smax"))
unpack_low_u8, unpack_high_u8 = _binary(I8, _unpack(16, False)), _binary(I8, _unpack(16, True))
unpack_low_i16, unpack_high_i16 = _binary(I16, _unpack(8, False)), _binary(I16, _unpack(8, True))
multiply_add_i16 = _binary(I16, _pairwise("pmadd.wd", "pmaddw.d", I32))  # i16 x i16 -> sums of two, i32
multiply_add_u8 = _binary(I8, _pairwise("pmadd.ub.sw", "pmaddubs.w", I16))  # u8 x i8 -> sums of two, i16


# ------------------------------------------------------------------------------------------------ memory, constants


def _constant_of(name: str) -> Any:
    def operation(context: Any, isa: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return ir.Constant(I64, getattr(isa, name))

        return types.int64(isa), generate

    return intrinsic(operation)


index_bits, lanes_of = _constant_of("index_bits"), _constant_of("lanes")  # known when a kernel is compiled


@intrinsic
def load(context: Any, isa: Any, address: Any) -> Any:
    """A register from memory."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(builder, values[1], ir.VectorType(I8, isa.lanes))

    return RegisterType(isa.lanes)(isa, ADDRESS), generate


@intrinsic
def store(context: Any, address: Any, register: Any) -> Any:
    """A register to memory."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _store(builder, values[0], values[1])

    return types.int64(ADDRESS, register), generate


@intrinsic
def load_i64(context: Any, address: Any) -> Any:
    """Eight bytes as an integer."""
    return types.int64(ADDRESS), lambda context, builder, signature, values: _load(builder, values[0], I64)


@intrinsic
def load_u32(context: Any, address: Any) -> Any:
    """Four bytes as an integer."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.zext(_load(builder, values[0], I32), I64)

    return types.int64(ADDRESS), generate


@intrinsic
def load_table(context: Any, isa: Any, address: Any) -> Any:
    """A table of ``2^index_bits`` bytes, as `look_up` wants it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if isa.index_bits == 6:
            return _load(builder, values[1], ir.VectorType(I8, 64))
        block = _load(builder, values[1], ir.VectorType(I8, 16))
        return _shuffle(builder, block, block, [i % 16 for i in range(isa.lanes)])

    return RegisterType(isa.lanes)(isa, ADDRESS), generate


@intrinsic
def look_up(context: Any, isa: Any, table: Any, index: Any) -> Any:
    """``table[index]`` in every byte lane."""
    name = {4: "llvm.x86.avx2.pshuf.b", 6: "llvm.x86.avx512.permvar.qi.512"}[isa.index_bits]
    if isa.index_bits == 4 and isa.lanes == 64:
        name = "llvm.x86.avx512.pshuf.b.512"

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _call(builder, name, values[1].type, values[1], values[2])

    return table(isa, table, index), generate


def _splat_of(element: Any) -> Any:
    def operation(context: Any, isa: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            lanes = isa.lanes * 8 // element.width
            return _bytes(builder, _splat(builder, builder.trunc(values[1], element), lanes))

        return RegisterType(isa.lanes)(isa, types.int64), generate

    return intrinsic(operation)


splat_u8, splat_i16, splat_i32 = _splat_of(I8), _splat_of(I16), _splat_of(I32)


def _shift_of(element: Any, left: bool) -> Any:
    def operation(context: Any, a: Any, bits: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            x = _view(builder, values[0], element)
            by = _splat(builder, builder.trunc(values[1], element), x.type.count)
            return _bytes(builder, builder.shl(x, by) if left else builder.lshr(x, by))

        return a(a, types.int64), generate

    return intrinsic(operation)


shift_left_i16, shift_right_u16 = _shift_of(I16, left=True), _shift_of(I16, left=False)
shift_left_i32 = _shift_of(I32, left=True)


# ----------------------------------------------------------------------------------------- converters: levels to codes


@intrinsic
def byte_codes(context: Any, isa: Any, sums: Any, address: Any) -> Any:
    """Codes of byte sums: a look-up in 256 bytes at `address` with AVX-512 VBMI, else a clip to its bytes 0 and 1."""

    def clip(builder: Any, values: Any) -> Any:
        low, high = (
            _splat(builder, _load(builder, builder.add(values[2], I64(i)), I8), isa.lanes) for i in (0, 1)
        )
        return _minmax("umin")(builder, _minmax("umax")(builder, values[1], low), high)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if isa.index_bits != 6:
            return clip(builder, values)
        kind = ir.VectorType(I8, 64)
        part = [_load(builder, builder.add(values[2], I64(64 * i)), kind) for i in range(4)]
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        lower = _call(builder, name, kind, part[0], values[1], part[1])
        upper = _call(builder, name, kind, part[2], values[1], part[3])
        return builder.select(builder.icmp_signed("<", values[1], ir.Constant(kind, [0] * 64)), upper, lower)

    return sums(isa, sums, ADDRESS), generate


@intrinsic
def affine_codes(context: Any, levels: Any, scale: Any, origin: Any) -> Any:
    """``rint(levels scale + origin)`` on int16 lanes in float32, half to even; must fit in int16.

    The product is rounded before the sum, not fused: that brings products an ulp beside a tie back onto it.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pairs = _view(builder, values[0], I32)
        sixteen = _splat(builder, I32(16), pairs.type.count)
        floats = ir.VectorType(F32, pairs.type.count)
        scales, origins = (_splat(builder, v, pairs.type.count) for v in values[1:])
        codes = []
        for half in (builder.ashr(builder.shl(pairs, sixteen), sixteen), builder.ashr(pairs, sixteen)):
            value = builder.fadd(builder.fmul(builder.sitofp(half, floats), scales), origins)
            codes.append(_round_to_i32(builder, value))
        high = builder.shl(codes[1], sixteen)
        low = builder.and_(codes[0], _splat(builder, I32(0xFFFF), pairs.type.count))
        return _bytes(builder, builder.or_(low, high))

    return levels(levels, types.float32, types.float32), generate


def _round_to_i32(builder: Any, value: Any) -> Any:
    """cvtps2dq: float32 to int32, half to even."""
    count = value.type.count
    if count == 16:
        kind = ir.VectorType(I32, 16)
        name = "llvm.x86.avx512.mask.cvtps2dq.512"
        everything = (ir.Constant(kind, [0] * 16), I16(-1), I32(4))  # 4: the rounding mode in force
        return _call(builder, name, kind, value, *everything)
    return _call(builder, "llvm.x86.avx.cvt.ps2dq.256", ir.VectorType(I32, count), value)


# ------------------------------------------------------------------------------------------------------ moving bytes


@intrinsic
def copy16(context: Any, source: Any, target: Any) -> Any:
    """Copy 16 bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _store(builder, values[1], _load(builder, values[0], ir.VectorType(I8, 16)))

    return types.int64(ADDRESS, ADDRESS), generate


@intrinsic
def transpose16(context: Any, source: Any, source_stride: Any, target: Any, target_stride: Any) -> Any:
    """Transpose 16 x 16 bytes: four perfect shuffles of the rows."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def at(base: Any, stride: Any, i: int) -> Any:
            return builder.add(base, builder.mul(stride, I64(i)))

        rows = [_load(builder, at(values[0], values[1], i), ir.VectorType(I8, 16)) for i in range(16)]
        for _ in range(4):
            pairs = [(rows[i], rows[i + 8]) for i in range(8)]
            rows = [
                _shuffle(builder, a, b, _unpack_order(16, 16, high))
                for a, b in pairs
                for high in (False, True)
            ]
        for i, row in enumerate(rows):
            _store(builder, at(values[2], values[3], i), row)
        return ir.Constant(I64, 0)

    return types.int64(ADDRESS, types.intp, ADDRESS, types.intp), generate


# ---------------------------------------------------------------------------------------------------- sixteen float32

_VF = ir.VectorType(F32, 16)


def _floats(emit: Callable[..., Any], operands: int) -> Any:
    """An operation on `operands` vectors of sixteen floats."""
    if operands == 1:

        def unary(context: Any, a: Any) -> Any:
            return FLOATS(FLOATS), lambda context, builder, signature, values: emit(builder, *values)

        return intrinsic(unary)

    def binary(context: Any, a: Any, b: Any) -> Any:
        return FLOATS(FLOATS, FLOATS), lambda context, builder, signature, values: emit(builder, *values)

    return intrinsic(binary)


add_floats = _floats(lambda builder, a, b: builder.fadd(a, b), 2)
multiply_floats = _floats(lambda builder, a, b: builder.fmul(a, b), 2)
min_floats = _floats(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b), 2)
max_floats = _floats(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b), 2)
round_floats = _floats(lambda builder, a: _call(builder, "llvm.rint.v16f32", _VF, a), 1)


@intrinsic
def multiply_add_floats(context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c``, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _call(builder, "llvm.fma.v16f32", _VF, *values)

    return FLOATS(FLOATS, FLOATS, FLOATS), generate


@intrinsic
def load_floats(context: Any, address: Any) -> Any:
    """Sixteen floats from memory."""
    return FLOATS(ADDRESS), lambda context, builder, signature, values: _load(builder, values[0], _VF)


@intrinsic
def splat_floats(context: Any, value: Any) -> Any:
    """The same float sixteen times."""
    return FLOATS(types.float32), lambda context, builder, signature, values: _splat(builder, values[0], 16)


@intrinsic
def add_to_int32(context: Any, address: Any, value: Any, shift: Any) -> Any:
    """Add sixteen whole floats, shifted left as integers, to int32 in memory."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.VectorType(I32, 16)
        whole = builder.shl(builder.fptosi(values[1], kind), _splat(builder, builder.trunc(values[2], I32), 16))
        return _store(builder, values[0], builder.add(_load(builder, values[0], kind), whole))

    return types.int64(ADDRESS, FLOATS, types.int64), generate
