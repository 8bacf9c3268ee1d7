"""y = runs of a, each with its run of b behind it.

Shapes: a [rows, runs, a_run] f32, b [rows, runs, b_run] f32, y [rows, runs, a_run + b_run] f32. Programs: (rows, width of y / BLOCK).
Error: none.
"""

import triton
import triton.language as tl


@triton.jit
def concat(rows, a, b, y, width, a_run, b_run, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = column < width
    both = a_run + b_run
    number = column // both
    inside = column % both
    runs = width // both
    from_a = kept & (inside < a_run)
    from_b = kept & (inside >= a_run)
    a_at = row.to(tl.int64) * (runs * a_run) + number * a_run + inside
    b_at = row.to(tl.int64) * (runs * b_run) + number * b_run + inside - a_run
    value = tl.load(a + a_at, mask=from_a, other=0.0)
    value = tl.where(from_a, value, tl.load(b + b_at, mask=from_b, other=0.0))
    tl.store(y + row.to(tl.int64) * width + column, value, mask=kept)
