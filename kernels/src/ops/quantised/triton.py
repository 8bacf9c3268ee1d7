"""y = x w^T with weights of 4 or 8 bits, for few rows: a step reads each weight once.

Shapes: x [rows, k] f32, y [rows, n] f32.
- int4: k a multiple of 2 H and of GROUP. w [n, k / 2] u8; in each run of 2 H terms, H = min(GROUP, 64), byte i has term i in its low half and term H + i in its high half.
  scales [k / GROUP, n] f32 and zeros [k / GROUP, n] u8: a weight is (w - zero) scale.
- int8: k a multiple of GROUP. w [n, k] i8, scales [k / GROUP, n] f32: a weight is w scale.
- fp8: w [n, k] e4m3, scales [n / scale_rows, k / GROUP] f32: a weight is w scale. scale_rows is 1, or the side of a block, or n.
Maths: x is rounded to bf16; w less its zero is exact in bf16; products of a group are summed in f32, its sum is multiplied by the scale, and groups are
added in their order. As in ops/contract the weight is the left operand, so that any number of rows takes the
same instruction along k.
Programs: (n / BLOCK_N, rows / BLOCK_R).
Lookups of such weights, gather_int4 and gather_int8, are those of ops/gather: ids [rows] i32, y [rows, k] f32, programs (rows, k / BLOCK), no error.
Error: that of rounding x to bf16, 2^-9 of |w x| a term, and of f32 sums.
"""

import triton
import triton.language as tl


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
def int4(rows, x, w, scales, zeros, y, n, k, GROUP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr):
    first_output, first_row = tl.program_id(0) * BLOCK_N, tl.program_id(1) * BLOCK_R
    count = tl.load(rows)
    if first_row >= count:
        return
    HALF: tl.constexpr = 32 if GROUP == 32 else 64
    output = tl.arange(0, BLOCK_N)
    there = output < n - first_output
    w += first_output.to(tl.int64) * (k // 2)
    x += first_row.to(tl.int64) * k
    row = tl.arange(0, BLOCK_R)[None, :]
    kept = row < count - first_row
    byte_at = output[:, None] * (k // 2) + tl.arange(0, HALF)[None, :]
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    for first in tl.range(0, k, 2 * HALF):
        bytes = tl.load(w + first // 2 + byte_at, mask=there[:, None], other=0)
        at = first // GROUP * n + first_output + output
        scale = tl.load(scales + at, mask=there, other=0.0)
        zero = tl.load(zeros + at, mask=there, other=0).to(tl.float32)
        low = exact(bytes & 15, zero[:, None])
        own = tl.dot(low, rows_from(x, row, kept, k, first, HALF))
        if GROUP == HALF:
            sums += own * scale[:, None]
            at += n
            scale = tl.load(scales + at, mask=there, other=0.0)
            zero = tl.load(zeros + at, mask=there, other=0).to(tl.float32)
            own = tl.dot(exact(bytes >> 4, zero[:, None]), rows_from(x, row, kept, k, first + HALF, HALF))
        else:
            own = tl.dot(exact(bytes >> 4, zero[:, None]), rows_from(x, row, kept, k, first + HALF, HALF), own)
        sums += own * scale[:, None]
    store_rows(y, n, first_output, first_row, row, kept, sums, BLOCK_N)


@triton.jit
def int8(rows, x, w, scales, y, n, k, GROUP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr):
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
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    for first in tl.range(0, k, GROUP):
        weight = tl.load(w + first + output[:, None] * k + term, mask=there[:, None], other=0)
        scale = tl.load(scales + first // GROUP * n + first_output + output, mask=there, other=0.0)
        weight = exact(weight.to(tl.uint8, bitcast=True) ^ 128, 128.0)
        own = tl.dot(weight, rows_from(x, row, kept, k, first, GROUP))
        sums += own * scale[:, None]
    store_rows(y, n, first_output, first_row, row, kept, sums, BLOCK_N)


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
def gather_int4(rows, ids, w, scales, zeros, y, first, n, k, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    HALF: tl.constexpr = 32 if GROUP == 32 else 64
    entry = tl.load(ids + row) - first
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    held = (entry >= 0) & (entry < n) & (column < k)
    byte = column // (2 * HALF) * HALF + column % HALF
    both = tl.load(w + entry.to(tl.int64) * (k // 2) + byte, mask=held, other=0).to(tl.int32)
    at = (column // GROUP).to(tl.int64) * n + entry
    scale = tl.load(scales + at, mask=held, other=0.0)
    zero = tl.load(zeros + at, mask=held, other=0).to(tl.float32)
    code = ((both >> (column // HALF % 2 * 4)) & 15).to(tl.float32)
    tl.store(y + row.to(tl.int64) * k + column, (code - zero) * scale, mask=column < k)
