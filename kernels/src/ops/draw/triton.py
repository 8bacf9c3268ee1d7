"""Tokens from logits, on the device: rules, the draw, log-probabilities. What each means is said in actors/src/sampler.

Shapes: logits [rows, vocab] f32, of which tokens below `allowed` are drawn; what belongs to a sequence is by its slot: added [slots, vocab]
f32, the biases, with -inf for tokens that may not come; seen [slots, vocab] i32, -1 for a token that has not come, else how often it
came in the output. Settings of a row: temperature, top_p, min_p f32, top_k i32, words [rows, 5] i32: seed and request in two words each,
the low one first, and sample; row_position i32; given i32, the token where it is known, -1 where it is to be drawn, -2 where there is none.
shaped [rows, vocab] f32 and listed [rows, vocab] i32 are room to work in. A row is looked through in blocks: peak f32, peak_id, strange and
candidates i32, weight f64 [rows, blocks] are what was found in each.
Programs: shape (rows, vocab / BLOCK), ban (rows), survey_blocks and weigh_blocks (rows, blocks), draw (rows), remember (rows), score (rows); blocks are
allowed / BLOCK, at most BLOCKS, and BLOCK is the same in all three.
Maths: weights e^((x - max) / temperature) and their sums are f64; random numbers are ChaCha8's, the same as the CPU's. Sums are made in
another order than there: a token differs only where a number lies within their rounding, some 1e-15, of a border.
"""

import triton
import triton.language as tl

# More than a vocabulary has: keys are ordered logits above the complement of the id.
IDS: tl.constexpr = tl.constexpr(1 << 21)
# A token further below the largest than this has no chance worth a 53-bit number.
HOPELESS: tl.constexpr = tl.constexpr(-64.0)
# Candidates that top-p looks at first.
FIRST: tl.constexpr = tl.constexpr(1024)
LARGEST: tl.constexpr = tl.constexpr(3.4028234663852886e38)
INFINITE: tl.constexpr = tl.constexpr(float("inf"))


@triton.jit
def bounded(x):
    """Keeps a huge logit finite; one that is masked stays so."""
    return tl.where(x == -INFINITE, x, tl.minimum(tl.maximum(x, -LARGEST), LARGEST))


@triton.jit
def shape(
    rows, row_slot, logits, added, seen, repetition, frequency, presence, shaped, vocab, BLOCK: tl.constexpr
):
    """shaped = logits by the rules of the rows' slots; as they are where row_slot is -1."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    id = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = id < vocab
    slot = tl.load(row_slot + row)
    x = tl.load(logits + row.to(tl.int64) * vocab + id, mask=kept, other=0.0)
    if slot >= 0:
        at = slot.to(tl.int64) * vocab + id
        x = bounded(x + tl.load(added + at, mask=kept, other=0.0))
        times = tl.load(seen + at, mask=kept, other=-1)
        by = tl.load(repetition + row)
        repeated = tl.where(x > 0.0, tl.div_rn(x, by), x * by)
        frequent = repeated - tl.load(frequency + row) * times.to(tl.float32)
        penalised = tl.where(times > 0, frequent - tl.load(presence + row), frequent)
        x = tl.where(times >= 0, bounded(penalised), x)
    tl.store(shaped + row.to(tl.int64) * vocab + id, x, mask=kept)


@triton.jit
def ban(rows, first_banned, banned, shaped, vocab, BLOCK: tl.constexpr):
    """-inf for the ids banned[first_banned[r]..first_banned[r + 1]]: end tokens that would come too early."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    end = tl.load(first_banned + row + 1)
    for first in range(tl.load(first_banned + row), end, BLOCK):
        at = first + tl.arange(0, BLOCK)
        id = tl.load(banned + at, mask=at < end, other=-1)
        kept = (id >= 0) & (id < vocab)
        tl.store(shaped + row.to(tl.int64) * vocab + id, tl.full([BLOCK], -INFINITE, tl.float32), mask=kept)


@triton.jit
def remember(rows, row_slot, token, seen, vocab):
    """Counts the tokens drawn. Rows are of different slots."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    slot = tl.load(row_slot + row)
    drawn = tl.load(token + row)
    kept = (slot >= 0) & (drawn >= 0)
    at = seen + slot.to(tl.int64) * vocab + drawn
    times = tl.load(at, mask=kept, other=0)
    tl.store(at, tl.maximum(times, 0) + 1, mask=kept)


@triton.jit
def quarter(a, b, c, d):
    a = a + b
    d = d ^ a
    d = (d << 16) | (d >> 16)
    c = c + d
    b = b ^ c
    b = (b << 12) | (b >> 20)
    a = a + b
    d = d ^ a
    d = (d << 8) | (d >> 24)
    c = c + d
    b = b ^ c
    b = (b << 7) | (b >> 25)
    return a, b, c, d


@triton.jit
def uniform(words, position):
    """A number in [0, 1) of 53 random bits: the first of ChaCha8 with the five words for a key and the position for a stream."""
    k0 = tl.load(words).to(tl.uint32, bitcast=True)
    k1 = tl.load(words + 1).to(tl.uint32, bitcast=True)
    k2 = tl.load(words + 2).to(tl.uint32, bitcast=True)
    k3 = tl.load(words + 3).to(tl.uint32, bitcast=True)
    k4 = tl.load(words + 4).to(tl.uint32, bitcast=True)
    zero = k0 ^ k0
    a0, a1, a2, a3 = zero + 0x61707865, zero + 0x3320646E, zero + 0x79622D32, zero + 0x6B206574
    b0, b1, b2, b3 = k0, k1, k2, k3
    c0, c1, c2, c3 = k4, zero, zero, zero
    d0, d1, d2, d3 = zero, zero, position.to(tl.uint32, bitcast=True), zero
    for _ in range(4):
        a0, b0, c0, d0 = quarter(a0, b0, c0, d0)
        a1, b1, c1, d1 = quarter(a1, b1, c1, d1)
        a2, b2, c2, d2 = quarter(a2, b2, c2, d2)
        a3, b3, c3, d3 = quarter(a3, b3, c3, d3)
        a0, b1, c2, d3 = quarter(a0, b1, c2, d3)
        a1, b2, c3, d0 = quarter(a1, b2, c3, d0)
        a2, b3, c0, d1 = quarter(a2, b3, c0, d1)
        a3, b0, c1, d2 = quarter(a3, b0, c1, d2)
    low = (a0 + 0x61707865).to(tl.uint64)
    high = (a1 + 0x3320646E).to(tl.uint64)
    # 2^-53.
    return ((low | (high << 32)) >> 11).to(tl.float64) * 1.1102230246251565e-16


@triton.jit
def unsigned(x):
    """An i64 from 0 to 2^32 that is larger where f32::total_cmp has x so."""
    bits = x.to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64) + 2147483648


@triton.jit
def key_of(x, id):
    """An i64 by rank: the logit, of equals the lowest id. Both zeros are equal logits in a comparison, not here, as in the CPU's ranks."""
    return unsigned(x) * IDS - id + (IDS - 1)


@triton.jit
def weighed(x, kept, top, temperature, floor):
    """Weights, and which tokens are candidates."""
    scaled = (x.to(tl.float64) - top) / temperature
    candidate = kept & (scaled >= floor)
    return tl.where(candidate, tl.exp(tl.where(candidate, scaled, 0.0)), 0.0), candidate


@triton.jit
def floor_of(min_p):
    """The least scaled distance from the top of a candidate: a token's probability over the likeliest one's is its weight, so min-p is a bound
    on its logarithm."""
    return tl.maximum(tl.log(tl.maximum(min_p, 1e-37).to(tl.float64)), HOPELESS)


@triton.jit
def survey_blocks(rows, logits, shaped, peak, peak_id, strange, vocab, allowed, BLOCK: tl.constexpr):
    """Of each block the largest of `shaped` and its id, the lowest among equals, and how many of `logits` are not finite."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    id = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * vocab + id
    x = tl.load(shaped + at, mask=id < allowed, other=-INFINITE)
    raw = tl.load(logits + at, mask=id < allowed, other=0.0)
    top = tl.max(x, 0)
    to = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(peak + to, top)
    tl.store(peak_id + to, tl.min(tl.where((x == top) & (id < allowed), id, 2147483647), 0))
    tl.store(strange + to, tl.sum(tl.where(tl.abs(raw) < INFINITE, 0, 1), 0))


@triton.jit
def weigh_blocks(
    rows, shaped, peak, temperature, min_p, weight, candidates, vocab, allowed, BLOCK: tl.constexpr, BLOCKS: tl.constexpr
):
    """Of each block the weight of its candidates and how many they are, for rows that are drawn by chance."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    divisor = tl.load(temperature + row)
    if divisor == 0.0:
        return
    blocks = tl.num_programs(1)
    lane = tl.arange(0, BLOCKS)
    top = tl.max(tl.load(peak + row * blocks + lane, mask=lane < blocks, other=-INFINITE), 0)
    id = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(shaped + row.to(tl.int64) * vocab + id, mask=id < allowed, other=-INFINITE)
    floor = floor_of(tl.load(min_p + row))
    own, candidate = weighed(x, id < allowed, top.to(tl.float64), divisor.to(tl.float64), floor)
    to = row * blocks + tl.program_id(1)
    tl.store(weight + to, tl.sum(own, 0))
    tl.store(candidates + to, tl.sum(candidate.to(tl.int32), 0))


@triton.jit
def largest(row_logits, allowed, BLOCK: tl.constexpr):
    """The largest logit and its id, the lowest among equals."""
    best = tl.full([BLOCK], -INFINITE, tl.float32)
    best_id = tl.zeros([BLOCK], tl.int32)
    lane = tl.arange(0, BLOCK)
    for first in range(0, allowed, BLOCK):
        id = first + lane
        x = tl.load(row_logits + id, mask=id < allowed, other=-INFINITE)
        best_id = tl.where(x > best, id, best_id)
        best = tl.maximum(best, x)
    top = tl.max(best, 0)
    return top, tl.min(tl.where(best == top, best_id, 2147483647), 0)


@triton.jit
def threshold(row_logits, allowed, top, temperature, floor, wanted, BLOCK: tl.constexpr):
    """The `unsigned` of the candidate of rank `wanted`, and how many of those equal to it are among the first `wanted`."""
    prefix = wanted.to(tl.int64) * 0
    rest = wanted
    digit = tl.arange(0, 256)
    for step in range(4):
        shift = 24 - 8 * step
        counts = tl.zeros([256], tl.int32)
        for first in range(0, allowed, BLOCK):
            id = first + tl.arange(0, BLOCK)
            x = tl.load(row_logits + id, mask=id < allowed, other=-INFINITE)
            _, candidate = weighed(x, id < allowed, top, temperature, floor)
            number = unsigned(x)
            own = candidate & ((number >> shift >> 8) == prefix)
            counts += tl.histogram(((number >> shift) & 255).to(tl.int32), 256, mask=own)
        # Those of this digit or a larger one.
        from_here = tl.sum(counts, 0) - tl.cumsum(counts, 0) + counts
        found = tl.max(tl.where(from_here >= rest, digit, 0), 0)
        rest -= tl.sum(tl.where(digit > found, counts, 0), 0)
        prefix = prefix * 256 + found
    return prefix, rest


@triton.jit
def list_candidates(row_logits, row_list, allowed, top, temperature, floor, border, ties, BLOCK: tl.constexpr):
    """Lists, by id, the candidates above a border and the first `ties` of those at it; their count and weight."""
    listed = ties * 0
    equal = ties * 0
    total = tl.sum(tl.zeros([BLOCK], tl.float64), 0)
    for first in range(0, allowed, BLOCK):
        id = first + tl.arange(0, BLOCK)
        x = tl.load(row_logits + id, mask=id < allowed, other=-INFINITE)
        weight, candidate = weighed(x, id < allowed, top, temperature, floor)
        number = unsigned(x)
        tie = (candidate & (number == border)).to(tl.int32)
        taken = candidate & ((number > border) | ((tie > 0) & (equal + tl.cumsum(tie, 0) <= ties)))
        mark = taken.to(tl.int32)
        tl.store(row_list + listed + tl.cumsum(mark, 0) - 1, id, mask=taken)
        listed += tl.sum(mark, 0)
        equal += tl.sum(tie, 0)
        total += tl.sum(tl.where(taken, weight, 0.0), 0)
    return listed, total


@triton.jit
def weight_from(row_logits, row_list, listed, top, temperature, floor, key, BLOCK: tl.constexpr):
    """The weight of the listed candidates whose key is `key` or larger."""
    total = tl.sum(tl.zeros([BLOCK], tl.float64), 0)
    for first in range(0, listed, BLOCK):
        at = first + tl.arange(0, BLOCK)
        id = tl.load(row_list + at, mask=at < listed, other=0)
        x = tl.load(row_logits + id)
        weight, _ = weighed(x, at < listed, top, temperature, floor)
        total += tl.sum(tl.where(key_of(x, id) >= key, weight, 0.0), 0)
    return total


@triton.jit
def last_key(row_logits, row_list, listed, top, temperature, floor, share, is_above, lowest, BLOCK: tl.constexpr):
    """The key of the first listed candidate by rank at which the running weight reaches the share (or is above it); `lowest` if none."""
    low = lowest
    high = lowest * 0 + (1 << 53)
    for _ in range(54):
        middle = (low + high) // 2
        total = weight_from(row_logits, row_list, listed, top, temperature, floor, middle, BLOCK)
        reached = (total > share) | ((total == share) & (is_above == 0))
        low = tl.where(reached, middle, low)
        high = tl.where(reached, high, middle)
    return low


@triton.jit
def lowest_key(row_logits, row_list, listed, border, BLOCK: tl.constexpr):
    """The smallest key of the listed candidates that is not below the border."""
    least = tl.full([BLOCK], 1 << 54, tl.int64)
    for first in range(0, listed, BLOCK):
        at = first + tl.arange(0, BLOCK)
        id = tl.load(row_list + at, mask=at < listed, other=0)
        key = key_of(tl.load(row_logits + id), id)
        least = tl.minimum(least, tl.where((at < listed) & (key >= border), key, 1 << 54))
    return tl.min(least, 0)


@triton.jit
def pick_by_id(
    row_logits, weights, counts, allowed, top, temperature, floor, target, BLOCK: tl.constexpr, BLOCKS: tl.constexpr
):
    """The first candidate by id at which the running weight is above the target, else the last one of the block it was looked for in."""
    lane = tl.arange(0, BLOCKS)
    running = tl.cumsum(weights, 0)
    found = tl.min(tl.where((running > target) & (counts > 0), lane, BLOCKS), 0)
    last = tl.max(tl.where(counts > 0, lane, 0), 0)
    block = tl.where(found < BLOCKS, found, last)
    before = tl.sum(tl.where(lane < block, weights, 0.0), 0)
    id = block * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(row_logits + id, mask=id < allowed, other=-INFINITE)
    weight, candidate = weighed(x, id < allowed, top, temperature, floor)
    passed = tl.min(tl.where(candidate & (before + tl.cumsum(weight, 0) > target), id, 2147483647), 0)
    return tl.where(passed < 2147483647, passed, tl.max(tl.where(candidate, id, 0), 0))


@triton.jit
def draw(
    rows, shaped, listed, peak, peak_id, strange, weight, candidates, given, temperature, top_k, top_p, min_p, words, row_position,
    token, fault, blocks, vocab, allowed, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """token [rows] i32, -1 where there is none; fault [rows] i32: 1 where a logit is not finite, 2 where no token may come."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    lane = tl.arange(0, BLOCKS)
    at_block = row * blocks + lane
    if tl.sum(tl.load(strange + at_block, mask=lane < blocks, other=0), 0) > 0:
        tl.store(token + row, -1)
        tl.store(fault + row, 1)
        return
    known = tl.load(given + row)
    if known != -1:
        tl.store(token + row, tl.maximum(known, -1))
        tl.store(fault + row, 0)
        return
    at = row.to(tl.int64) * vocab
    row_logits, row_list = shaped + at, listed + at
    peaks = tl.load(peak + at_block, mask=lane < blocks, other=-INFINITE)
    best = tl.max(peaks, 0)
    if best == -INFINITE:
        tl.store(token + row, -1)
        tl.store(fault + row, 2)
        return
    tl.store(fault + row, 0)
    divisor = tl.load(temperature + row)
    if divisor == 0.0:
        ids = tl.load(peak_id + at_block, mask=lane < blocks, other=2147483647)
        tl.store(token + row, tl.min(tl.where(peaks == best, ids, 2147483647), 0))
        return
    top = best.to(tl.float64)
    divisor = divisor.to(tl.float64)
    floor = floor_of(tl.load(min_p + row))
    number = uniform(words + row * 5, tl.load(row_position + row))
    weights = tl.load(weight + at_block, mask=lane < blocks, other=0.0)
    counts = tl.load(candidates + at_block, mask=lane < blocks, other=0)
    whole = tl.sum(weights, 0)
    candidates_count = tl.sum(counts, 0)
    most = tl.load(top_k + row)
    is_cut = (most > 0) & (most < candidates_count)
    nucleus = tl.load(top_p + row)
    if (is_cut == 0) & (nucleus >= 1.0):
        picked = pick_by_id(
            row_logits, weights, counts, allowed, top, divisor, floor, number * whole, BLOCK, BLOCKS
        )
        tl.store(token + row, picked)
        return
    wanted = tl.minimum(candidates_count, FIRST)
    wanted = tl.where(is_cut, most, wanted)
    border, ties = threshold(row_logits, allowed, top, divisor, floor, wanted, BLOCK)
    count, total = list_candidates(row_logits, row_list, allowed, top, divisor, floor, border, ties, BLOCK)
    whole = tl.where(is_cut, total, whole)
    reach = nucleus.to(tl.float64) * whole
    if (nucleus < 1.0) & (total < reach) & (count < candidates_count) & (is_cut == 0):
        # Another thread may be writing where this one will.
        tl.debug_barrier()
        count, total = list_candidates(row_logits, row_list, allowed, top, divisor, floor, border * 0 - 1, ties, BLOCK)
    # What was listed by other threads is read from here on.
    tl.debug_barrier()
    lowest = border * 0
    if nucleus < 1.0:
        lowest = last_key(row_logits, row_list, count, top, divisor, floor, reach, 0, lowest, BLOCK)
        total = weight_from(row_logits, row_list, count, top, divisor, floor, lowest, BLOCK)
    lowest = lowest_key(row_logits, row_list, count, lowest, BLOCK)
    picked = last_key(row_logits, row_list, count, top, divisor, floor, number * total, 1, lowest, BLOCK)
    tl.store(token + row, (-(picked % IDS) + (IDS - 1)).to(tl.int32))


@triton.jit
def score(
    rows, logits, token, counts, logprob, rank, top_id, top_logprob, vocab, allowed, most, BLOCK: tl.constexpr
):
    """Of a row's token its log-probability among the raw logits and its rank, from 1; and the counts[r] likeliest tokens, in order, in
    top_id and top_logprob [rows, most]. Rows whose token is -1 are left alone."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    own_id = tl.load(token + row)
    if own_id < 0:
        return
    row_logits = logits + row.to(tl.int64) * vocab
    best, _ = largest(row_logits, allowed, BLOCK)
    top = best.to(tl.float64)
    own = tl.load(row_logits + own_id)
    total = top * 0.0
    before = own_id * 0
    for first in range(0, allowed, BLOCK):
        id = first + tl.arange(0, BLOCK)
        x = tl.load(row_logits + id, mask=id < allowed, other=-INFINITE)
        total += tl.sum(tl.where(id < allowed, tl.exp(x.to(tl.float64) - top), 0.0), 0)
        before += tl.sum(((x > own) | ((x == own) & (id < own_id))).to(tl.int32), 0)
    log_sum = top + tl.log(total)
    tl.store(logprob + row, (own.to(tl.float64) - log_sum).to(tl.float32))
    tl.store(rank + row, before + 1)
    # The next one is the largest of those behind the last one, of equals the one of the lowest id.
    last = best * 0.0 + INFINITE
    last_id = own_id * 0 - 1
    for number in range(tl.minimum(tl.load(counts + row), allowed)):
        next = tl.full([BLOCK], -INFINITE, tl.float32)
        next_id = tl.full([BLOCK], 2147483647, tl.int32)
        for first in range(0, allowed, BLOCK):
            id = first + tl.arange(0, BLOCK)
            x = tl.load(row_logits + id, mask=id < allowed, other=-INFINITE)
            behind = (id < allowed) & ((x < last) | ((x == last) & (id > last_id)))
            better = behind & ((x > next) | (next_id == 2147483647))
            next_id = tl.where(better, id, next_id)
            next = tl.where(better, x, next)
        last = tl.max(tl.where(next_id < 2147483647, next, -INFINITE), 0)
        last_id = tl.min(tl.where(next == last, next_id, 2147483647), 0)
        tl.store(top_id + row * most + number, last_id)
        tl.store(top_logprob + row * most + number, (last.to(tl.float64) - log_sum).to(tl.float32))
