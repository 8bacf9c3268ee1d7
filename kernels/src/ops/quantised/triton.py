"""y = x w^T with weights of 4 or 8 bits, in groups that share a scale.

Shapes: x [rows, k] f32, y [rows, n] f32; up to three weights that share x, as in ops/contract, with its `parts` and `arrived`.
- BITS 8: k a multiple of GROUP. w [n, k] i8, scales [k / GROUP, n] f32: a weight is w scale.
- BITS 4: k a multiple of 2 GROUP. w [n, k / 2] u8; in each run of 2 GROUP terms byte i has term i in its low half and term GROUP + i in its
  high half, each plus 8. scales as above.
- fp8: w [n, k] e4m3, scales [n / scale_rows, k / GROUP] f32: a weight is w scale. scale_rows is 1, or the side of a block, or n.
AT_ONCE divides part and k: terms that are read together.
Maths: x is rounded to bf16; a code is exact in bf16; products of a group are summed in f32, its sum is multiplied by the scale, and groups are
added in their order, in runs of `part` terms that are added in theirs: by one program (PARTED 1), or by the last of several (2). As in
ops/contract the weight is the left operand, so that any number of rows takes the same instruction along k.
Programs: contract_blocks as contract; fp8 (n / BLOCK_N, rows / BLOCK_R).
Lookups of such weights, gather_int4 and gather_int8, are those of ops/gather: ids [rows] i32, y [rows, k] f32, programs (rows, k / BLOCK), no error.
Error: that of rounding x to bf16, 2^-9 of |w x| a term, and of f32 sums.
"""

import triton
import triton.language as tl
from ops.contract.triton import all_runs, is_last, of_three, store_tile, tile_of, weight_of


@triton.jit
def exact(bits, zero):
    """bits - zero as bf16, for bits from 0 to 255 and a difference of at most 8 bits: 2^23 + bits is f32's own, no conversion needed."""
    wide = (bits.to(tl.int32) | 0x4B000000).to(tl.float32, bitcast=True)
    return (wide - (zero + 8388608.0)).to(tl.bfloat16)


@triton.jit
def rows_from(x, row, kept, k, first, COUNT: tl.constexpr):
    """COUNT terms of rows as the right operand [COUNT, rows]."""
    term = first + tl.arange(0, COUNT)[:, None]
    return tl.load(x + row * k + term, mask=kept & (term < k), other=0.0).to(tl.bfloat16)


@triton.jit
def store_rows(y, n, first_output, first_row, row, kept, sums, BLOCK_N: tl.constexpr):
    output = first_output + tl.arange(0, BLOCK_N)[:, None]
    tl.store(y + (first_row + row).to(tl.int64) * n + output, sums, mask=(output < n) & kept)


@triton.jit
def group_of_8(w, scales, x, row_at, row_kept, n, first, at, there, sums, GROUP: tl.constexpr):
    """sums plus a group of terms of 8 bits from `first` on. `at` [outputs] is where rows of w begin."""
    term = tl.arange(0, GROUP)
    codes = tl.load(w + first + at[:, None] + term[None, :])
    scale = tl.load(scales + first // GROUP * n + there)
    row = tl.load(x + first + row_at + term[:, None], mask=row_kept, other=0.0).to(tl.bfloat16)
    return sums + tl.dot(exact(codes.to(tl.uint8, bitcast=True) ^ 128, 128.0), row) * scale[:, None]


@triton.jit
def groups_of_4(w, scales, x, row_at, row_kept, n, first, at, there, sums, GROUP: tl.constexpr):
    """sums plus two groups of terms of 4 bits from `first` on, of which each byte has a term of either."""
    term = tl.arange(0, GROUP)
    codes = tl.load(w + first // 2 + at[:, None] + term[None, :])
    low_scale = tl.load(scales + first // GROUP * n + there)
    high_scale = tl.load(scales + (first // GROUP + 1) * n + there)
    low_row = tl.load(x + first + row_at + term[:, None], mask=row_kept, other=0.0).to(tl.bfloat16)
    high_row = tl.load(x + first + GROUP + row_at + term[:, None], mask=row_kept, other=0.0).to(tl.bfloat16)
    sums += tl.dot(exact(codes & 15, 8.0), low_row) * low_scale[:, None]
    return sums + tl.dot(exact(codes >> 4, 8.0), high_row) * high_scale[:, None]


@triton.jit
def groups(
    w, scales, x, row_at, row_kept, n, k, first_output, begin, end, sums,
    BITS: tl.constexpr, GROUP: tl.constexpr, AT_ONCE: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """sums [BLOCK_N, rows] plus the products of the terms begin..end, of which AT_ONCE are read together."""
    # An output that is not there is the last one once more, and is not stored.
    there = tl.minimum(first_output + tl.arange(0, BLOCK_N), n - 1)
    w += first_output.to(tl.int64) * (k * BITS // 8)
    at = (there - first_output) * (k * BITS // 8)
    STEP: tl.constexpr = GROUP * (8 // BITS)
    for many in tl.range(begin, end, AT_ONCE):
        for inside in tl.static_range(0, AT_ONCE, STEP):
            first = many + inside
            if BITS == 8:
                sums = group_of_8(w, scales, x, row_at, row_kept, n, first, at, there, sums, GROUP)
            else:
                sums = groups_of_4(w, scales, x, row_at, row_kept, n, first, at, there, sums, GROUP)
    return sums


@triton.jit
def contract_blocks(
    rows, x, w0, w1, w2, scales0, scales1, scales2, y0, y1, y2, parts, arrived, n0, n1, n2, k, part,
    BITS: tl.constexpr, GROUP: tl.constexpr, PARTED: tl.constexpr, AT_ONCE: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):  # fmt: skip
    output_tile, row_tile = tile_of(8)
    count = tl.load(rows)
    if row_tile * BLOCK_R >= count:
        return
    tile = row_tile * tl.num_programs(0) + output_tile
    which, output_tile = weight_of(output_tile, n0, n1, BLOCK_N)
    w, scales, y = of_three(which, w0, w1, w2), of_three(which, scales0, scales1, scales2), of_three(which, y0, y1, y2)
    n = of_three(which, n0, n1, n2)
    x += (row_tile * BLOCK_R).to(tl.int64) * k
    row = tl.arange(0, BLOCK_R)[None, :]
    row_kept = row < count - row_tile * BLOCK_R
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    if PARTED == 2:
        number = tl.program_id(2)
        begin = number * part
        own = groups(
            w, scales, x, row * k, row_kept, n, k, output_tile * BLOCK_N, begin, tl.minimum(begin + part, k), sums,
            BITS, GROUP, AT_ONCE, BLOCK_N,
        )  # fmt: skip
        runs = tl.num_programs(2)
        parts += tile.to(tl.int64) * runs * (BLOCK_N * BLOCK_R)
        if not is_last(own, parts, arrived + tile, number, runs, BLOCK_N, BLOCK_R):
            return
        sums = all_runs(parts, arrived + tile, runs, BLOCK_N, BLOCK_R)
    else:
        for begin in range(0, k, part):
            own = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
            sums += groups(
                w, scales, x, row * k, row_kept, n, k, output_tile * BLOCK_N, begin, tl.minimum(begin + part, k), own,
                BITS, GROUP, AT_ONCE, BLOCK_N,
            )  # fmt: skip
    store_tile(y, n, output_tile, row_tile, row_kept, sums, BLOCK_N, BLOCK_R)


@triton.jit
def fp8(rows, x, w, scales, y, n, k, scale_rows, GROUP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr):
    first_output, first_row = tl.program_id(0) * BLOCK_N, tl.program_id(1) * BLOCK_R
    count = tl.load(rows)
    if first_row >= count:
        return
    output = tl.arange(0, BLOCK_N)
    there = output < n - first_output
    w += first_output.to(tl.int64) * k
    x += first_row.to(tl.int64) * k
    row = tl.arange(0, BLOCK_R)[None, :]
    kept = row < count - first_row
    term = tl.arange(0, GROUP)[None, :]
    scale_at = (first_output + output) // scale_rows * tl.cdiv(k, GROUP)
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    for first in tl.range(0, k, GROUP):
        weight = tl.load(w + first + output[:, None] * k + term, mask=there[:, None] & (term < k - first), other=0.0)
        scale = tl.load(scales + scale_at + first // GROUP, mask=there, other=0.0)
        own = tl.dot(weight.to(tl.float32).to(tl.bfloat16), rows_from(x, row, kept, k, first, GROUP))
        sums += own * scale[:, None]
    store_rows(y, n, first_output, first_row, row, kept, sums, BLOCK_N)


@triton.jit
def gather_int8(rows, ids, w, scales, y, first, n, k, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    entry = tl.load(ids + row) - first
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    held = (entry >= 0) & (entry < n) & (column < k)
    code = tl.load(w + entry.to(tl.int64) * k + column, mask=held, other=0).to(tl.float32)
    scale = tl.load(scales + (column // GROUP).to(tl.int64) * n + entry, mask=held, other=0.0)
    tl.store(y + row.to(tl.int64) * k + column, code * scale, mask=column < k)


@triton.jit
def gather_int4(rows, ids, w, scales, y, first, n, k, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    entry = tl.load(ids + row) - first
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    held = (entry >= 0) & (entry < n) & (column < k)
    byte = column // (2 * GROUP) * GROUP + column % GROUP
    both = tl.load(w + entry.to(tl.int64) * (k // 2) + byte, mask=held, other=0).to(tl.int32)
    scale = tl.load(scales + (column // GROUP).to(tl.int64) * n + entry, mask=held, other=0.0)
    code = ((both >> (column // GROUP % 2 * 4)) & 15).to(tl.float32)
    tl.store(y + row.to(tl.int64) * k + column, (code - 8.0) * scale, mask=column < k)
