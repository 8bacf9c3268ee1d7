"""scan_prompt and scan_steps against the recurrences in f64, row by row, over sequences cut into steps in several ways."""

from dataclasses import dataclass

import pytest
import torch
from buffers import Buffers, blocks, close
from ops.scan.triton import scan_prompt, scan_steps
from sequences import Span, Step

ENDLESS = float("inf")


@dataclass
class Shape:
    """Heads, dims, and which recurrence."""

    delta: int = 0
    heads: int = 1
    group: int = 2
    key_dim: int = 16
    value_dim: int = 20
    low: float = 0.0
    high: float = ENDLESS
    skips: int = 1

    @property
    def values(self):
        return self.heads * self.group

    @property
    def state(self):
        return self.values * self.key_dim * self.value_dim

    @property
    def slot_len(self):
        # A little more than is needed, as the engine's slots have.
        return self.state + self.heads * 16 * self.key_dim + self.values * 16 * (self.value_dim + 1) + 8


class Inputs:
    """What a sequence is scanned with."""

    def __init__(self, b, shape, rows):
        s = shape
        self.q, self.k = b.normal(rows, s.heads, s.key_dim), b.normal(rows, s.heads, s.key_dim)
        self.v = b.normal(rows, s.values, s.value_dim)
        self.dt, self.beta = b.normal(rows, s.values, scale=2.0), b.normal(rows, s.values)

    def cut(self, b, first, rows):
        own = object.__new__(Inputs)
        for name, value in vars(self).items():
            setattr(own, name, b.of(value[first : first + rows]))
        return own


def exact(s, x, a_log, skip):
    """The results of a whole sequence, and its state behind every row."""
    rows = len(x.v)
    y, states = torch.zeros(rows, s.values, s.value_dim, dtype=torch.float64), []
    state = torch.zeros(s.values, s.key_dim, s.value_dim, dtype=torch.float64)
    for t in range(rows):
        for h in range(s.values):
            q, k, v = x.q[t, h // s.group].double(), x.k[t, h // s.group].double(), x.v[t, h].double()
            delta = torch.nn.functional.softplus(x.dt[t, h].double())
            if not s.delta:
                delta = delta.clamp(s.low, s.high)
            state[h] *= torch.exp(-torch.exp(a_log[h].double()) * delta)
            if s.delta:
                k = k / (k @ k + 1e-6).sqrt()
                q = q / (q @ q + 1e-6).sqrt() / s.key_dim**0.5
                u = torch.sigmoid(x.beta[t, h].double()) * (v - k @ state[h])
            else:
                u = delta * v
            state[h] += torch.outer(k, u)
            y[t, h] = q @ state[h] + (skip[h].double() * v if s.skips else 0)
        states.append(state.clone())
    return y, states


def step(b, s, x, a_log, skip, states, spans, from_, to, snaps=()):
    """One step; snaps are, of each span, (end, slot)."""
    at = Step(b, spans)
    y = b.result(at.rows_count, s.values, s.value_dim)
    snaps = snaps or [[] for _ in spans]
    first_snap = [sum(len(own) for own in snaps[:i]) for i in range(len(spans) + 1)]
    flat = [snap for own in snaps for snap in own]
    count, from_, to = b.ints([len(spans)]), b.ints(from_), b.ints(to)
    operands = (
        x.q, x.k, x.v, x.dt, x.beta, a_log, skip, y, states, states.shape[1], s.heads, s.group, s.key_dim, s.value_dim,
        s.skips, s.low, s.high,
    )  # fmt: skip
    grid = (len(spans) + 1, s.values, blocks(s.value_dim, 16))
    # Two blocks of keys, the second in part or whole beyond them.
    sizes = dict(DELTA=s.delta, BLOCKS=2, BLOCK_K=8 if s.key_dim <= 16 else 16, BLOCK_V=16)
    scan_prompt[grid](
        count, at.span_first_row, at.span_rows, at.span_start, at.span_prompt, from_, to, b.ints(first_snap),
        b.ints([snap[0] for snap in flat]), b.ints([snap[1] for snap in flat]), *operands, **sizes,
    )  # fmt: skip
    scan_steps[grid](
        count, at.span_first_row, at.span_rows, at.span_start, at.span_prompt, from_, to, *operands,
        DELTA=s.delta, KEY=16, BLOCK_V=16,
    )  # fmt: skip
    return y


def run(s, rows, prompt, cuts, seed=0):
    """A sequence in steps of these rows: the results, the last state, and what was wanted of both."""
    b = Buffers(seed)
    x, a_log, skip = Inputs(b, s, rows), b.normal(s.values, scale=0.5), b.normal(s.values)
    states = b.of(torch.full((2, s.slot_len), float("nan")))
    got, first, slot = [], 0, -1
    for number, count in enumerate(cuts):
        to = number % 2
        got.append(step(b, s, x.cut(b, first, count), a_log, skip, states, [Span(first, count, prompt)], [slot], [to]))
        first, slot = first + count, to
    b.check()
    wanted, wanted_states = exact(s, x, a_log, skip)
    state = states[slot, : s.state].view(s.values, s.key_dim, s.value_dim)
    return torch.cat(got), state.clone(), wanted, wanted_states


SHAPES = [
    Shape(),
    Shape(heads=2, group=1, skips=0, low=0.1, high=1.5),
    Shape(delta=1, skips=0),
    Shape(delta=1, heads=2, group=2, key_dim=12, value_dim=8, skips=0),
]


def near(got, wanted):
    assert ((got.double() - wanted).abs() <= 2e-5 * wanted.abs().max()).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows,prompt", [(1, 1), (1, 0), (16, 16), (19, 17), (21, 30), (37, 35)])
def test_a_sequence_is_the_recurrence(shape, rows, prompt):
    y, state, wanted, wanted_states = run(shape, rows, prompt, [rows])
    near(y, wanted)
    # Within a chunk that goes on, the state is that of the last border.
    last = rows if rows >= prompt else rows // 16 * 16
    if last:
        near(state, wanted_states[last - 1])


@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_a_row_has_the_same_bits_however_the_sequence_is_cut(shape):
    whole, state, wanted, _ = run(shape, 37, 35, [37])
    near(whole, wanted)
    for cuts in ([1, 36], [5, 6, 3, 2, 16, 5], [16, 17, 2, 1, 1], [15, 2, 20]):
        y, other, _, _ = run(shape, 37, 35, cuts)
        assert torch.equal(y.view(torch.int32), whole.view(torch.int32)), cuts
        assert torch.equal(other.view(torch.int32), state.view(torch.int32)), cuts


@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_spans_snapshots_and_states_of_one_step(shape):
    s = shape
    b = Buffers(3)
    one, two, a_log, skip = Inputs(b, s, 40), Inputs(b, s, 3), b.normal(s.values), b.normal(s.values)
    states = b.of(torch.full((6, s.slot_len), float("nan")))
    both = object.__new__(Inputs)
    for name in vars(one):
        setattr(both, name, b.of(torch.cat([getattr(one, name), getattr(two, name)])))
    spans = [Span(0, 40, 64), Span(0, 3, 1)]
    y = step(b, s, both, a_log, skip, states, spans, [-1, -1], [0, 1], [[(16, 2), (32, 3)], []])
    first, first_states = exact(s, one, a_log, skip)
    second, second_states = exact(s, two, a_log, skip)
    near(y[:40], first)
    near(y[40:], second)
    state = lambda slot: states[slot, : s.state].view(s.values, s.key_dim, s.value_dim)  # noqa: E731
    near(state(2), first_states[15])
    near(state(3), first_states[31])
    near(state(1), second_states[2])
    # The chunk goes on: the state is that of the snapshot before it.
    assert torch.equal(state(0), state(3)) and torch.isnan(states[4:]).all()
    b.check()


def test_no_rows():
    b, s = Buffers(), Shape()
    step(b, s, Inputs(b, s, 0), b.normal(2), b.normal(2), b.of(torch.zeros(1, s.slot_len)), [], [], [])
    b.check()
