"""shape, ban, draw, remember and score against the sampler's own steps, written out in f64."""

import math
import struct

import pytest
import torch
import triton
import triton.language as tl
from buffers import Buffers, blocks, unwritten
from ops.draw.triton import ban, draw, remember, score, shape, survey_blocks, uniform, weigh_blocks

BLOCK = 64
MASKED = float("-inf")


@triton.jit
def numbers(words, position, y):
    row = tl.program_id(0)
    tl.store(y + row, uniform(words + row * 5, tl.load(position + row)))


def signed(value):
    """The low 32 bits as i32."""
    return struct.unpack("<i", struct.pack("<I", value & 0xFFFFFFFF))[0]


def words_of(seed, request, sample):
    return [signed(seed), signed(seed >> 32), signed(request), signed(request >> 32), signed(sample)]


def test_the_random_numbers_are_those_of_the_sampler():
    # As in the sampler's own test: numerators of 2^53.
    golden = [
        ((0, 0, 0, 0), 7538303010471392),
        ((1, 0, 0, 0), 3436151158611243),
        ((0, 1, 0, 0), 2249038049729260),
        ((0, 0, 1, 0), 6215034295280811),
        ((0, 0, 0, 1), 7108138380978545),
        ((2**64 - 1, 123456789, 3, 4000000000), 2998932782087583),
    ]
    b = Buffers()
    y = b.of(torch.zeros(len(golden), dtype=torch.float64))
    words = b.ints([word for key, _ in golden for word in words_of(*key[:3])])
    numbers[(len(golden),)](words, b.ints([signed(key[3]) for key, _ in golden]), y)
    assert (y * 2**53).tolist() == [numerator for _, numerator in golden]
    b.check()


def ranked(row, ids):
    """Ids by rank: the largest logit first, by total order; the lowest id among equals."""
    bits = row.view(torch.int32).long()
    order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return sorted(ids, key=lambda id: (-int(order[id]), id))


def exact(row, number, temperature, top_k, top_p, min_p):
    """The sampler's draw."""
    best = int(torch.nonzero(row == row.max()).flatten()[0])
    if temperature == 0:
        return best
    # Settings are f32.
    temperature, top_p, min_p = (float(torch.tensor(value, dtype=torch.float32)) for value in (temperature, top_p, min_p))
    top = float(row[best])
    floor = max(math.log(min_p) if min_p > 0 else MASKED, -64.0)
    weight = {id: math.exp((float(x) - top) / temperature) for id, x in enumerate(row) if (float(x) - top) / temperature >= floor}
    ids = list(weight)
    if 0 < top_k < len(ids):
        ids = ranked(row, ids)[:top_k]
    if top_p < 1:
        share, total, kept = top_p * sum(weight[id] for id in ids), 0.0, []
        for id in ranked(row, ids):
            kept.append(id)
            total += weight[id]
            if total >= share:
                break
        ids = kept
    target, total = number * sum(weight[id] for id in ids), 0.0
    for id in ids:
        total += weight[id]
        if total > target:
            return id
    return ids[-1]


def run(logits, shaped, settings, allowed, block=BLOCK, given=None):
    b = Buffers()
    rows, vocab = logits.shape
    words = b.ints([word for r in range(rows) for word in words_of(3, 5, r)])
    position = b.ints([10 + r for r in range(rows)])
    column = lambda i: b.of(torch.tensor([row[i] for row in settings], dtype=torch.float32))  # noqa: E731
    token, fault = b.ints([-7] * rows), b.ints([-7] * rows)
    count, logits, shaped, in_row, most = b.ints([rows]), b.of(logits), b.of(shaped), blocks(allowed, block), 64
    peak, peak_id, strange, candidates = b.result(rows, in_row), *(b.ints([-9] * rows * in_row) for _ in range(3))
    weight = b.of(torch.full((rows, in_row), float("nan"), dtype=torch.float64))
    grid = (rows + 1, in_row)
    survey_blocks[grid](count, logits, shaped, peak, peak_id, strange, vocab, allowed, BLOCK=block)
    weigh_blocks[grid](
        count, shaped, peak, column(0), column(3), weight, candidates, vocab, allowed, BLOCK=block, BLOCKS=most
    )
    draw[(rows + 1,)](
        count, shaped, b.ints([-9] * (rows * vocab)), peak, peak_id, strange, weight, candidates,
        b.ints(given or [-1] * rows), column(0), b.ints([row[1] for row in settings]), column(2), column(3), words, position,
        token, fault, in_row, vocab, allowed, BLOCK=block, BLOCKS=most,
    )  # fmt: skip
    y = torch.zeros(rows, dtype=torch.float64)
    if rows:
        numbers[(rows,)](words, position, y)
    b.check()
    return token.tolist(), fault.tolist(), y.tolist()


SETTINGS = [
    (0.0, 0, 1.0, 0.0),
    (1.0, 0, 1.0, 0.0),
    (0.7, 0, 1.0, 0.05),
    (1.3, 1, 1.0, 0.0),
    (1.3, 7, 1.0, 0.0),
    (1.0, 0, 0.9, 0.0),
    (1.0, 500, 0.3, 0.0),
    (2.0, 20, 0.8, 0.02),
    (0.01, 0, 0.5, 0.0),
    (5.0, 0, 0.999, 0.0),
    (1.0, 3, 1e-6, 0.0),
    (1.0, 0, 1.0, 1.0),
]


# The last in one block, the one before in three.
@pytest.mark.parametrize("vocab,allowed,times,block", [(1, 1, 1, 64), (150, 131, 1, 64), (200, 190, 2, 256)])
def test_draws_are_those_of_the_sampler(vocab, allowed, times, block):
    random = torch.Generator().manual_seed(vocab)
    settings = SETTINGS * times
    # Some of them equal, some masked.
    logits = (torch.randn(len(settings), vocab, generator=random) * 16).round() / 8
    shaped = logits.clone()
    shaped[:, 5::7] = MASKED
    logits[:, allowed:] = float("nan")
    token, fault, number = run(logits, shaped, settings, allowed, block)
    wanted = [exact(shaped[r, :allowed], number[r], *setting) for r, setting in enumerate(settings)]
    assert token == wanted and set(fault) == {0}


def test_more_candidates_than_top_p_looks_at_first():
    # Flat: nine tenths of the weight are more than the first 1024 of 1400.
    logits = torch.randn(2, 1400, generator=torch.Generator().manual_seed(1)) * 0.01
    token, _, number = run(logits, logits, [(1.0, 0, 0.95, 0.0), (1.0, 1100, 0.95, 0.0)], 1400, 1024)
    assert token == [exact(logits[0], number[0], 1.0, 0, 0.95, 0.0), exact(logits[1], number[1], 1.0, 1100, 0.95, 0.0)]


def test_what_cannot_be_drawn_is_told():
    logits = torch.zeros(4, 70)
    logits[0, 66], logits[1, 3], logits[2, 69] = float("nan"), float("inf"), float("nan")
    shaped = torch.zeros(4, 70)
    shaped[3] = MASKED
    token, fault, _ = run(logits, shaped, [(1.0, 0, 1.0, 0.0)] * 4, 67)
    assert fault == [1, 1, 0, 2] and token[:2] == [-1, -1] and token[3] == -1 and token[2] >= 0
    token, fault, _ = run(logits, shaped, [(0.0, 0, 1.0, 0.0)] * 4, 67, given=[5, 5, 66, -2])
    assert token == [-1, -1, 66, -1] and fault == [1, 1, 0, 0]
    assert run(torch.zeros(0, 8), torch.zeros(0, 8), [], 8)[0] == []


def test_rules_are_those_of_a_hand_calculation():
    b = Buffers()
    none, large = MASKED, torch.finfo(torch.float32).max
    raw = b.of(torch.tensor([[2.0, -2.0, 4.0, -4.0, 0.0, 1.0]] * 5 + [[large, -large, 1.0, 1.0, 1.0, 1.0]]))
    added, seen = torch.zeros(4, 6), torch.full((4, 6), -1, dtype=torch.int32)
    # Of a prompt 0, 1 and an output 3, 4, 3.
    seen[0] = torch.tensor([0, 0, -1, 2, 1, -1])
    added[1], seen[1] = torch.tensor([6.0, 0, -1.0, 0, 0, 0]), torch.tensor([0, -1, -1, 2, -1, -1])
    added[2] = torch.tensor([none, 0, none, 0, 0, 0])
    added[3], seen[3] = torch.tensor([100.0, -100.0, 0, 0, 0, 0]), torch.tensor([0, 0, 0, -1, -1, -1])
    shaped = b.result(6, 6)
    column = lambda values: b.of(torch.tensor(values))  # noqa: E731
    shape[(7, 1)](
        b.ints([6]), b.ints([0, 0, 1, -1, 2, 3]), raw, b.of(added), b.ints(seen), column([2.0, 1.0, 2.0, 9.0, 1.0, 0.01]),
        column([0.0, 0.5, 0.5, 9.0, 0.0, 0.0]), column([0.0, -1.5, 1.0, 9.0, 0.0, 0.0]), shaped, 6, BLOCK=8,
    )  # fmt: skip
    wanted = [
        [1.0, -4.0, 4.0, -8.0, 0.0, 1.0],
        [2.0, -2.0, 4.0, -3.5, 1.0, 1.0],
        # Bias first, then repetition, then frequency and presence of the output alone.
        [4.0, -2.0, 3.0, -10.0, 0.0, 1.0],
        [2.0, -2.0, 4.0, -4.0, 0.0, 1.0],
        [none, -2.0, none, -4.0, 0.0, 1.0],
        [large, float(torch.tensor(-large) * torch.tensor(0.01)), 100.0, 1.0, 1.0, 1.0],
    ]
    assert torch.allclose(shaped, torch.tensor(wanted), rtol=1e-6, atol=0)
    # Ids beyond the vocabulary change nothing.
    ban[(7,)](b.ints([6]), b.ints([0, 0, 3, 3, 3, 3, 4]), b.ints([1, 5, 99, 0]), shaped, 6, BLOCK=2)
    assert [torch.isinf(row).nonzero().flatten().tolist() for row in shaped] == [[], [1, 5], [], [], [0, 2], [0]]
    b.check()


def test_what_was_drawn_is_remembered():
    b = Buffers()
    seen = b.ints([-1, 0, 4, -1, -1, -1]).view(2, 3)
    for token in ([0, 2], [1, -1], [2, 2], [2, 0]):
        remember[(4,)](b.ints([2]), b.ints([0, 1]), b.ints(token), seen, 3)
    assert seen.tolist() == [[1, 1, 6], [1, -1, 2]]
    remember[(2,)](b.ints([1]), b.ints([-1]), b.ints([1]), seen, 3)
    assert seen.tolist() == [[1, 1, 6], [1, -1, 2]]
    b.check()


def test_log_probabilities_are_those_of_a_hand_calculation():
    b = Buffers()
    logits = b.of(torch.tensor([1.0, 2.0, 4.0, 2.0, 1.0]).log().repeat(3, 1))
    token, counts = b.ints([3, 2, -1]), b.ints([4, 0, 4])
    logprob, rank, top_id, top = b.result(3), b.ints([-7] * 3), b.ints([-7] * 12).view(3, 4), b.result(3, 4)
    score[(4,)](b.ints([3]), logits, token, counts, logprob, rank, top_id, top, 5, 5, 4, BLOCK=2)
    assert torch.allclose(logprob[:2], torch.tensor([0.2, 0.4]).log(), atol=1e-6) and unwritten(logprob[2:])
    assert rank.tolist() == [3, 1, -7]
    # The lowest id first among equals.
    assert top_id.tolist() == [[2, 1, 3, 0], [-7] * 4, [-7] * 4]
    assert torch.allclose(top[0], torch.tensor([0.4, 0.2, 0.2, 0.1]).log(), atol=1e-6) and unwritten(top[1:])
    b.check()


@pytest.mark.parametrize("vocab", [1, 100])
def test_scores_of_any_row(vocab):
    b = Buffers(vocab)
    logits = b.of((torch.randn(4, vocab, generator=b.random) * 8).round() / 4)
    tokens = [0, vocab // 2, vocab - 1, vocab // 3]
    logprob, rank, top_id, top = b.result(4), b.ints([0] * 4), b.ints([0] * 80).view(4, 20), b.result(4, 20)
    score[(4,)](b.ints([4]), logits, b.ints(tokens), b.ints([20] * 4), logprob, rank, top_id, top, vocab, vocab, 20, BLOCK=BLOCK)
    wanted = torch.log_softmax(logits.double(), 1)
    count = min(20, vocab)
    for r, token in enumerate(tokens):
        order = ranked(logits[r], range(vocab))
        # Equal logits of both signs of zero are one: by id.
        order = sorted(order, key=lambda id: (-float(logits[r, id]), id))
        assert rank[r] == order.index(token) + 1 and top_id[r, :count].tolist() == order[:count]
        assert abs(logprob[r].double() - wanted[r, token]) < 1e-6
        assert (top[r, :count].double() - wanted[r, order[:count]]).abs().max() < 1e-6
    assert blocks(vocab, BLOCK) >= 1
    b.check()
