"""norm and add_norm against f64."""

import pytest
import torch
from buffers import Buffers, blocks, close, unwritten
from ops.norm.triton import add_norm, norm


def exact(x, w, eps, offset, layer):
    x = x.double()
    if layer:
        x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * (w.double() + offset)


CASES = [(0, 1, 1, 8), (1, 1, 1, 1), (1, 1, 1, 64), (3, 1, 1, 20), (5, 4, 1, 16), (2, 6, 3, 24), (2, 1, 1, 100)]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("rows,runs,turns,n", CASES)
def test_norm_of_runs_by_weights_in_turn(rows, runs, turns, n, layer):
    b = Buffers(n)
    x, w = b.of(torch.randn(rows, runs, n, generator=b.random) * 3 + 1), b.normal(turns, n)
    wanted = exact(x, w.repeat(runs // turns, 1), 1e-5, 1.0, layer)
    # In place.
    norm[(blocks(rows * runs, 4) + 1,)](
        b.ints([rows]), x, w, x, runs, turns, n, 1e-5, 1.0, LAYER=layer, RUNS=4, BLOCK=128
    )
    close(x, wanted, 1e-6)
    b.check()


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("rows,n", [(0, 8), (1, 1), (1, 64), (3, 20), (4, 130)])
def test_add_norm_keeps_the_sum(rows, n, layer):
    b = Buffers(n)
    one, two, w, y = b.normal(rows, n), b.normal(rows, n), b.normal(n), b.result(rows, n)
    wanted = one + two
    add_norm[(rows + 2,)](b.ints([rows]), one, two, one, w, y, n, 1e-6, 0.0, LAYER=layer, BLOCK=256)
    assert torch.equal(one, wanted), "sum may be a"
    # Two equal numbers have no variance worth a relative bound.
    close(y, exact(wanted, w, 1e-6, 0.0, layer), 1e-6)
    b.check()


def test_a_row_of_zeros_stays_zero():
    b = Buffers()
    x, y = b.of(torch.zeros(2, 20)), b.result(2, 20)
    norm[(2,)](b.ints([2]), x, b.normal(20), y, 1, 1, 20, 1e-6, 0.0, LAYER=0, RUNS=1, BLOCK=32)
    assert torch.equal(y, torch.zeros(2, 20))


def test_rows_beyond_the_count_are_left_alone():
    b = Buffers()
    x, y = b.normal(4, 2, 16), b.result(4, 2, 16)
    norm[(2,)](b.ints([1]), x, b.normal(16), y, 2, 1, 16, 1e-6, 0.0, LAYER=0, RUNS=4, BLOCK=16)
    assert not torch.isnan(y[:1]).any() and unwritten(y[1:])
