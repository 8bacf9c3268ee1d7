"""y = (x - mean) / sqrt(... + eps) (w + offset) over each run of n elements; and the same of a sum of two operands.

Shapes: x, y [rows, runs, n] f32, w [turns, n] f32 for runs in turn; y may be x. With a sum: a, b, sum, y [rows, n]; sum may be a or b.
Programs: (rows runs / RUNS); of a sum (rows). BLOCK is at least n: an executor takes the least one compiled, so that a width always
has the same. Error: within (n / 32 + 8) 6e-8, relative to |x - mean|, and for layer norm to |mean| as well.
"""

import triton
import triton.language as tl


@triton.jit
def normalised(x, kept, w, n, eps, offset, LAYER: tl.constexpr):
    """The runs along axis 1 of x, which is zero outside of `kept`."""
    if LAYER:
        mean = tl.sum(x, 1) / n
        x = tl.where(kept, x - mean[:, None], 0.0)
    square = tl.sum(x * x, 1) / n
    scale = tl.div_rn(1.0, tl.sqrt_rn(square + eps))
    return x * scale[:, None] * (w + offset)


@triton.jit
def norm(rows, x, w, y, runs, turns, n, eps, offset, LAYER: tl.constexpr, RUNS: tl.constexpr, BLOCK: tl.constexpr):
    run = tl.program_id(0) * RUNS + tl.arange(0, RUNS)
    count = tl.load(rows) * runs
    if tl.program_id(0) * RUNS >= count:
        return
    column = tl.arange(0, BLOCK)
    kept = (run < count)[:, None] & (column < n)[None, :]
    at = run[:, None].to(tl.int64) * n + column[None, :]
    weight = tl.load(w + (run % turns)[:, None] * n + column[None, :], mask=kept, other=0.0)
    value = tl.load(x + at, mask=kept, other=0.0)
    tl.store(y + at, normalised(value, kept, weight, n, eps, offset, LAYER), mask=kept)


@triton.jit
def add_norm(rows, a, b, sum, w, y, n, eps, offset, LAYER: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.arange(0, BLOCK)[None, :]
    kept = column < n
    at = row.to(tl.int64) * n + column
    value = tl.load(a + at, mask=kept, other=0.0) + tl.load(b + at, mask=kept, other=0.0)
    tl.store(sum + at, value, mask=kept)
    weight = tl.load(w + column, mask=kept, other=0.0)
    tl.store(y + at, normalised(value, kept, weight, n, eps, offset, LAYER), mask=kept)
