"""What the experts that a row chose make of it.

Shapes: gates [rows, experts] f32, zero where an expert is not chosen; entry and gate [rows, choices], of each choice the number of its
weights among the `held` ones from expert `begin` on, or -1, and its gate, or 0. A slot is row choices + number of the choice. w
[held, n, k] f32, bf16 or f16; x [rows, k] or [rows, choices, k] f32, y [rows, choices, n] f32.
Order: choose, count, place, then any number of `experts` for weights of the same gates. at [tiles tile] lists slots by entry, then by
number, every entry from a tile's border on, with -1 between; behind the last entry those of no entry, whose results are zeros.
tile_entry [tiles]; there are at most slots / tile + held + 1 tiles, and no more than slots.
`combine` is `experts` into [rows, choices, n] and `weigh`.
Programs: choose (rows), count and place (held + 1), experts (n / BLOCK_N, tiles), weigh (rows, n / BLOCK), expert_bias (rows
choices, n / BLOCK), contract_each (n / BLOCK_N, rows / BLOCK_R, each).
Maths and error: the sums of ops/contract, instruction by instruction; `weigh` adds gate x, choice by choice.
"""

import triton
import triton.language as tl
from ops.contract.triton import sums_of_run


@triton.jit
def choose(rows, gates, entry, gate, experts, choices, begin, held, EXPERTS: tl.constexpr, CHOICES: tl.constexpr):
    """The choices of a row: its experts by number."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    expert = tl.arange(0, EXPERTS)
    value = tl.load(gates + row.to(tl.int64) * experts + expert, mask=expert < experts, other=0.0)
    is_chosen = (value != 0.0).to(tl.int32)
    place = tl.cumsum(is_chosen, 0) - 1
    kept = (is_chosen > 0) & (place < choices)
    number = expert - begin
    number = tl.where((number >= 0) & (number < held), number, -1)
    at = row.to(tl.int64) * choices
    tl.store(entry + at + place, number, mask=kept)
    tl.store(gate + at + place, value, mask=kept)
    choice = tl.arange(0, CHOICES)
    missing = (choice >= tl.sum(is_chosen, 0)) & (choice < choices)
    tl.store(entry + at + choice, tl.full([CHOICES], -1, tl.int32), mask=missing)
    tl.store(gate + at + choice, tl.zeros([CHOICES], tl.float32), mask=missing)


@triton.jit
def is_of(entry, slot, slots, number, held):
    """Whether slots have entry `number`; those without any have entry `held`."""
    own = tl.load(entry + slot, mask=slot < slots, other=-2)
    return ((tl.where(own == -1, held, own) == number) & (own > -2)).to(tl.int32)


@triton.jit
def count(rows, entry, counts, choices, held, BLOCK: tl.constexpr):
    """counts [held + 1]: slots of each entry, and of none."""
    number = tl.program_id(0)
    slots = tl.load(rows) * choices
    total = 0
    for first in range(0, slots, BLOCK):
        total += tl.sum(is_of(entry, first + tl.arange(0, BLOCK), slots, number, held), 0)
    tl.store(counts + number, total)


@triton.jit
def place(rows, entry, counts, at, tile_entry, tiles, choices, held, tile, ENTRIES: tl.constexpr, BLOCK: tl.constexpr):
    """Lists the slots of an entry from its border on, and its tiles."""
    number = tl.program_id(0)
    slots = tl.load(rows) * choices
    other = tl.arange(0, ENTRIES)
    other_tiles = tl.cdiv(tl.load(counts + other, mask=other <= held, other=0), tile)
    first_tile = tl.sum(tl.where(other < number, other_tiles, 0), 0)
    own_tiles = tl.sum(tl.where(other == number, other_tiles, 0), 0)
    if number == held:
        tl.store(tiles, first_tile + own_tiles)
    placed = 0
    for first in range(0, slots, BLOCK):
        slot = first + tl.arange(0, BLOCK)
        own = is_of(entry, slot, slots, number, held)
        tl.store(at + first_tile * tile + placed + tl.cumsum(own, 0) - 1, slot, mask=own > 0)
        placed += tl.sum(own, 0)
    for first in range(placed, own_tiles * tile, BLOCK):
        behind = first + tl.arange(0, BLOCK)
        tl.store(at + first_tile * tile + behind, tl.full([BLOCK], -1, tl.int32), mask=behind < own_tiles * tile)
    for first in range(0, own_tiles, BLOCK):
        own_tile = first + tl.arange(0, BLOCK)
        tl.store(tile_entry + first_tile + own_tile, tl.full([BLOCK], number, tl.int32), mask=own_tile < own_tiles)


@triton.jit
def experts(
    tiles, tile_entry, at, x, w, y, choices, parts, held, n, k,
    BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile of BLOCK_R slots by the weights of their entry. parts is 1 where the choices of a row share x, else choices."""
    tile = tl.program_id(1)
    if tile >= tl.load(tiles):
        return
    entry = tl.load(tile_entry + tile)
    slot = tl.load(at + tile * BLOCK_R + tl.arange(0, BLOCK_R))[None, :]
    first_output = tl.program_id(0) * BLOCK_N
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    if entry < held:
        weights = w + (entry.to(tl.int64) * n + first_output) * k
        row_at = tl.where(parts == 1, slot // choices, slot).to(tl.int64) * k
        sums = sums_of_run(weights, x, row_at, slot >= 0, k, n - first_output, 0, k, sums, BLOCK_N, BLOCK_K, False)
    output = first_output + tl.arange(0, BLOCK_N)[:, None]
    tl.store(y + slot.to(tl.int64) * n + output, sums, mask=(output < n) & (slot >= 0))


@triton.jit
def weigh(rows, gate, x, y, choices, n, BLOCK: tl.constexpr):
    """y [rows, n] = the sum over the choices of a row, in their order, of gate x [rows, choices, n]."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], tl.float32)
    for choice in range(choices):
        slot = row * choices + choice
        factor = tl.load(gate + slot)
        kept = (column < n) & (factor != 0.0)
        sums += factor * tl.load(x + slot.to(tl.int64) * n + column, mask=kept, other=0.0)
    tl.store(y + row.to(tl.int64) * n + column, sums, mask=column < n)


@triton.jit
def expert_bias(rows, entry, x, w, y, choices, n, BLOCK: tl.constexpr):
    """y [rows, choices, n] = x + the run of w [held, n] that belongs to the entry of each choice; y may be x."""
    slot = tl.program_id(0)
    if slot >= tl.load(rows) * choices:
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = column < n
    number = tl.load(entry + slot)
    at = slot.to(tl.int64) * n + column
    added = tl.load(w + number.to(tl.int64) * n + column, mask=kept & (number >= 0), other=0.0)
    tl.store(y + at, tl.load(x + at, mask=kept, other=0.0) + added, mask=kept)


@triton.jit
def contract_each(rows, x, w, y, each, n, k, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr):
    """y [rows, each, n] = x [rows, each, k] w^T by the entry of w [each, n, k] that belongs to each run of a row."""
    output_tile, row_tile, number = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    count = tl.load(rows)
    if row_tile * BLOCK_R >= count:
        return
    w += (number.to(tl.int64) * n + output_tile * BLOCK_N) * k
    x += ((row_tile * BLOCK_R).to(tl.int64) * each + number) * k
    row = tl.arange(0, BLOCK_R)[None, :]
    row_kept = row < count - row_tile * BLOCK_R
    sums = tl.zeros([BLOCK_N, BLOCK_R], tl.float32)
    outputs = n - output_tile * BLOCK_N
    sums = sums_of_run(w, x, row * (each * k), row_kept, k, outputs, 0, k, sums, BLOCK_N, BLOCK_K, False)
    output = output_tile * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    at = ((row_tile * BLOCK_R + row).to(tl.int64) * each + number) * n
    tl.store(y + at + output, sums, mask=(output < n) & row_kept)
