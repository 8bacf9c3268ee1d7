"""y = several matrices side by side: one of them into its columns.

Shapes: x [rows, width] f32, y [rows, y_width] f32, of which the columns begin..begin + width are written. One launch a matrix. Programs:
(rows, width / BLOCK). Error: none.
"""

import triton
import triton.language as tl


@triton.jit
def columns(rows, x, y, width, y_width, begin, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + row.to(tl.int64) * width + column, mask=column < width, other=0.0)
    tl.store(y + row.to(tl.int64) * y_width + begin + column, value, mask=column < width)
