"""y = a + b or y = a b, pointwise.

Shapes: a, b, y [rows, width] f32; y may be a or b. Programs: (rows, width / BLOCK). Error: one rounding.
"""

import triton
import triton.language as tl


@triton.jit
def add(rows, a, b, y, width, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * width + column
    first = tl.load(a + at, mask=column < width, other=0.0)
    tl.store(y + at, first + tl.load(b + at, mask=column < width, other=0.0), mask=column < width)


@triton.jit
def multiply(rows, a, b, y, width, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * width + column
    first = tl.load(a + at, mask=column < width, other=0.0)
    tl.store(y + at, first * tl.load(b + at, mask=column < width, other=0.0), mask=column < width)
