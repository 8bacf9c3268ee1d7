"""y[t][c] = sum over j of w[c][j] x[t - (taps - 1) + j][c]: each channel over its last taps rows, zeros before the first.

Shapes: x, y [rows, channels] f32, not overlapping, w [channels, taps] f32. A slot of `states`, slot_len elements after the other, has the
last taps - 1 raw rows of x, [taps - 1, channels], the oldest first.
Programs: convolve (rows, channels / BLOCK), then keep (spans + snapshots, channels / BLOCK): each span's rows before its end go to
state_to, and those before snap_end to snap_slot.
Maths: one accumulator an output, taps in order. Error: within 4e-7 of the sum of |w x|.
"""

import triton
import triton.language as tl


@triton.jit
def convolve(
    rows, row_span, span_first_row, state_from, x, w, y, states, slot_len, channels, taps, BLOCK: tl.constexpr
):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    span = tl.load(row_span + row)
    inside = row - tl.load(span_first_row + span)
    slot = tl.load(state_from + span)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = channel < channels
    own = x + row.to(tl.int64) * channels + channel
    state = states + slot.to(tl.int64) * slot_len + channel
    sums = tl.zeros([BLOCK], tl.float32)
    for tap in range(taps):
        back = taps - 1 - tap
        in_step = inside >= back
        value = tl.load(own - back * channels, mask=kept & in_step, other=0.0)
        before = tl.load(state + (inside + tap) * channels, mask=kept & (inside < back) & (slot >= 0), other=0.0)
        sums += tl.load(w + channel * taps + tap, mask=kept, other=0.0) * tl.where(in_step, value, before)
    tl.store(y + row.to(tl.int64) * channels + channel, sums, mask=kept)


@triton.jit
def keep(
    spans, snapshots, span_first_row, span_rows, span_start, state_from, state_to, snap_span, snap_end, snap_slot,
    x, states, slot_len, channels, taps, BLOCK: tl.constexpr,
):  # fmt: skip
    number = tl.program_id(0)
    count = tl.load(spans)
    if number >= count + tl.load(snapshots):
        return
    is_snapshot = number >= count
    snapshot = number - count
    span = tl.load(snap_span + snapshot, mask=is_snapshot, other=0)
    span = tl.where(is_snapshot, span, number)
    end = tl.load(snap_end + snapshot, mask=is_snapshot, other=0) - tl.load(span_start + span)
    inside = tl.where(is_snapshot, end, tl.load(span_rows + span))
    to_slot = tl.load(snap_slot + snapshot, mask=is_snapshot, other=0)
    to_slot = tl.where(is_snapshot, to_slot, tl.load(state_to + span))
    slot = tl.load(state_from + span)
    first = tl.load(span_first_row + span)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = channel < channels
    state = states + slot.to(tl.int64) * slot_len + channel
    to = states + to_slot.to(tl.int64) * slot_len + channel
    for held in range(taps - 1):
        # The row lies this far behind the span's first one.
        at = inside + held - (taps - 1)
        in_step = at >= 0
        value = tl.load(x + (first + at).to(tl.int64) * channels + channel, mask=kept & in_step, other=0.0)
        before = tl.load(state + (inside + held) * channels, mask=kept & (at < 0) & (slot >= 0), other=0.0)
        tl.store(to + held * channels, tl.where(in_step, value, before), mask=kept)
