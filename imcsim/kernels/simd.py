# mypy: disable-error-code="no-untyped-call,attr-defined,import-untyped"
"""SIMD registers inside numba: values of 32 or 64 bytes and one function per machine instruction.

numba has no vector types, but lets a library add types and emit LLVM code for them; that is all this file
does. A kernel takes an `InstructionSet` as its first argument and numba compiles it once per set, so AVX2 and
AVX-512 share one source. Registers are untyped bits, as in C's ``__m256i``; the name of an operation says how
it reads them (``u8``, ``i16``, ``i32``).

Addresses are plain integers (``array.ctypes.data`` plus an offset in bytes): nothing here checks a bound.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
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
        float_registers: tables of floats are looked up in registers too, which pays where permuting is as
            fast as loading.
    """

    name: str
    lanes: int
    index_bits: int
    float_registers: bool = False


AVX2 = InstructionSet("avx2", lanes=32, index_bits=4)
AVX512 = InstructionSet("avx512", lanes=64, index_bits=4)
AVX512_VBMI = InstructionSet("avx512vbmi", lanes=64, index_bits=6)
AVX512_PERMUTE = InstructionSet("avx512vbmi, floats permuted", lanes=64, index_bits=6, float_registers=True)


def available() -> list[InstructionSet]:
    """The sets that this processor has, best first; empty without AVX2."""
    has = llvmlite.binding.get_host_cpu_features()
    out = []
    if has.get("avx2") and has.get("fma"):
        out.append(AVX2)
        if has.get("avx512bw") and has.get("avx512vl"):
            out.insert(0, AVX512)
            if has.get("avx512vbmi"):
                permutes = llvmlite.binding.get_host_cpu_name().startswith("znver")
                out = [AVX512_VBMI, AVX512_PERMUTE, *out]
                out = [AVX512_PERMUTE, AVX512_VBMI, *out[2:]] if permutes else out
    return out


# ------------------------------------------------------------------------------- decorators with types


def instruction(operation: Callable[..., Any]) -> Any:
    """Let kernels call what `operation(context, *types)` emits; it returns a signature and a generator."""
    return intrinsic(operation)


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


# ----------------------------------------------------------------------------------------------- types


class SetType(types.Type):
    """The type of an `InstructionSet` argument; the value itself carries nothing."""

    def __init__(self, lanes: int, index_bits: int) -> None:
        self.lanes, self.index_bits = lanes, index_bits
        super().__init__(name=f"InstructionSet({lanes}, {index_bits})")


class RegisterType(types.Type):
    """A vector register of `lanes` bytes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Register({lanes})")


class FloatsType(types.Type):
    """Sixteen float32: one AVX-512 register, two of AVX2."""

    def __init__(self) -> None:
        super().__init__(name="Floats16")


FLOATS = FloatsType()
ADDRESS = types.intp
register_model(SetType)(models.OpaqueModel)


@register_model(RegisterType)
class _RegisterModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: RegisterType) -> None:
        super().__init__(manager, kind, ir.VectorType(I8, kind.lanes))


@register_model(FloatsType)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: FloatsType) -> None:
        super().__init__(manager, kind, ir.VectorType(F32, 16))


@typeof_impl.register(InstructionSet)
def _type_of(value: InstructionSet, context: Any) -> SetType:
    return _set_type(value)


@lru_cache
def _set_type(value: InstructionSet) -> SetType:
    """Made once: numba asks at every call of a kernel."""
    return SetType(value.lanes, value.index_bits)


@unbox(SetType)
def _unbox(kind: SetType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


# ------------------------------------------------------------------------------ helpers that emit LLVM


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """An address as a pointer to `kind`."""
    return builder.inttoptr(address, kind.as_pointer())


def emit_load(builder: Any, address: Any, kind: Any) -> Any:
    """Load a value that may lie anywhere."""
    value = builder.load(pointer(builder, address, kind))
    value.align = 1
    return value


def emit_store(builder: Any, address: Any, value: Any) -> Any:
    """Store a value anywhere; gives the 0 that instructions without a result return."""
    builder.store(value, pointer(builder, address, value.type)).align = 1
    return ir.Constant(I64, 0)


def emit_splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector of equal lanes."""
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def emit_shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    """Lanes of two vectors in a new order."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))


def emit_call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call an LLVM intrinsic."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _width(element: Any) -> int:
    return 32 if element == F32 else int(element.width)


def _bits(value: Any) -> int:
    return int(value.type.count) * _width(value.type.element)


def view(builder: Any, value: Any, element: Any) -> Any:
    """The same bits as a vector of another element."""
    return builder.bitcast(value, ir.VectorType(element, _bits(value) // _width(element)))


def as_bytes(builder: Any, value: Any) -> Any:
    """The same bits as bytes, the form in which registers are passed around."""
    return view(builder, value, I8)


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
            left, right = (view(builder, v, element) for v in values)
            return as_bytes(builder, emit(builder, left, right))

        return a(a, b), generate

    return instruction(operation)


def emit_minmax(name: str) -> Callable[[Any, Any, Any], Any]:
    """The smaller or larger of two lanes: umin, umax, smin or smax."""

    def emit(builder: Any, a: Any, b: Any) -> Any:
        return emit_call(builder, f"llvm.{name}.v{a.type.count}i{a.type.element.width}", a.type, a, b)

    return emit


def _pairwise(narrow: str, wide: str, result: Any) -> Callable[[Any, Any, Any], Any]:
    """The instructions pmaddubsw and pmaddwd: multiply, then add neighbours."""

    def emit(builder: Any, a: Any, b: Any) -> Any:
        name = f"llvm.x86.avx512.{wide}.512" if _bits(a) == 512 else f"llvm.x86.avx2.{narrow}"
        return emit_call(builder, name, ir.VectorType(result, a.type.count // 2), a, b)

    return emit


def _unpack(per_block: int, high: bool) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, a, b: emit_shuffle(builder, a, b, _unpack_order(a.type.count, per_block, high))


# ----------------------------------------------------------- operations on two registers, lane by lane

add_u8 = _binary(I8, lambda builder, a, b: builder.add(a, b))
add_i16 = _binary(I16, lambda builder, a, b: builder.add(a, b))
add_i32 = _binary(I32, lambda builder, a, b: builder.add(a, b))
or_bits = _binary(I64, lambda builder, a, b: builder.or_(a, b))
and_bits = _binary(I64, lambda builder, a, b: builder.and_(a, b))
min_i16, max_i16 = _binary(I16, emit_minmax("smin")), _binary(I16, emit_minmax("smax"))
unpack_low_u8, unpack_high_u8 = _binary(I8, _unpack(16, False)), _binary(I8, _unpack(16, True))
unpack_low_i16, unpack_high_i16 = _binary(I16, _unpack(8, False)), _binary(I16, _unpack(8, True))
multiply_add_i16 = _binary(I16, _pairwise("pmadd.wd", "pmaddw.d", I32))  # i16 x i16 -> sums of two, i32
multiply_add_u8 = _binary(I8, _pairwise("pmadd.ub.sw", "pmaddubs.w", I16))  # u8 x i8 -> sums of two, i16


# ----------------------------------------------------------------------------------- memory, constants


def _constant_of(name: str) -> Any:
    def operation(context: Any, isa: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return ir.Constant(I64, getattr(isa, name))

        return types.int64(isa), generate

    return instruction(operation)


index_bits, lanes_of = _constant_of("index_bits"), _constant_of("lanes")  # known when a kernel is compiled


@instruction
def load(context: Any, isa: Any, address: Any) -> Any:
    """A register from memory."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit_load(builder, values[1], ir.VectorType(I8, isa.lanes))

    return RegisterType(isa.lanes)(isa, ADDRESS), generate


@instruction
def store(context: Any, address: Any, register: Any) -> Any:
    """A register to memory."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit_store(builder, values[0], values[1])

    return types.int64(ADDRESS, register), generate


@instruction
def load_i64(context: Any, address: Any) -> Any:
    """Eight bytes as an integer."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit_load(builder, values[0], I64)

    return types.int64(ADDRESS), generate


@instruction
def load_u32(context: Any, address: Any) -> Any:
    """Four bytes as an integer."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.zext(emit_load(builder, values[0], I32), I64)

    return types.int64(ADDRESS), generate


@instruction
def load_table(context: Any, isa: Any, address: Any) -> Any:
    """A table of ``2^index_bits`` bytes, as `look_up` wants it."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if isa.index_bits == 6:
            return emit_load(builder, values[1], ir.VectorType(I8, 64))
        block = emit_load(builder, values[1], ir.VectorType(I8, 16))
        return emit_shuffle(builder, block, block, [i % 16 for i in range(isa.lanes)])

    return RegisterType(isa.lanes)(isa, ADDRESS), generate


@instruction
def look_up(context: Any, isa: Any, table: Any, index: Any) -> Any:
    """``table[index]`` in every byte lane."""
    name = {4: "llvm.x86.avx2.pshuf.b", 6: "llvm.x86.avx512.permvar.qi.512"}[isa.index_bits]
    if isa.index_bits == 4 and isa.lanes == 64:
        name = "llvm.x86.avx512.pshuf.b.512"

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit_call(builder, name, values[1].type, values[1], values[2])

    return table(isa, table, index), generate


def _splat_of(element: Any) -> Any:
    def operation(context: Any, isa: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            lanes = isa.lanes * 8 // element.width
            return as_bytes(builder, emit_splat(builder, builder.trunc(values[1], element), lanes))

        return RegisterType(isa.lanes)(isa, types.int64), generate

    return instruction(operation)


splat_u8, splat_i16, splat_i32 = _splat_of(I8), _splat_of(I16), _splat_of(I32)


def _shift_of(element: Any, left: bool) -> Any:
    def operation(context: Any, a: Any, bits: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            x = view(builder, values[0], element)
            by = emit_splat(builder, builder.trunc(values[1], element), x.type.count)
            return as_bytes(builder, builder.shl(x, by) if left else builder.lshr(x, by))

        return a(a, types.int64), generate

    return instruction(operation)


shift_left_i16, shift_right_u16 = _shift_of(I16, left=True), _shift_of(I16, left=False)
shift_left_i32 = _shift_of(I32, left=True)


# ---------------------------------------------------------------------------------------- moving bytes


@instruction
def copy16(context: Any, source: Any, target: Any) -> Any:
    """Copy 16 bytes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return emit_store(builder, values[1], emit_load(builder, values[0], ir.VectorType(I8, 16)))

    return types.int64(ADDRESS, ADDRESS), generate


@instruction
def transpose16(context: Any, source: Any, source_stride: Any, target: Any, target_stride: Any) -> Any:
    """Transpose 16 x 16 bytes: four perfect shuffles of the rows."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def at(base: Any, stride: Any, i: int) -> Any:
            return builder.add(base, builder.mul(stride, I64(i)))

        rows = [emit_load(builder, at(values[0], values[1], i), ir.VectorType(I8, 16)) for i in range(16)]
        for _ in range(4):
            pairs = [(rows[i], rows[i + 8]) for i in range(8)]
            rows = [
                emit_shuffle(builder, a, b, _unpack_order(16, 16, high))
                for a, b in pairs
                for high in (False, True)
            ]
        for i, row in enumerate(rows):
            emit_store(builder, at(values[2], values[3], i), row)
        return ir.Constant(I64, 0)

    return types.int64(ADDRESS, types.intp, ADDRESS, types.intp), generate
