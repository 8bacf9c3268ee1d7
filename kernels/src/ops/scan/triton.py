"""Linear recurrences over a sequence: the selective state space of Mamba-2 and the gated delta rule, in chunks for prompt rows, step by
step for generated ones.

Shapes: q, k [rows, heads, key_dim] f32, v, y [rows, heads, group, value_dim] f32, dt (and beta) [rows, heads group] f32, a_log (and
skip) [heads group] f32. BLOCKS BLOCK_K, or KEY, is at least key_dim; value_dim is cut into blocks of BLOCK_V.
A slot of `states`, slot_len elements after the other: states [values, key_dim, value_dim], then what a chunk that is not full leaves:
keys [heads, 16, key_dim], updates [values, 16, value_dim], log decays [values, 16], values being heads group.
Programs: scan_prompt, then scan_steps, both (spans, values, value_dim / BLOCK_V). scan_prompt leaves its state in state_to, where scan_steps goes
on; a span without prompt rows begins from state_from.
Maths: as in mod.rs beside this, in f32. Every row of a chunk of 16 by absolute position is computed by the same operations over 16 rows, those
that are not there yet being zeros; a later row enters an earlier one's sums as a product with zero only.
Error: within 2e-5 of the recurrence in f64, relative to the largest result.
"""

import triton
import triton.language as tl

CHUNK: tl.constexpr = tl.constexpr(16)


@triton.jit
def softplus(x):
    """ln(1 + e^x); the quotient mends what 1 + e^x loses of a small e^x."""
    power = tl.exp(tl.minimum(x, 20.0))
    whole = 1.0 + power
    near = tl.where(whole == 1.0, power, tl.log(whole) * power / tl.where(whole == 1.0, 1.0, whole - 1.0))
    return tl.where(x > 20.0, x, near)


@triton.jit
def over_keys(x):
    """The sum over blocks of keys, which come first."""
    return tl.sum(x, 0)


@triton.jit
def unit(x, scale):
    """Rows [blocks, rows, keys] of length 1, times scale."""
    return x * (scale / tl.sqrt_rn(tl.sum(tl.sum(x * x, 2), 0) + 1e-6))[None, :, None]


@triton.jit
def scan_prompt(
    spans, span_first_row, span_rows, span_start, span_prompt, state_from, state_to, span_first_snap, snap_end, snap_slot,
    q, k, v, dt, beta, a_log, skip, y, states, slot_len, heads, group, key_dim, value_dim, has_skip, low, high,
    DELTA: tl.constexpr, BLOCKS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    """Keys are cut into BLOCKS blocks of BLOCK_K, so that each warp has a part of the state; sums over keys are those of blocks, then over
    blocks."""
    span = tl.program_id(0)
    if span >= tl.load(spans):
        return
    start = tl.load(span_start + span)
    prompt = tl.load(span_prompt + span)
    end = tl.minimum(prompt, start + tl.load(span_rows + span))
    if end <= start:
        return
    first_row = tl.load(span_first_row + span)
    value_head = tl.program_id(1)
    head = value_head // group
    values = heads * group
    i = tl.arange(0, CHUNK)
    block = tl.arange(0, BLOCKS)[:, None, None]
    key = block * BLOCK_K + tl.arange(0, BLOCK_K)[None, None, :]
    state_key = block * BLOCK_K + tl.arange(0, BLOCK_K)[None, :, None]
    value_at = tl.program_id(2) * BLOCK_V + tl.arange(0, BLOCK_V)
    of_state = (value_head * key_dim + state_key) * value_dim + value_at[None, None, :]
    state_kept = (state_key < key_dim) & (value_at < value_dim)[None, None, :]
    value_kept = (value_at < value_dim)[None, :]
    keys_from = values * key_dim * value_dim
    updates_from = keys_from + heads * CHUNK * key_dim
    decays_from = updates_from + values * CHUNK * value_dim
    of_keys = keys_from + (head * CHUNK + i)[None, :, None] * key_dim + key
    of_updates = updates_from + (value_head * CHUNK + i)[:, None] * value_dim + value_at[None, :]
    of_decays = decays_from + value_head * CHUNK + i
    slot = tl.load(state_from + span)
    source = states + slot.to(tl.int64) * slot_len
    target = states + tl.load(state_to + span).to(tl.int64) * slot_len
    first_snap, last_snap = tl.load(span_first_snap + span), tl.load(span_first_snap + span + 1)
    state = tl.load(source + of_state, mask=state_kept & (slot >= 0), other=0.0)
    factor = 0.0
    if has_skip != 0:
        factor = tl.load(skip + value_head)
    rate_of_decay = -tl.exp(tl.load(a_log + value_head))
    for base in range(start // CHUNK * CHUNK, end, CHUNK):
        position = base + i
        own = (position >= start) & (position < end)
        # The first chunk may have rows of an earlier step.
        held = (position < start) & (slot >= 0)
        row = (first_row + position - start).to(tl.int64)
        key_at = (row * heads + head)[None, :, None] * key_dim + key
        key_kept = own[None, :, None] & (key < key_dim)
        place = row * values + value_head
        value_of = place[:, None] * value_dim + value_at[None, :]
        own_key = tl.load(k + key_at, mask=key_kept, other=0.0)
        value = tl.load(v + value_of, mask=own[:, None] & value_kept, other=0.0)
        delta = softplus(tl.load(dt + place, mask=own, other=0.0))
        if DELTA:
            own_key = unit(own_key, 1.0)
        else:
            delta = tl.minimum(tl.maximum(delta, low), high)
        decay = tl.where(own, rate_of_decay * delta, 0.0)
        own_key += tl.load(source + of_keys, mask=held[None, :, None] & (key < key_dim), other=0.0)
        update = tl.load(source + of_updates, mask=held[:, None] & value_kept, other=0.0)
        decay += tl.load(source + of_decays, mask=held, other=0.0)
        sums = tl.cumsum(decay, 0)
        # e^(c_t - c_s) for s before t, or t itself.
        apart = tl.where(i[:, None] >= i[None, :], tl.exp(sums[:, None] - sums[None, :]), 0.0)
        count = tl.minimum(base + CHUNK, end) - base
        turned = tl.trans(own_key, (0, 2, 1))
        if DELTA:
            rate = 1.0 / (1.0 + tl.exp(-tl.load(beta + place, mask=own, other=0.0)))
            seen = over_keys(tl.dot(own_key, state, input_precision="tf32x3")) * tl.exp(sums)[:, None]
            weights = over_keys(tl.dot(own_key, turned, input_precision="tf32x3")) * apart
            for line in range(tl.maximum(start - base, 0), count):
                is_line = (i == line)[:, None]
                weight = tl.sum(tl.where(is_line & (i < line)[None, :], weights, 0.0), 0)
                before = tl.sum(weight[:, None] * update, 0)
                update = tl.where(is_line, rate[:, None] * (value - (seen + before[None, :])), update)
        else:
            update += tl.where(own, delta, 0.0)[:, None] * value
        query = tl.load(q + key_at, mask=key_kept, other=0.0)
        if DELTA:
            query = unit(query, 1.0 / tl.sqrt_rn(key_dim.to(tl.float32)))
        weights = over_keys(tl.dot(query, turned, input_precision="tf32x3")) * apart
        result = over_keys(tl.dot(query, state, input_precision="tf32x3")) * tl.exp(sums)[:, None]
        result = tl.dot(weights, update, result, input_precision="tf32x3") + factor * value
        tl.store(y + value_of, result, mask=own[:, None] & value_kept)
        if (count == CHUNK) | (base + count == prompt):
            whole = tl.sum(tl.where(i == count - 1, sums, 0.0), 0)
            decayed = tl.where((i < count)[:, None], tl.exp(whole - sums)[:, None] * update, 0.0)
            decayed = tl.broadcast_to(decayed[None, :, :], [BLOCKS, CHUNK, BLOCK_V])
            state = tl.dot(turned, decayed, state * tl.exp(whole), input_precision="tf32x3")
            for snap in range(first_snap, last_snap):
                if tl.load(snap_end + snap) == base + count:
                    kept = states + tl.load(snap_slot + snap).to(tl.int64) * slot_len
                    tl.store(kept + of_state, state, mask=state_kept)
        else:
            there = i < count
            # Heads of values that share keys, and blocks of values, would all write the same.
            writes = (value_head % group == 0) & (tl.program_id(2) == 0)
            tl.store(target + of_keys, own_key, mask=there[None, :, None] & (key < key_dim) & writes)
            tl.store(target + of_updates, update, mask=there[:, None] & value_kept)
            tl.store(target + of_decays, decay, mask=there & (tl.program_id(2) == 0))
    tl.store(target + of_state, state, mask=state_kept)


@triton.jit
def scan_steps(
    spans, span_first_row, span_rows, span_start, span_prompt, state_from, state_to,
    q, k, v, dt, beta, a_log, skip, y, states, slot_len, heads, group, key_dim, value_dim, has_skip, low, high,
    DELTA: tl.constexpr, KEY: tl.constexpr, BLOCK_V: tl.constexpr,
):  # fmt: skip
    span = tl.program_id(0)
    if span >= tl.load(spans):
        return
    start = tl.load(span_start + span)
    prompt = tl.load(span_prompt + span)
    end = start + tl.load(span_rows + span)
    begin = tl.maximum(start, prompt)
    if end <= begin:
        return
    first_row = tl.load(span_first_row + span)
    value_head = tl.program_id(1)
    head = value_head // group
    values = heads * group
    key = tl.arange(0, KEY)
    value_at = tl.program_id(2) * BLOCK_V + tl.arange(0, BLOCK_V)
    of_state = (value_head * key_dim + key)[:, None] * value_dim + value_at[None, :]
    state_kept = (key < key_dim)[:, None] & (value_at < value_dim)[None, :]
    target_slot = tl.load(state_to + span)
    # Behind prompt rows of this step the state is where they left it.
    slot = tl.where(begin > start, target_slot, tl.load(state_from + span))
    state = tl.load(states + slot.to(tl.int64) * slot_len + of_state, mask=state_kept & (slot >= 0), other=0.0)
    factor = 0.0
    if has_skip != 0:
        factor = tl.load(skip + value_head)
    rate_of_decay = -tl.exp(tl.load(a_log + value_head))
    value_kept = value_at < value_dim
    for position in range(begin, end):
        row = (first_row + position - start).to(tl.int64)
        at = (row * heads + head) * key_dim + key
        place = row * values + value_head
        query = tl.load(q + at, mask=key < key_dim, other=0.0)
        own_key = tl.load(k + at, mask=key < key_dim, other=0.0)
        value = tl.load(v + place * value_dim + value_at, mask=value_kept, other=0.0)
        delta = softplus(tl.load(dt + place))
        if DELTA:
            rate = 1.0 / (1.0 + tl.exp(-tl.load(beta + place)))
            own_key = own_key * (1.0 / tl.sqrt_rn(tl.sum(own_key * own_key, 0) + 1e-6))
            scale = 1.0 / tl.sqrt_rn(key_dim.to(tl.float32))
            query = query * (scale / tl.sqrt_rn(tl.sum(query * query, 0) + 1e-6))
        else:
            delta = tl.minimum(tl.maximum(delta, low), high)
        state *= tl.exp(rate_of_decay * delta)
        if DELTA:
            update = rate * (value - tl.sum(own_key[:, None] * state, 0))
        else:
            update = delta * value
        state += own_key[:, None] * update[None, :]
        result = tl.sum(query[:, None] * state, 0) + factor * value
        tl.store(y + place * value_dim + value_at, result, mask=value_kept)
    tl.store(states + target_slot.to(tl.int64) * slot_len + of_state, state, mask=state_kept)
