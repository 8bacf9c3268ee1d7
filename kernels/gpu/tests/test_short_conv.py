"""convolve and keep against f64 over whole sequences, cut into steps in several ways."""

import pytest
import torch
from buffers import Buffers, blocks, close
from ops.short_conv.triton import convolve, keep
from sequences import Span, Step


def step(b, states, spans, from_, to, snapshots, x, w):
    """One step: the result; snapshots are (span, end, slot)."""
    s = Step(b, spans)
    channels, taps = w.shape
    y = b.result(*x.shape)
    slot_len, blocks_ = states.shape[1], blocks(channels, 32)
    from_, to = b.ints(from_), b.ints(to)
    snaps = [b.ints([snap[i] for snap in snapshots]) for i in range(3)]
    convolve[(s.rows_count + 1, blocks_)](
        s.rows, s.row_span, s.span_first_row, from_, x, w, y, states, slot_len, channels, taps, BLOCK=32
    )
    keep[(len(spans) + len(snapshots) + 1, blocks_)](
        b.ints([len(spans)]), b.ints([len(snapshots)]), s.span_first_row, s.span_rows, s.span_start, from_, to, *snaps,
        x, states, slot_len, channels, taps, BLOCK=32,
    )  # fmt: skip
    return y


def exact(x, w):
    taps = w.shape[1]
    padded = torch.cat([torch.zeros(taps - 1, x.shape[1]), x]).double()
    return sum(padded[j : j + len(x)] * w[:, j].double() for j in range(taps))


@pytest.mark.parametrize("taps", [2, 4, 8])
@pytest.mark.parametrize("cuts", [[20], [1, 19], [3, 1, 1, 2, 13], [16, 1, 1, 1, 1]])
def test_a_sequence_is_the_same_however_it_is_cut(taps, cuts):
    b = Buffers(taps)
    channels = 40
    x, w = b.normal(20, channels), b.normal(channels, taps)
    states = b.of(torch.full((3, (taps - 1) * channels), float("nan")))
    got, at, slot = [], 0, -1
    for number, rows in enumerate(cuts):
        own, to = b.of(x[at : at + rows]), number % 2
        got.append(step(b, states, [Span(at, rows, 20)], [slot], [to], [], own, w))
        at, slot = at + rows, to
    y = torch.cat(got)
    close(y, exact(x, w), 4e-7)
    last = torch.cat([torch.zeros(taps - 1, channels), x])[-(taps - 1) :]
    assert torch.equal(states[slot].view(taps - 1, channels), last)
    assert torch.isnan(states[2]).all()
    b.check()


def test_spans_and_snapshots_of_one_step():
    b = Buffers()
    channels, taps = 20, 4
    x, w = b.normal(26, channels), b.normal(channels, taps)
    states = b.of(torch.full((8, 3 * channels), float("nan")))
    past = torch.randn(3, channels, generator=b.random)
    states[5] = past.view(-1)
    # A prompt from its beginning with a snapshot at 16; one row behind a past; a prompt that goes on, with a snapshot near its start.
    spans = [Span(0, 20, 20), Span(9, 1, 4), Span(15, 5, 40)]
    y = step(b, states, spans, [-1, 5, 5], [0, 1, 2], [(0, 16, 3), (2, 16, 4)], x, w)
    close(y[:20], exact(x[:20], w), 4e-7)
    close(y[20:21], exact(torch.cat([past, x[20:21]]), w)[3:], 4e-7)
    close(y[21:], exact(torch.cat([past, x[21:]]), w)[3:], 4e-7)
    rows = lambda slot: states[slot].view(3, channels)  # noqa: E731
    assert torch.equal(rows(0), x[17:20]) and torch.equal(rows(3), x[13:16])
    assert torch.equal(rows(1), torch.cat([past[1:], x[20:21]]))
    assert torch.equal(rows(2), x[23:26]) and torch.equal(rows(4), torch.cat([past[1:], x[21:22]]))
    assert torch.equal(rows(5), past) and torch.isnan(states[6:]).all()
    b.check()


def test_no_rows():
    b = Buffers()
    states = b.of(torch.zeros(1, 24))
    step(b, states, [], [], [], [], b.normal(0, 8), b.normal(8, 4))
    b.check()
