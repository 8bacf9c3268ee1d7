"""y = x w^T, with sums that do not depend on the rows beside a row.

Shapes: x [rows, k] f32, or rounded to the weight's type; w [n, k] f32, bf16 or f16; y [rows, n] f32.
Maths: x is rounded to the weight's type; products are summed in f32, BLOCK_K terms after the other in the order of k. The weight stands on
the left of the dot, so that any number of rows takes the same instruction along k: of a row's results only the columns of the
instruction differ. Where sums have parts, terms are summed in runs of `part` terms, and the runs are added in their order, by
`merge_parts` or in the program itself: the same additions.
Programs: contract (n / BLOCK_N, rows / BLOCK_R), contract_part (n / BLOCK_N, rows / BLOCK_R, parts), merge_parts (rows, n / BLOCK),
round_rows (rows, k / BLOCK).
Error: that of f32 sums over k terms, given the rounded x.
"""

import triton
import triton.language as tl


@triton.jit
def sums_of_run(w, x, row_at, row_kept, k, outputs, begin, end, sums, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """sums [BLOCK_N, rows] plus the products of the terms begin..end. w is where the tile's first output begins, of which there are
    `outputs`: within a tile offsets are i32. Rows are `row_at` [1, rows] elements behind x."""
    output = tl.arange(0, BLOCK_N)[:, None]
    term = tl.arange(0, BLOCK_K)
    left_at = output * k + term[None, :]
    right_at = row_at + term[:, None]
    for first in tl.range(begin, end, BLOCK_K):
        left_kept = (output < outputs) & (term < end - first)[None, :]
        right_kept = row_kept & (term < end - first)[:, None]
        left = tl.load(w + first + left_at, mask=left_kept, other=0.0)
        right = tl.load(x + first + right_at, mask=right_kept, other=0.0).to(w.dtype.element_ty)
        sums = tl.dot(left, right, sums, input_precision="ieee")
    return sums


@triton.jit
def store_tile(y, n, output_tile, row_tile, count, sums, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr):
    output = output_tile * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    row = row_tile * BLOCK_R + tl.arange(0, BLOCK_R)[None, :]
    tl.store(y + row.to(tl.int64) * n + output, sums, mask=(output < n) & (row < count))


@triton.jit
def tile_of(GROUP: tl.constexpr):
    """This program's tile of outputs and of rows: GROUP tiles of rows pass over a tile of outputs together, which stays in the cache."""
    outputs = tl.num_programs(0)
    rows = tl.num_programs(1)
    number = tl.program_id(1) * outputs + tl.program_id(0)
    band = number // (GROUP * outputs)
    first = band * GROUP
    height = tl.minimum(rows - first, GROUP)
    inside = number - first * outputs
    return inside // height, first + inside % height


@triton.jit
def contract(rows, x, w, y, n, k, part, PARTED: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr):
    output_tile, row_tile = tile_of(8)
    count = tl.load(rows)
    if row_tile * BLOCK_R >= count:
        return
    x += (row_tile * BLOCK_R).to(tl.int64) * k
    w += (output_tile * BLOCK_N).to(tl.int64) * k
    outputs = n - output_tile * BLOCK_N
    row = tl.arange(0, BLOCK_R)[None, :]
    row_kept = row < count - row_tile * BLOCK_R
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    if PARTED:
        for begin in range(0, k, part):
            own = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
            end = tl.minimum(begin + part, k)
            sums += sums_of_run(w, x, row * k, row_kept, k, outputs, begin, end, own, BLOCK_N, BLOCK_K)
    else:
        sums = sums_of_run(w, x, row * k, row_kept, k, outputs, 0, k, sums, BLOCK_N, BLOCK_K)
    store_tile(y, n, output_tile, row_tile, count, sums, BLOCK_N, BLOCK_R)


@triton.jit
def contract_part(rows, x, w, parts, apart, n, k, part, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr):
    """parts [k / part, rows, n], `apart` elements from one to the next."""
    output_tile, row_tile = tl.program_id(0), tl.program_id(1)
    count = tl.load(rows)
    if row_tile * BLOCK_R >= count:
        return
    x += (row_tile * BLOCK_R).to(tl.int64) * k
    w += (output_tile * BLOCK_N).to(tl.int64) * k
    number = tl.program_id(2)
    begin = number * part
    end = tl.minimum(begin + part, k)
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    outputs = n - output_tile * BLOCK_N
    row = tl.arange(0, BLOCK_R)[None, :]
    row_kept = row < count - row_tile * BLOCK_R
    sums = sums_of_run(w, x, row * k, row_kept, k, outputs, begin, end, sums, BLOCK_N, BLOCK_K)
    store_tile(parts + number * apart, n, output_tile, row_tile, count, sums, BLOCK_N, BLOCK_R)


@triton.jit
def merge_parts(rows, parts, y, apart, count, n, BLOCK: tl.constexpr):
    """y = 0 + the parts in their order."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * n + column
    sums = tl.zeros([BLOCK], tl.float32)
    for number in range(count):
        sums += tl.load(parts + number * apart + at, mask=column < n, other=0.0)
    tl.store(y + at, sums, mask=column < n)


@triton.jit
def round_rows(rows, x, y, width, BLOCK: tl.constexpr):
    """y = x, rounded to the type of y: once for all weights that share x."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * width + column
    value = tl.load(x + at, mask=column < width, other=0.0)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=column < width)
