"""y = f(x), pointwise.

Shapes: x, y [rows, width] f32; y may be x. Programs: (rows, width / BLOCK).
Maths: as in mod.rs beside this; f is a number of FUNCTIONS, and `first`, `second` are its constants.
Error: within 4e-7 (1 + |x|) of the exact function.
"""

import triton
import triton.language as tl

# Numbers of the functions. Of those with constants: scale (c), softcap (c), clamped_swish (alpha, limit), clamped_plus_one (limit).
FUNCTIONS = {
    "silu": 0,
    "gelu": 1,
    "gelu_tanh": 2,
    "relu": 3,
    "relu2": 4,
    "sigmoid": 5,
    "scale": 6,
    "softcap": 7,
    "clamped_swish": 8,
    "clamped_plus_one": 9,
}


@triton.jit
def logistic(x):
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """tanh x: Cephes' polynomial up to 0.625, where 1 - 2 / (e^2|x| + 1) would cancel."""
    size = tl.abs(x)
    square = x * x
    near = -5.70498872745e-3 * square + 2.06390887954e-2
    near = near * square - 5.37397155531e-2
    near = near * square + 1.33314422036e-1
    near = near * square - 3.33332819422e-1
    near = near * square * x + x
    far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
    return tl.where(size < 0.625, near, tl.where(x < 0, -far, far))


@triton.jit
def function(x, f, first, second):
    """f(x) by the number of f, which is the same for all of a launch."""
    y = x
    if f == 0:
        y = x * logistic(x)
    elif f == 1:
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif f == 2:
        # 2 sqrt(2 / pi), and the same times 0.044715: x / 2 (1 + tanh z) is x logistic(2 z).
        y = x * logistic(1.5957691216057308 * x + 0.07135481282553424 * x * x * x)
    elif f == 3:
        y = tl.maximum(x, 0.0)
    elif f == 4:
        y = tl.maximum(x, 0.0) * tl.maximum(x, 0.0)
    elif f == 5:
        y = logistic(x)
    elif f == 6:
        y = x * first
    elif f == 7:
        y = first * tanh(x / first)
    elif f == 8:
        held = tl.minimum(x, second)
        y = held * logistic(first * held)
    else:
        y = tl.minimum(tl.maximum(x, -first), first) + 1.0
    return y


@triton.jit
def unary(rows, x, y, width, f, first, second, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * width + column
    value = tl.load(x + at, mask=column < width, other=0.0)
    tl.store(y + at, function(value, f, first, second), mask=column < width)
