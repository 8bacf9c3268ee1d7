"""Gates of the experts that each row's logits choose: their weights, and zeros elsewhere.

Shapes: logits [rows, groups size] f32, bias [groups size] f32 or null, gates [rows, held] f32 for the experts begin..begin + held.
Programs: (rows). GROUPS is at least groups, SIZE at least size; both are powers of two.
Maths: as in mod.rs beside this. Keys (score + bias) are ordered as f32::total_cmp has them, equal ones by the lowest number: as one
i64, the ordered bits above the number's complement, so that no two are equal.
Error: a few roundings of e^x.
"""

import triton
import triton.language as tl

# Above every number of an expert or group, so that a complement is positive.
NUMBERS: tl.constexpr = tl.constexpr(1024)
LEAST: tl.constexpr = tl.constexpr(-(2**62))


@triton.jit
def ordered(key, number, kept):
    """An i64 of each key that is larger where the key comes before; the least one where it is out."""
    bits = key.to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return tl.where(kept, bits.to(tl.int64) * NUMBERS + (NUMBERS - 1 - number), LEAST)


@triton.jit
def key_of(order):
    """The key of an order."""
    bits = (order >> 10).to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def route(
    rows, x, bias, y, groups, size, choices, groups_kept, group_best, begin, held, is_sigmoid, has_bias, normalises, scale,
    GROUPS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    group = tl.arange(0, GROUPS)[:, None]
    member = tl.arange(0, SIZE)[None, :]
    there = (group < groups) & (member < size)
    expert = group * size + member
    logits = tl.load(x + row.to(tl.int64) * (groups * size) + expert, mask=there, other=float("-inf"))
    top = tl.max(tl.max(logits, 1), 0)
    scores = tl.exp(logits - top)
    scores = scores / tl.sum(tl.sum(tl.where(there, scores, 0.0), 1), 0)
    if is_sigmoid != 0:
        scores = 1.0 / (1.0 + tl.exp(-logits))
    keys = scores
    if has_bias != 0:
        keys += tl.load(bias + expert, mask=there, other=0.0)
    order = ordered(keys, expert, there)
    if GROUPS > 1:
        best = tl.zeros([GROUPS], tl.float32)
        rest = order
        for _ in range(group_best):
            first = tl.max(rest, 1)
            best += key_of(first)
            rest = tl.where(rest == first[:, None], LEAST, rest)
        number = tl.arange(0, GROUPS)
        group_order = ordered(best, number, number < groups)
        is_kept = tl.zeros([GROUPS], tl.int32)
        for _ in range(groups_kept):
            first = tl.max(group_order, 0)
            is_kept = tl.where(group_order == first, 1, is_kept)
            group_order = tl.where(group_order == first, LEAST, group_order)
        order = tl.where(is_kept[:, None] > 0, order, LEAST)
    is_chosen = tl.zeros([GROUPS, SIZE], tl.int32)
    for _ in range(choices):
        first = tl.max(tl.max(order, 1), 0)
        is_chosen = tl.where(order == first, 1, is_chosen)
        order = tl.where(order == first, LEAST, order)
    weights = tl.where((is_chosen > 0) & there, scores, 0.0)
    if normalises != 0:
        # What the published code adds, so that a row of zeros has a sum.
        weights = weights / (tl.sum(tl.sum(weights, 1), 0) + 1e-20)
    here = there & (expert >= begin) & (expert < begin + held)
    tl.store(y + row.to(tl.int64) * held + expert - begin, weights * scale, mask=here)
