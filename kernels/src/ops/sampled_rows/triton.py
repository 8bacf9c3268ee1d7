"""y[i] = x[sampled[i]].

Shapes: x [rows, width] f32, sampled [count] i32, y [count, width] f32, not overlapping. Programs: (count, width / BLOCK). Error: none.
"""

import triton
import triton.language as tl


@triton.jit
def sampled_rows(count, sampled, x, y, width, BLOCK: tl.constexpr):
    number = tl.program_id(0)
    if number >= tl.load(count):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row = tl.load(sampled + number).to(tl.int64)
    value = tl.load(x + row * width + column, mask=column < width, other=0.0)
    tl.store(y + number.to(tl.int64) * width + column, value, mask=column < width)
