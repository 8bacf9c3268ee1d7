"""Appends keys and values to pages, then attends: softmax(scale q k^T) v over each row's own past and itself.

Shapes: q, y [rows, kv_heads group, head_dim] f32, k, v [rows, kv_heads, head_dim] f32; pages of keys and of values
[page, kv_heads, 16, head_dim] f32, bf16 or f16; `table` is the step's pages or windows; sinks [kv_heads group] f32.
D + TAIL is at least head_dim: elements 0..D and D..D + TAIL of a head go through dots of their own (latent attention: 512 + 64).
Programs: append (rows, kv_heads head_dim / BLOCK); prompt (tiles, heads of queries); generated (generated rows, kv_heads
group / GROUP, splits) and merge_splits (generated rows, heads of queries).
Maths: q and e^s are rounded to the type of the pages, sums are f32. Prompt rows: key blocks by absolute position, in order, online
softmax. Generated rows: of each 256 positions, by absolute position, the largest score m, l = sum of 2^(s - m) and o = sum of
2^(s - m) v over blocks in order; splits are merged eight at a time, by absolute number. Scores are in units of log 2. A block of which a row sees nothing
leaves its sums as they are. A sink is a last block with l = 1 and no value.
Error: in bf16 within 2e-2 of the exact softmax's average of |v|, f16 3e-3, f32 2e-6.
"""

import triton
import triton.language as tl
from ops.unary.triton import tanh

# Positions of a page, and of a split of a generated row's past.
PAGE: tl.constexpr = tl.constexpr(16)
SPLIT: tl.constexpr = tl.constexpr(256)
LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def append(rows, row_position, row_span, span_first_page, table, k, v, keys, values, kv_heads, head_dim, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    position = tl.load(row_position + row)
    page = tl.load(table + tl.load(span_first_page + tl.load(row_span + row)) + position // PAGE)
    width = kv_heads * head_dim
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = (column < width) & (page >= 0)
    at = row.to(tl.int64) * width + column
    head = column // head_dim
    to = ((page.to(tl.int64) * kv_heads + head) * PAGE + position % PAGE) * head_dim + column % head_dim
    key = tl.load(k + at, mask=kept, other=0.0)
    value = tl.load(v + at, mask=kept, other=0.0)
    tl.store(keys + to, key.to(keys.dtype.element_ty), mask=kept)
    tl.store(values + to, value.to(values.dtype.element_ty), mask=kept)


@triton.jit
def placed(
    table, first_page, from_position, low, high, kv_head, kv_heads, head_dim, BLOCK_P: tl.constexpr, MASKED: tl.constexpr
):
    """Where the keys and values of a block of positions begin, and which of them are there: of low..high those that have a page, all where
    it is not MASKED. Blocks begin on pages."""
    lane = tl.arange(0, BLOCK_P)
    pages = table + first_page + from_position // PAGE + lane // PAGE
    there = (from_position + lane >= low) & (from_position + lane < high)
    if MASKED:
        page = tl.load(pages, mask=there, other=-1)
        there = page >= 0
    else:
        page = tl.load(pages)
    at = (kv_head * PAGE + lane % PAGE) * head_dim
    return page.to(tl.int64) * (kv_heads * PAGE * head_dim) + at, there


@triton.jit
def elements(pointers, there, dim, head_dim, MASKED: tl.constexpr):
    """Elements of heads, of those positions that are there."""
    if MASKED:
        return tl.load(pointers, mask=there & (dim < head_dim), other=0.0)
    return tl.load(pointers, mask=dim < head_dim, other=0.0)


@triton.jit
def products(q, q_tail, keys, at, there, head_dim, D: tl.constexpr, TAIL: tl.constexpr, MASKED: tl.constexpr):
    """q k^T of a block of positions."""
    dim = tl.arange(0, D)[:, None]
    key = elements(keys + at[None, :] + dim, there[None, :], dim, head_dim, MASKED)
    scores = tl.dot(q, key, input_precision="ieee")
    if TAIL > 0:
        dim = D + tl.arange(0, TAIL)[:, None]
        key = elements(keys + at[None, :] + dim, there[None, :], dim, head_dim, MASKED)
        scores = tl.dot(q_tail, key, scores, input_precision="ieee")
    return scores


@triton.jit
def averaged(
    weights, values, at, there, head_dim, sums, FROM: tl.constexpr, D: tl.constexpr, MASKED: tl.constexpr
):
    """sums + weights v of a block of positions, for the elements FROM..FROM + D of a head."""
    dim = FROM + tl.arange(0, D)[None, :]
    value = elements(values + at[:, None] + dim, there[:, None], dim, head_dim, MASKED)
    return tl.dot(weights.to(value.dtype), value, sums, input_precision="ieee")


@triton.jit
def block(
    q, q_tail, keys, values, at, there, seen, m, l, o, o_tail, head_dim, scale, cap,
    D: tl.constexpr, TAIL: tl.constexpr, CAPPED: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """m, l, o and o_tail with a block of positions added, of which each query sees those of `seen`; all, where it is not MASKED. Scores are
    brought to units of log 2 within the exponent: one multiply-add each."""
    scores = products(q, q_tail, keys, at, there, head_dim, D, TAIL, MASKED)
    unit = scale * LOG2_E
    if CAPPED:
        scores = cap * tanh(scores * scale / cap)
        unit = LOG2_E
    if MASKED:
        scores = tl.where(seen & there[None, :], scores, float("-inf"))
    top = tl.maximum(m, tl.max(scores, 1) * unit)
    base = top
    if MASKED:
        # A query that has seen nothing yet would subtract infinities.
        base = tl.where(top == float("-inf"), 0.0, top)
    weights = tl.exp2(scores * unit - base[:, None])
    factor = tl.exp2(m - base)
    l = l * factor + tl.sum(weights, 1)
    o = averaged(weights, values, at, there, head_dim, o * factor[:, None], 0, D, MASKED)
    if TAIL > 0:
        o_tail = averaged(weights, values, at, there, head_dim, o_tail * factor[:, None], D, TAIL, MASKED)
    return top, l, o, o_tail


@triton.jit
def stretch(
    table, first_page, begin, end, low, high, position, window, kv_head, kv_heads,
    q, q_tail, keys, values, m, l, o, o_tail, head_dim, scale, cap,
    D: tl.constexpr, TAIL: tl.constexpr, CAPPED: tl.constexpr, BLOCK_P: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """m, l, o and o_tail with the blocks of begin..end added, of which there are the positions low..high."""
    for from_position in tl.range(begin, end, BLOCK_P):
        past = from_position + tl.arange(0, BLOCK_P)
        at, there = placed(table, first_page, from_position, low, high, kv_head, kv_heads, head_dim, BLOCK_P, MASKED)
        seen = (past[None, :] <= position[:, None]) & (past[None, :] > position[:, None] - window)
        m, l, o, o_tail = block(
            q, q_tail, keys, values, at, there, seen, m, l, o, o_tail, head_dim, scale, cap, D, TAIL, CAPPED, MASKED
        )
    return m, l, o, o_tail


@triton.jit
def prompt(
    tiles, tile_span, tile_row, span_first_row, span_rows, span_start, span_prompt, span_first_page, table,
    q, keys, values, sinks, y, kv_heads, group, head_dim, window, has_sinks, scale, cap,
    D: tl.constexpr, TAIL: tl.constexpr, CAPPED: tl.constexpr, LOOPS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """A tile is BLOCK_M prompt rows of a span, from the span's row tile_row on."""
    # The tiles with the longest past are the last ones: they begin first.
    count = tl.load(tiles)
    tile = count - 1 - tl.program_id(0)
    if tile < 0:
        return
    span = tl.load(tile_span + tile)
    first = tl.load(tile_row + tile)
    start = tl.load(span_start + span)
    first_page = tl.load(span_first_page + span)
    rows = tl.minimum(tl.load(span_prompt + span) - start, tl.load(span_rows + span))
    head = tl.program_id(1)
    kv_head = head // group
    own = first + tl.arange(0, BLOCK_M)
    live = (own < rows)[:, None]
    position = start + own
    width = kv_heads * group * head_dim
    row = (tl.load(span_first_row + span) + own).to(tl.int64)[:, None] * width + head * head_dim
    dim = tl.arange(0, D)[None, :]
    query = tl.load(q + row + dim, mask=live & (dim < head_dim), other=0.0).to(keys.dtype.element_ty)
    o = tl.zeros([BLOCK_M, D], tl.float32)
    m = tl.full([BLOCK_M], float("-inf"), tl.float32)
    l = tl.zeros([BLOCK_M], tl.float32)
    query_tail = query
    o_tail = o
    if TAIL > 0:
        tail = D + tl.arange(0, TAIL)[None, :]
        query_tail = tl.load(q + row + tail, mask=live & (tail < head_dim), other=0.0).to(keys.dtype.element_ty)
        o_tail = tl.zeros([BLOCK_M, TAIL], tl.float32)
    low = tl.maximum(start + first - window + 1, 0)
    end = start + tl.minimum(first + BLOCK_M, rows)
    # Blocks that all rows see whole lie between those at the windows' borders and those at the rows themselves.
    begin = low // BLOCK_P * BLOCK_P
    full = tl.cdiv(tl.maximum(end - window, 0), BLOCK_P) * BLOCK_P
    full = tl.minimum(tl.maximum(full, begin), tl.cdiv(end, BLOCK_P) * BLOCK_P)
    own_blocks = tl.maximum(full, (start + first + 1) // BLOCK_P * BLOCK_P)
    if LOOPS == 1:
        m, l, o, o_tail = stretch(
            table, first_page, begin, end, low, end, position, window, kv_head, kv_heads,
            query, query_tail, keys, values, m, l, o, o_tail, head_dim, scale, cap, D, TAIL, CAPPED, BLOCK_P, True,
        )  # fmt: skip
    else:
        m, l, o, o_tail = stretch(
            table, first_page, begin, full, low, end, position, window, kv_head, kv_heads,
            query, query_tail, keys, values, m, l, o, o_tail, head_dim, scale, cap, D, TAIL, CAPPED, BLOCK_P, True,
        )  # fmt: skip
        m, l, o, o_tail = stretch(
            table, first_page, full, own_blocks, low, end, position, window, kv_head, kv_heads,
            query, query_tail, keys, values, m, l, o, o_tail, head_dim, scale, cap, D, TAIL, CAPPED, BLOCK_P, False,
        )  # fmt: skip
        m, l, o, o_tail = stretch(
            table, first_page, own_blocks, end, low, end, position, window, kv_head, kv_heads,
            query, query_tail, keys, values, m, l, o, o_tail, head_dim, scale, cap, D, TAIL, CAPPED, BLOCK_P, True,
        )  # fmt: skip
    if has_sinks != 0:
        sink = tl.load(sinks + head) * LOG2_E
        top = tl.maximum(m, sink)
        factor = tl.exp2(m - top)
        l = l * factor + tl.exp2(sink - top)
        o = o * factor[:, None]
        if TAIL > 0:
            o_tail = o_tail * factor[:, None]
    tl.store(y + row + dim, o / l[:, None], mask=live & (dim < head_dim))
    if TAIL > 0:
        tail = D + tl.arange(0, TAIL)[None, :]
        tl.store(y + row + tail, o_tail / l[:, None], mask=live & (tail < head_dim))


@triton.jit
def generated(
    count, generated_rows, row_position, row_span, span_first_page, table,
    q, keys, values, split_m, split_l, split_o, kv_heads, group, head_dim, window, scale, cap,
    D: tl.constexpr, TAIL: tl.constexpr, CAPPED: tl.constexpr, GROUP: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """split_m, split_l [generated rows, heads of queries, splits], split_o [the same, head_dim]: splits as many as programs."""
    number = tl.program_id(0)
    if number >= tl.load(count):
        return
    row = tl.load(generated_rows + number)
    position = tl.load(row_position + row)
    split = tl.program_id(2)
    low = tl.maximum(position - window + 1, 0)
    begin = split * SPLIT
    end = tl.minimum(begin + SPLIT, position + 1)
    if (end <= begin) | (end <= low):
        return
    first_page = tl.load(span_first_page + tl.load(row_span + row))
    of_group = tl.cdiv(group, GROUP)
    kv_head = tl.program_id(1) // of_group
    member = tl.program_id(1) % of_group * GROUP + tl.arange(0, GROUP)
    live = (member < group)[:, None]
    head = kv_head * group + member
    heads = kv_heads * group
    at_query = (row.to(tl.int64) * heads + head)[:, None] * head_dim
    dim = tl.arange(0, D)[None, :]
    query = tl.load(q + at_query + dim, mask=live & (dim < head_dim), other=0.0).to(keys.dtype.element_ty)
    o = tl.zeros([GROUP, D], tl.float32)
    m = tl.full([GROUP], float("-inf"), tl.float32)
    l = tl.zeros([GROUP], tl.float32)
    query_tail = query
    o_tail = o
    if TAIL > 0:
        tail = D + tl.arange(0, TAIL)[None, :]
        query_tail = tl.load(q + at_query + tail, mask=live & (tail < head_dim), other=0.0).to(keys.dtype.element_ty)
        o_tail = tl.zeros([GROUP, TAIL], tl.float32)
    # From the first block that the row sees.
    begin = tl.maximum(begin, low // BLOCK_P * BLOCK_P)
    for from_position in tl.range(begin, end, BLOCK_P):
        past = from_position + tl.arange(0, BLOCK_P)
        seen = (past >= low) & (past < end)
        at, there = placed(table, first_page, from_position, low, end, kv_head, kv_heads, head_dim, BLOCK_P, True)
        m, l, o, o_tail = block(
            query, query_tail, keys, values, at, there, seen[None, :], m, l, o, o_tail, head_dim, scale, cap, D, TAIL, CAPPED, True
        )
    to = (number.to(tl.int64) * heads + head) * tl.num_programs(2) + split
    tl.store(split_m + to, m, mask=member < group)
    tl.store(split_l + to, l, mask=member < group)
    tl.store(split_o + to[:, None] * head_dim + dim, o, mask=live & (dim < head_dim))
    if TAIL > 0:
        tail = D + tl.arange(0, TAIL)[None, :]
        tl.store(split_o + to[:, None] * head_dim + tail, o_tail, mask=live & (tail < head_dim))


@triton.jit
def merge_splits(
    count, generated_rows, row_position, split_m, split_l, split_o, sinks, y, splits, head_dim, window, has_sinks,
    D: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """The sums of a row's splits, AT_ONCE together by absolute number, over the largest of all scores."""
    number = tl.program_id(0)
    if number >= tl.load(count):
        return
    row = tl.load(generated_rows + number)
    position = tl.load(row_position + row)
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    base = (number.to(tl.int64) * heads + head) * splits
    first = tl.maximum(position - window + 1, 0) // SPLIT
    last = position // SPLIT
    top = float("-inf")
    if has_sinks != 0:
        top = tl.load(sinks + head) * LOG2_E
    for at in range(first // AT_ONCE * AT_ONCE, last + 1, AT_ONCE):
        split = at + tl.arange(0, AT_ONCE)
        kept = (split >= first) & (split <= last)
        top = tl.maximum(top, tl.max(tl.load(split_m + base + split, mask=kept, other=float("-inf")), 0))
    dim = tl.arange(0, D)
    l = 0.0
    o = tl.zeros([D], tl.float32)
    for at in range(first // AT_ONCE * AT_ONCE, last + 1, AT_ONCE):
        split = at + tl.arange(0, AT_ONCE)
        kept = (split >= first) & (split <= last)
        factor = tl.exp2(tl.load(split_m + base + split, mask=kept, other=float("-inf")) - top)
        l += tl.sum(factor * tl.load(split_l + base + split, mask=kept, other=0.0), 0)
        from_split = split_o + (base + split)[:, None] * head_dim + dim[None, :]
        part = tl.load(from_split, mask=kept[:, None] & (dim < head_dim)[None, :], other=0.0)
        o += tl.sum(factor[:, None] * part, 0)
    if has_sinks != 0:
        l += tl.exp2(tl.load(sinks + head) * LOG2_E - top)
    tl.store(y + (row.to(tl.int64) * heads + head) * head_dim + dim, o / l, mask=dim < head_dim)
