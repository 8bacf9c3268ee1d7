"""y = the sum of PARTS parts in a binary tree over their order: the first half, a power of two of them, plus the others.

Shapes: parts [PARTS, rows, width] f32, `apart` elements from one to the next, y [rows, width] f32, which may be the first part.
Programs: (rows, width / BLOCK). Error: one rounding a level.
"""

import triton
import triton.language as tl


@triton.jit
def branch(parts, apart, at, kept, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """The sum of parts FIRST..FIRST + COUNT."""
    if COUNT == 1:
        return tl.load(parts + FIRST * apart + at, mask=kept, other=0.0)
    else:
        # The largest power of two below COUNT.
        HALF: tl.constexpr = 1 if COUNT == 2 else (2 if COUNT <= 4 else (4 if COUNT <= 8 else 8))
        left = branch(parts, apart, at, kept, FIRST, HALF)
        return left + branch(parts, apart, at, kept, FIRST + HALF, COUNT - HALF)


@triton.jit
def reduce_tree(rows, parts, y, apart, width, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * width + column
    kept = column < width
    tl.store(y + at, branch(parts, apart, at, kept, 0, PARTS), mask=kept)
