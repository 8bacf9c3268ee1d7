"""y = x w^T, with sums that do not depend on the rows beside a row, for up to three weights that share x.

Shapes: x [rows, k] f32, or rounded to the weights' type; w0, w1, w2 [n0, k], [n1, k], [n2, k] f32, bf16 or f16, those that are not there of no
rows; y0, y1, y2 [rows, n] f32. parts f32 and arrived i32 are room to work in: [tiles, k / part, BLOCK_N BLOCK_R], and [tiles], zero before
and after.
Maths: x is rounded to the weight's type; products are summed in f32, BLOCK_K terms after the other in the order of k. The weight stands on
the left of the dot, so that any number of rows takes the same instruction along k: of a row's results only the columns of the
instruction differ. Sums are made in runs of `part` terms, and the runs are added in their order. PARTED 0 has one run, 1 takes one run after the
other in a program, 2 has a program for each run, of which the last to arrive adds them all: the same additions.
EVEN promises that BLOCK_K divides k and part. EARLY terms of each row of a run are asked for while the kernel before this one still runs:
weights are all that may be touched by then.
Programs: contract (sum of n / BLOCK_N, rows / BLOCK_R, with PARTED 2 k / part), round_rows (rows, k / BLOCK).
Error: that of f32 sums over k terms, given the rounded x.
"""

import triton
import triton.language as tl


@triton.jit
def sums_of_run(
    w, x, row_at, row_kept, k, outputs, begin, end, sums, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, EVEN: tl.constexpr
):
    """sums [BLOCK_N, rows] plus the products of the terms begin..end. w is where the tile's first output begins, of which there are
    `outputs`: within a tile offsets are i32. Rows are `row_at` [1, rows] elements behind x."""
    output = tl.arange(0, BLOCK_N)[:, None]
    term = tl.arange(0, BLOCK_K)
    # An output that is not there is the last one once more, and is not stored.
    left_at = tl.minimum(output, outputs - 1) * k + term[None, :]
    right_at = row_at + term[:, None]
    for first in tl.range(begin, end, BLOCK_K):
        if EVEN:
            left = tl.load(w + first + left_at)
            right = tl.load(x + first + right_at, mask=row_kept, other=0.0).to(w.dtype.element_ty)
        else:
            left = tl.load(w + first + left_at, mask=(term < end - first)[None, :], other=0.0)
            right_kept = row_kept & (term < end - first)[:, None]
            right = tl.load(x + first + right_at, mask=right_kept, other=0.0).to(w.dtype.element_ty)
        sums = tl.dot(left, right, sums, input_precision="ieee")
    return sums


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
def of_three(which, first, second, third):
    """The one of three by number."""
    return tl.where(which == 2, third, tl.where(which == 1, second, first))


@triton.jit
def weight_of(output_tile, n0, n1, BLOCK_N: tl.constexpr):
    """Which of the weights a tile of outputs is of, and the tile's number within it."""
    second = tl.cdiv(n0, BLOCK_N)
    third = second + tl.cdiv(n1, BLOCK_N)
    which = (output_tile >= second).to(tl.int32) + (output_tile >= third).to(tl.int32)
    return which, output_tile - of_three(which, 0, second, third)


@triton.jit
def is_last(own, parts, arrived, number, runs, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr):
    """Stores a run's sums; whether this program is the last of its tile to have done so. `parts` and `arrived` are the tile's."""
    at = tl.arange(0, BLOCK_N)[:, None] * BLOCK_R + tl.arange(0, BLOCK_R)[None, :]
    tl.store(parts + number * (BLOCK_N * BLOCK_R) + at, own)
    # What the other threads stored comes before the arrival, and the last to arrive sees all of it.
    tl.debug_barrier()
    return tl.atomic_add(arrived, 1, sem="acq_rel") == runs - 1


@triton.jit
def all_runs(parts, arrived, runs, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr):
    """The sums of the runs of a tile in their order; nothing has arrived afterwards."""
    tl.debug_barrier()
    at = tl.arange(0, BLOCK_N)[:, None] * BLOCK_R + tl.arange(0, BLOCK_R)[None, :]
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    for number in range(runs):
        sums += tl.load(parts + number * (BLOCK_N * BLOCK_R) + at, cache_modifier=".cg")
    tl.store(arrived, 0)
    return sums


@triton.jit
def store_tile(y, n, output_tile, row_tile, row_kept, sums, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr):
    """Stores a tile of results."""
    output = output_tile * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    y += (row_tile * BLOCK_R).to(tl.int64) * n
    tl.store(y + tl.arange(0, BLOCK_R)[None, :] * n + output, sums, mask=(output < n) & row_kept)


@triton.jit
def ask_for(w, n, k, first_output, begin, end, EARLY: tl.constexpr, BLOCK_N: tl.constexpr):
    """Has the second-level cache fetch the lines of a tile's first terms."""
    # Elements of a line of 128 bytes.
    LINE: tl.constexpr = 1024 // w.dtype.element_ty.primitive_bitwidth
    output = tl.minimum(first_output + tl.arange(0, BLOCK_N), n - 1)[:, None]
    term = tl.minimum(begin + tl.arange(0, EARLY // LINE)[None, :] * LINE, end - 1)
    at = w + output.to(tl.int64) * k + term
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; // $0", "=r,l", [at.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1
    )


@triton.jit
def contract(
    rows, x, w0, w1, w2, y0, y1, y2, parts, arrived, n0, n1, n2, k, part,
    PARTED: tl.constexpr, EVEN: tl.constexpr, EARLY: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    output_tile, row_tile = tile_of(8)
    tile = row_tile * tl.num_programs(0) + output_tile
    which, output_tile = weight_of(output_tile, n0, n1, BLOCK_N)
    w, y, n = of_three(which, w0, w1, w2), of_three(which, y0, y1, y2), of_three(which, n0, n1, n2)
    if EARLY > 0:
        begin = tl.program_id(2) * part
        ask_for(w, n, k, output_tile * BLOCK_N, begin, tl.minimum(begin + part, k), EARLY, BLOCK_N)
    # The kernel begins here.
    count = tl.load(rows)
    if row_tile * BLOCK_R >= count:
        return
    x += (row_tile * BLOCK_R).to(tl.int64) * k
    w += (output_tile * BLOCK_N).to(tl.int64) * k
    outputs = n - output_tile * BLOCK_N
    row = tl.arange(0, BLOCK_R)[None, :]
    row_kept = row < count - row_tile * BLOCK_R
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    if PARTED == 0:
        sums = sums_of_run(w, x, row * k, row_kept, k, outputs, 0, k, sums, BLOCK_N, BLOCK_K, EVEN)
    if PARTED == 1:
        for begin in range(0, k, part):
            own = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
            end = tl.minimum(begin + part, k)
            sums += sums_of_run(w, x, row * k, row_kept, k, outputs, begin, end, own, BLOCK_N, BLOCK_K, EVEN)
    if PARTED == 2:
        number = tl.program_id(2)
        begin = number * part
        end = tl.minimum(begin + part, k)
        own = sums_of_run(w, x, row * k, row_kept, k, outputs, begin, end, sums, BLOCK_N, BLOCK_K, EVEN)
        runs = tl.num_programs(2)
        parts += tile.to(tl.int64) * runs * (BLOCK_N * BLOCK_R)
        if not is_last(own, parts, arrived + tile, number, runs, BLOCK_N, BLOCK_R):
            return
        sums = all_runs(parts, arrived + tile, runs, BLOCK_N, BLOCK_R)
    store_tile(y, n, output_tile, row_tile, row_kept, sums, BLOCK_N, BLOCK_R)


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
