"""Neighbor search: count and fill.

Candidates are processed one vector at a time: ``_near`` compares WIDTH of them with the center, ``_keep`` packs those
within reach: by the packing store of AVX-512 (on AMD, packed in a register, then stored), or by a permutation of AVX2
with a table of the 256 masks. Other CPUs use a plain loop without a branch on the distance. All give the same list.
"""

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_name
from numba import config, prange, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from rxmdnn.kernels.cpu.compile import inline, kernel

WIDTH = 8  # lanes
_BITS, _INT, _REAL = ir.IntType(WIDTH), ir.IntType(32), ir.DoubleType()
_LANES = ir.VectorType(_INT, WIDTH)

_chosen = config.CPU_FEATURES  # type: ignore[attr-defined]  # NUMBA_CPU_FEATURES, or NUMBA_CPU_NAME=generic
_features = get_host_cpu_features() if _chosen is None else _chosen
AVX512 = {"+avx512f", "+avx512vl", "+avx512dq"} <= set(_features.split(","))
# AMD packs fast in registers, but its packing store is a microprogram of more than a hundred cycles
SLOW_PACKING_STORE = get_host_cpu_name().startswith("znver")
AVX2 = "+avx2" in _features.split(",")
_PACKING = [[b for b in range(WIDTH) if mask >> b & 1] for mask in range(2**WIDTH)]


def _splat(builder, value):
    """A vector of copies of a value."""
    vector = ir.VectorType(value.type, WIDTH)
    lane = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(lane, ir.Constant(vector, ir.Undefined), ir.Constant(_LANES, [0] * WIDTH))


def _load(builder, pointer, element, mask):
    """The elements at a pointer whose lane is set in the mask (None: all); no other memory is touched."""
    vector = ir.VectorType(element, WIDTH)
    if mask is None:
        value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        value.align = 8 if element is _REAL else 4
        return value
    load = builder.module.declare_intrinsic(
        f"llvm.masked.load.v{WIDTH}{'f64' if element is _REAL else 'i32'}.p0", (),
        ir.FunctionType(vector, [pointer.type, mask.type, vector]))
    return builder.call(load, [pointer, mask, ir.Constant(vector, None)])


def _row(context, builder, kind, array, row, k):
    """Pointer to array[row, k] (array[k] where row is None) of a C-contiguous array."""
    a = context.make_array(kind)(context, builder, array)
    if row is None:
        return builder.gep(a.data, [k])
    columns = cgutils.unpack_tuple(builder, a.shape)[1]
    return builder.gep(a.data, [builder.add(builder.mul(columns, ir.Constant(columns.type, row)), k)])


def _comparison(context, builder, signature, arguments, present):
    """Mask (int32) of the candidates k .. k + WIDTH within reach; ``present`` is None if all of them exist."""
    array, k, *center, reach_sq = arguments
    r_sq = None
    for axis in range(3):
        u = _load(builder, _row(context, builder, signature.args[0], array, axis, k), _REAL, present)
        d = builder.fsub(u, _splat(builder, center[axis]))
        d_sq = builder.fmul(d, d)
        r_sq = d_sq if r_sq is None else builder.fadd(r_sq, d_sq)
    inside = builder.fcmp_ordered("<", r_sq, _splat(builder, reach_sq))
    if present is not None:
        inside = builder.and_(inside, present)
    return builder.zext(builder.bitcast(inside, _BITS), _INT)


@intrinsic
def _near(typing, x_sorted, k, x, y, z, reach_sq):
    """Mask (int32): bit b is set if the sorted atom k + b is within reach of (x, y, z)."""

    def build(context, builder, signature, arguments):
        return _comparison(context, builder, signature, arguments, None)

    return types.int32(x_sorted, types.int64, *[types.float64] * 4), build


@intrinsic
def _near_end(typing, x_sorted, k, x, y, z, reach_sq, end):
    """The same for fewer than WIDTH atoms before ``end``; nothing beyond it is read."""

    def build(context, builder, signature, arguments):
        *others, end = arguments
        left = builder.trunc(builder.sub(end, others[1]), _INT)
        present = builder.icmp_signed("<", ir.Constant(_LANES, list(range(WIDTH))), _splat(builder, left))
        return _comparison(context, builder, signature, others, present)

    return types.int32(x_sorted, types.int64, *[types.float64] * 4, types.int64), build


@intrinsic
def _bits(typing, mask):
    """Number of bits set in a mask (int32), as int64."""

    def build(context, builder, signature, arguments):
        return builder.zext(builder.ctpop(arguments[0]), ir.IntType(64))

    return types.int64(types.int32), build


@intrinsic
def _keep(typing, order, k, mask, neighbor, at):
    """neighbor[at:] = order[k + b] for the bits b of the mask, ascending; nothing is written beyond the last."""

    def build(context, builder, signature, arguments):
        order, k, mask, neighbor, at = arguments
        chosen = builder.bitcast(builder.trunc(mask, _BITS), ir.VectorType(ir.IntType(1), WIDTH))
        value = _load(builder, _row(context, builder, signature.args[0], order, None, k), _INT, chosen)
        target = _row(context, builder, signature.args[3], neighbor, None, at)
        if AVX512 and not SLOW_PACKING_STORE:
            store = builder.module.declare_intrinsic(
                f"llvm.masked.compressstore.v{WIDTH}i32", (),
                ir.FunctionType(ir.VoidType(), [_LANES, target.type, chosen.type]))
            builder.call(store, [value, target, chosen])
            return context.get_dummy_value()
        if AVX512:
            pack = builder.module.declare_intrinsic(
                f"llvm.x86.avx512.mask.compress.v{WIDTH}i32", (),
                ir.FunctionType(_LANES, [_LANES, _LANES, chosen.type]))
            packed = builder.call(pack, [value, value, chosen])
        else:
            table = cgutils.global_constant(builder, "packing", ir.Constant(
                ir.ArrayType(_LANES, 2**WIDTH), [ir.Constant(_LANES, p + [0] * (WIDTH - len(p))) for p in _PACKING]))
            lanes = builder.load(builder.gep(table, [ir.Constant(_INT, 0), mask]))
            permute = builder.module.declare_intrinsic(
                "llvm.x86.avx2.permd", (), ir.FunctionType(_LANES, [_LANES, _LANES]))
            packed = builder.call(permute, [value, lanes])
        store = builder.module.declare_intrinsic(
            f"llvm.masked.store.v{WIDTH}i32.p0", (), ir.FunctionType(ir.VoidType(), [_LANES, target.type, chosen.type]))
        lane = ir.Constant(_LANES, list(range(WIDTH)))
        filled = builder.icmp_signed("<", lane, _splat(builder, builder.ctpop(mask)))
        builder.call(store, [packed, target, filled])
        return context.get_dummy_value()

    return types.void(order, types.int64, types.int32, neighbor, types.int64), build


@inline
def _hit(x_sorted, x, y, z, k, reach_sq):
    """1 if the sorted atom k is within reach of (x, y, z), else 0."""
    dx = x_sorted[0, k] - x
    dy = x_sorted[1, k] - y
    dz = x_sorted[2, k] - z
    return np.int64(dx * dx + dy * dy + dz * dz < reach_sq)


@inline
def _count_plain(x_sorted, a, b, x, y, z, reach_sq):
    found = np.int64(0)
    for k in range(np.uint64(a), np.uint64(b)):
        found += _hit(x_sorted, x, y, z, k, reach_sq)
    return found


@inline
def _count_vector(x_sorted, a, b, x, y, z, reach_sq):
    found, k = np.int64(0), a
    while k + WIDTH <= b:
        found += _bits(_near(x_sorted, k, x, y, z, reach_sq))
        k += WIDTH
    return found + _bits(_near_end(x_sorted, k, x, y, z, reach_sq, b))


@inline
def _fill_plain(x_sorted, order, a, b, x, y, z, reach_sq, neighbor, at, end):
    """Fill without a branch on the distance: each candidate is written; the next one overwrites it if it is too far."""
    for k in range(np.uint64(a), np.uint64(b)):
        if at < end:
            neighbor[at] = order[k]
            at += _hit(x_sorted, x, y, z, k, reach_sq)
    return at


@inline
def _fill_vector(x_sorted, order, a, b, x, y, z, reach_sq, neighbor, at, end):
    k = a
    while k + WIDTH <= b:
        mask = _near(x_sorted, k, x, y, z, reach_sq)
        _keep(order, k, mask, neighbor, at)
        at += _bits(mask)
        k += WIDTH
    mask = _near_end(x_sorted, k, x, y, z, reach_sq, b)
    _keep(order, k, mask, neighbor, at)
    return at + _bits(mask)


_count, _fill = (_count_vector, _fill_vector) if AVX512 or AVX2 else (_count_plain, _fill_plain)


@kernel
def count_neighbors(x_sorted, order, cell, cell_first, runs, n_owned, reach_sq, count):
    for slot in prange(len(cell)):
        i = order[slot]
        if i < n_owned:
            x, y, z = x_sorted[0, slot], x_sorted[1, slot], x_sorted[2, slot]
            found = np.int64(-1)
            for r in range(len(runs)):
                a, b = cell_first[cell[i] + runs[r, 0]], cell_first[cell[i] + runs[r, 1] + 1]
                found += _count(x_sorted, a, b, x, y, z, reach_sq)
            count[i] = found


@kernel
def fill_neighbors(x_sorted, order, cell, cell_first, runs, n_owned, reach_sq, first, neighbor):
    for slot in prange(len(cell)):
        i = order[slot]
        if i < n_owned:
            x, y, z = x_sorted[0, slot], x_sorted[1, slot], x_sorted[2, slot]
            at, end = first[i], first[i + 1]
            for r in range(len(runs)):
                a, b = cell_first[cell[i] + runs[r, 0]], cell_first[cell[i] + runs[r, 1] + 1]
                if a <= slot and slot < b:
                    at = _fill(x_sorted, order, a, slot, x, y, z, reach_sq, neighbor, at, end)
                    a = slot + 1
                at = _fill(x_sorted, order, a, b, x, y, z, reach_sq, neighbor, at, end)
