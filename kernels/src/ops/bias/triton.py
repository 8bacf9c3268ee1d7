"""y = x + w over every row; w repeats along the row.

Shapes: x, y [rows, width] f32, w [n] f32 with n a divisor of width; y may be x. Programs: (rows, width / BLOCK). Error: one rounding.
"""

import triton
import triton.language as tl


@triton.jit
def bias(rows, x, w, y, width, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = column < width
    at = row.to(tl.int64) * width + column
    value = tl.load(x + at, mask=kept, other=0.0) + tl.load(w + column % n, mask=kept, other=0.0)
    tl.store(y + at, value, mask=kept)
