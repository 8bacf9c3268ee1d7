"""unary, gated, binary, bias, against f64."""

import math

import pytest
import torch
from buffers import Buffers, blocks, close, unwritten
from ops.bias.triton import bias
from ops.binary.triton import add, multiply
from ops.gated.triton import gated
from ops.unary.triton import FUNCTIONS, unary

BLOCK = 64
SHAPES = [(0, 8), (1, 1), (1, 64), (3, 20), (2, 130)]


def grid(rows, width):
    # A grid for more rows than there are: those beyond return.
    return (rows + 2, blocks(width, BLOCK))


def exact(name, x, first, second):
    held = x.clamp(max=second)
    return {
        "silu": x * torch.sigmoid(x),
        "gelu": x / 2 * (1 + torch.erf(x / math.sqrt(2))),
        "gelu_tanh": x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        "relu": x.clamp(min=0),
        "relu2": x.clamp(min=0) ** 2,
        "sigmoid": torch.sigmoid(x),
        "scale": x * first,
        "softcap": first * torch.tanh(x / first),
        "clamped_swish": held * torch.sigmoid(first * held),
        "clamped_plus_one": x.clamp(-first, first) + 1,
    }[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_near_the_exact_one(name):
    first, second = (1.702, 7.0) if name == "clamped_swish" else (2.5, 0.0)
    for rows, width in [*SHAPES, (1, 1000)]:
        b = Buffers(rows)
        # All sizes: the tails and the neighbourhood of zero.
        x = b.of(torch.randn(rows, width, generator=b.random) * 10 ** torch.linspace(-3, 1.5, max(width, 1))[:width])
        y = b.result(rows, width)
        unary[grid(rows, width)](b.ints([rows]), x, y, width, FUNCTIONS[name], first, second, BLOCK=BLOCK)
        wanted = exact(name, x.double(), first, second)
        assert ((y.double() - wanted).abs() <= 4e-7 * (1 + x.double().abs())).all() or name == "relu2"
        close(y, wanted, 1e-6)
        b.check()


def test_extremes_are_finite():
    for name, number in FUNCTIONS.items():
        b = Buffers()
        x = b.of(torch.tensor([[-1e4, -200.0, -90.0, -0.0, 90.0, 200.0, 1e4]]))
        y = b.result(1, 7)
        unary[(1, 1)](b.ints([1]), x, y, 7, number, 2.5, 7.0, BLOCK=BLOCK)
        assert torch.isfinite(y).all(), name
        close(y, exact(name, x.double(), 2.5, 7.0), 1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gated_is_the_function_times_up(name):
    for rows, width in SHAPES:
        b = Buffers(rows)
        gate, up = b.normal(rows, width), b.normal(rows, width)
        wanted = exact(name, gate.double(), 1.5, 0.5) * up.double()
        # In place of up.
        gated[grid(rows, width)](b.ints([rows]), gate, up, up, width, FUNCTIONS[name], 1.5, 0.5, BLOCK=BLOCK)
        close(up, wanted, 1e-6)
        b.check()


@pytest.mark.parametrize("rows,width", SHAPES)
def test_binary_has_one_rounding(rows, width):
    b = Buffers()
    one, two, total, product = b.normal(rows, width), b.normal(rows, width), b.result(rows, width), b.result(rows, width)
    add[grid(rows, width)](b.ints([rows]), one, two, total, width, BLOCK=BLOCK)
    multiply[grid(rows, width)](b.ints([rows]), one, two, product, width, BLOCK=BLOCK)
    assert torch.equal(total, one + two) and torch.equal(product, one * two)
    b.check()


@pytest.mark.parametrize("rows,width,n", [(0, 8, 8), (1, 1, 1), (3, 20, 20), (2, 130, 13), (2, 128, 64)])
def test_bias_repeats_along_the_row(rows, width, n):
    b = Buffers()
    x, w, y = b.normal(rows, width), b.normal(n), b.result(rows, width)
    bias[grid(rows, width)](b.ints([rows]), x, w, y, width, n, BLOCK=BLOCK)
    assert torch.equal(y, x + w.repeat(width // n))
    b.check()


def test_rows_beyond_the_count_are_left_alone():
    b = Buffers()
    x, y = b.normal(4, 20), b.result(4, 20)
    add[(4, 1)](b.ints([2]), x, x, y, 20, BLOCK=BLOCK)
    assert torch.equal(y[:2], x[:2] + x[:2]) and unwritten(y[2:])
