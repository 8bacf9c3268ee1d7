"""y[r] = table[ids[r] - first] where that entry is held here, else zeros.

Shapes: ids [rows] i32 (the bits of u32), table [n, k] f32, bf16 or f16, y [rows, k] f32. Programs: (rows, k / BLOCK). Error: none.
The call `positions` is this with the rows' positions for ids and 0 for first.
"""

import triton
import triton.language as tl


@triton.jit
def gather(rows, ids, table, y, first, n, k, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    entry = tl.load(ids + row) - first
    held = (entry >= 0) & (entry < n)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(table + entry.to(tl.int64) * k + column, mask=held & (column < k), other=0.0).to(tl.float32)
    tl.store(y + row.to(tl.int64) * k + column, value, mask=column < k)
