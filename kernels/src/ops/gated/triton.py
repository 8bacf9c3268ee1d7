"""y = f(gate) up, pointwise.

Shapes: gate, up, y [rows, width] f32; y may be gate or up. Programs: (rows, width / BLOCK).
Maths and error: those of ops/unary, times up.
"""

import triton
import triton.language as tl
from ops.unary.triton import function


@triton.jit
def gated(rows, gate, up, y, width, f, first, second, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * width + column
    value = tl.load(gate + at, mask=column < width, other=0.0)
    other = tl.load(up + at, mask=column < width, other=0.0)
    tl.store(y + at, function(value, f, first, second) * other, mask=column < width)
