"""Buffers that show what a kernel should not have done: results begin as NaN, and every buffer has borders that must stay as they were.

A border of an input is NaN too, so that an element read from outside makes the results NaN.
"""

import torch

BORDER = 64
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
# What is lost by rounding operands to a type, relative to the length of the result.
BOUND = {"f32": 2e-6, "bf16": 1e-2, "f16": 2e-3}
# In the borders of integers: no valid row, page or span.
STRANGE = -(1 << 20)


class Buffers:
    """The buffers of one launch."""

    def __init__(self, seed=0):
        self.random = torch.Generator().manual_seed(seed)
        self.all = []

    def of(self, values):
        """A buffer with these values."""
        flat = values.contiguous().view(-1)
        border = STRANGE if not flat.dtype.is_floating_point else float("nan")
        if flat.element_size() == 1:
            border = 0x5A
        whole = torch.full((flat.numel() + 2 * BORDER,), border, dtype=flat.dtype)
        inner = whole[BORDER : BORDER + flat.numel()]
        inner.copy_(flat)
        self.all.append((whole, bits(whole)))
        return inner.view(values.shape)

    def normal(self, *shape, dtype="f32", scale=1.0):
        """Normal values, rounded to a type."""
        return self.of((torch.randn(*shape, generator=self.random) * scale).to(DTYPES[dtype]))

    def ints(self, values):
        """i32."""
        return self.of(torch.as_tensor(values, dtype=torch.int32).reshape(-1))

    def result(self, *shape, dtype="f32"):
        """NaN."""
        return self.of(torch.full(shape, float("nan"), dtype=DTYPES[dtype]))

    def check(self):
        """Every border is as it was."""
        for whole, before in self.all:
            now = bits(whole)
            assert torch.equal(now[:BORDER], before[:BORDER]), "written before a buffer"
            assert torch.equal(now[-BORDER:], before[-BORDER:]), "written behind a buffer"


def bits(values):
    """The elements as integers of their size."""
    sizes = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return values.clone().view(sizes[values.element_size()])


def distance(got, wanted):
    """Length of the difference over the length of what is wanted; 0 for empty ones."""
    got, wanted = got.double(), wanted.double()
    assert got.shape == wanted.shape, f"{tuple(got.shape)} is not {tuple(wanted.shape)}"
    if wanted.numel() == 0:
        return 0.0
    assert not torch.isnan(got).any(), f"{int(torch.isnan(got).sum())} elements of {got.numel()} were not written, or are NaN"
    length = wanted.norm().item()
    return (got - wanted).norm().item() / length if length > 0 else (got - wanted).norm().item()


def close(got, wanted, bound):
    """Within a bound of what is wanted, which is f64; the distance."""
    far = distance(got, wanted)
    assert far <= bound, f"distance {far:.3e} is over {bound:.1e}"
    return far


def unwritten(values):
    """All elements are NaN still."""
    return bool(torch.isnan(values.float()).all())


def blocks(count, size):
    """Programs that cover a count; at least one, as a grid has no empty axis."""
    return max(1, -(-count // size))
