"""y = of every block of a row of x, the elements begin..begin + run.

Shapes: x [rows, blocks block] f32, y [rows, blocks run] f32, not overlapping. Programs: (rows, width of y / BLOCK). Error: none.
"""

import triton
import triton.language as tl


@triton.jit
def slice_blocks(rows, x, y, x_width, y_width, block, begin, run, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = column < y_width
    source = column // run * block + begin + column % run
    value = tl.load(x + row.to(tl.int64) * x_width + source, mask=kept, other=0.0)
    tl.store(y + row.to(tl.int64) * y_width + column, value, mask=kept)
