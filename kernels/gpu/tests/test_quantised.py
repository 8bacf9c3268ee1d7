"""contract_blocks and fp8 against f64 of the weights they stand for and of x rounded to bf16."""

import pytest
import torch
from buffers import Buffers, blocks, close, unwritten
from ops.quantised.triton import contract_blocks, fp8, gather_int4, gather_int8

SHAPES = [(0, 8), (1, 1), (1, 70), (3, 64), (18, 20)]


def grid(rows, n):
    return (blocks(n, 64), blocks(rows, 16) + 1)


def packed(w, half):
    """Of each run of 2 half terms, byte i has term i in its low half and term half + i in its high one."""
    n, k = w.shape
    runs = w.view(n, k // (2 * half), 2, half)
    return (runs[:, :, 0] | (runs[:, :, 1] << 4)).reshape(n, k // 2)


def run(b, x, weights, bits, part, parted, at_once):
    """x times each weight (codes, scales), in one launch."""
    (rows, k), tiles = x.shape, sum(blocks(scales.shape[1], 64) for _, scales in weights)
    row_tiles, runs = blocks(rows, 16) + 1, blocks(k, part)
    ys = [b.result(rows, scales.shape[1]) for _, scales in weights]
    parts, arrived = b.result(row_tiles * tiles, runs, 64 * 16), b.ints([0] * row_tiles * tiles)
    absent = 3 - len(weights)
    codes, scales = zip(*weights, *weights[:1] * absent)
    ns = [len(c) for c, _ in weights] + [0] * absent
    contract_blocks[(tiles, row_tiles, runs if parted == 2 else 1)](
        b.ints([rows]), x, *codes, *scales, *ys, *ys[:1] * absent, parts, arrived, *ns, k, part,
        BITS=bits, GROUP=32, PARTED=parted, AT_ONCE=at_once, BLOCK_N=64, BLOCK_R=16,
    )  # fmt: skip
    assert not arrived.any()
    return ys


def made(b, n, k, bits):
    """Codes and scales in buffers, and the weights they stand for."""
    scales = torch.rand(k // 32, n, generator=b.random) + 0.5
    if bits == 8:
        codes = torch.randint(-128, 128, (n, k), generator=b.random, dtype=torch.int8)
        held, values = codes, codes.double()
    else:
        codes = torch.randint(0, 16, (n, k), generator=b.random, dtype=torch.uint8)
        held, values = packed(codes, 32), codes.double() - 8
    return (b.of(held), b.of(scales)), values * scales.double().T.repeat_interleave(32, 1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("k,part", [(64, 64), (192, 64), (256, 128)])
@pytest.mark.parametrize("rows,n", SHAPES)
def test_groups_are_the_products(rows, n, k, part, bits):
    b = Buffers(n)
    x, (held, w) = b.normal(rows, k), made(b, n, k, bits)
    (y,) = run(b, x, [held], bits, part, 1, 64)
    close(y, x.bfloat16().double() @ w.T, 2e-6)
    for at_once in (64, part):
        (apart,) = run(b, x, [held], bits, part, 2, at_once)
        assert torch.equal(apart, y)
    b.check()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_side_by_side_are_each_as_alone(bits):
    b = Buffers()
    x, weights = b.normal(19, 128), [made(b, n, 128, bits)[0] for n in (70, 1, 130)]
    for y, weight in zip(run(b, x, weights, bits, 64, 2, 64), weights, strict=True):
        assert torch.equal(y, run(b, x, [weight], bits, 64, 1, 64)[0])
    b.check()


@pytest.mark.parametrize("k", [64, 192])
def test_lookups_give_the_weights_themselves(k):
    b, n, first = Buffers(k), 20, 5
    ids = [5, 24, 4, 25, 12]
    scales = torch.randn(k // 32, n, generator=b.random)
    of = scales.T.repeat_interleave(32, 1)
    eight = torch.randint(-128, 128, (n, k), generator=b.random, dtype=torch.int8)
    four = torch.randint(0, 16, (n, k), generator=b.random, dtype=torch.uint8)
    y8, y4, scales = b.result(len(ids), k), b.result(len(ids), k), b.of(scales)
    count, ids_at = b.ints([len(ids)]), b.ints(ids)
    on = (len(ids), blocks(k, 128))
    gather_int8[on](count, ids_at, b.of(eight), scales, y8, first, n, k, GROUP=32, BLOCK=128)
    gather_int4[on](count, ids_at, b.of(packed(four, 32)), scales, y4, first, n, k, GROUP=32, BLOCK=128)
    for y, whole in [(y8, eight.float() * of), (y4, (four.float() - 8) * of)]:
        for row, entry in enumerate(ids):
            held = first <= entry < first + n
            assert torch.equal(y[row].cpu(), whole[entry - first] if held else torch.zeros(k))
    b.check()


@pytest.mark.parametrize("k", [16, 128, 208])
@pytest.mark.parametrize("rows,n,scale_rows", [(0, 8, 1), (1, 1, 1), (3, 64, 32), (18, 70, 32), (2, 20, 20)])
def test_fp8_with_scales_of_blocks(rows, n, scale_rows, k):
    b = Buffers(n)
    x, y, group = b.normal(rows, k), b.result(rows, n), 64
    scales = b.of(torch.rand(-(-n // scale_rows), -(-k // group), generator=b.random) + 0.5)
    # All finite bytes: the smallest ones, which are subnormal, as well.
    bits = torch.randint(0, 256, (n, k), generator=b.random, dtype=torch.uint8)
    bits[(bits & 0x7F) == 0x7F] = 0
    w = bits.view(torch.float8_e4m3fn)
    held = b.of(bits).view(torch.float8_e4m3fn)
    fp8[grid(rows, n)](b.ints([rows]), x, held, scales, y, n, k, scale_rows, GROUP=group, BLOCK_N=64, BLOCK_R=16)
    whole = scales.double().repeat_interleave(scale_rows, 0)[:n].repeat_interleave(group, 1)[:, :k]
    close(y, x.bfloat16().double() @ (w.double() * whole).T, 2e-6)
    b.check()


def test_rows_beyond_the_count_are_left_alone():
    b = Buffers()
    x, y, scales = b.normal(20, 64), b.result(20, 8), b.of(torch.ones(2, 8))
    w = b.of(torch.ones(8, 64, dtype=torch.int8))
    contract_blocks[(1, 2)](
        b.ints([3]), x, w, w, w, scales, scales, scales, y, y, y, b.result(1), b.ints([0]), 8, 0, 0, 64, 64,
        BITS=8, GROUP=32, PARTED=1, AT_ONCE=64, BLOCK_N=64, BLOCK_R=16,
    )  # fmt: skip
    assert not torch.isnan(y[:3]).any() and unwritten(y[3:])
