"""int4, int8 and fp8 against f64 of the weights they stand for and of x rounded to bf16."""

import pytest
import torch
from buffers import Buffers, blocks, close, unwritten
from ops.quantised.triton import fp8, gather_int4, gather_int8, int4, int8

SHAPES = [(0, 8), (1, 1), (1, 70), (3, 64), (18, 20)]


def grid(rows, n):
    return (blocks(n, 64), blocks(rows, 16) + 1)


def packed(w, half):
    """Of each run of 2 half terms, byte i has term i in its low half and term half + i in its high one."""
    n, k = w.shape
    runs = w.view(n, k // (2 * half), 2, half)
    return (runs[:, :, 0] | (runs[:, :, 1] << 4)).reshape(n, k // 2)


@pytest.mark.parametrize("group,k", [(32, 64), (32, 192), (64, 128), (128, 128), (128, 384)])
@pytest.mark.parametrize("rows,n", SHAPES)
def test_int4_with_scales_and_zeros_of_groups(rows, n, group, k):
    b = Buffers(n)
    x, y = b.normal(rows, k), b.result(rows, n)
    w = torch.randint(0, 16, (n, k), generator=b.random, dtype=torch.uint8)
    scales = b.of(torch.rand(k // group, n, generator=b.random) + 0.5)
    zeros = b.of(torch.randint(0, 16, (k // group, n), generator=b.random, dtype=torch.uint8))
    half = min(group, 64)
    int4[grid(rows, n)](
        b.ints([rows]), x, b.of(packed(w, half)), scales, zeros, y, n, k, GROUP=group, BLOCK_N=64, BLOCK_R=16
    )
    spread = lambda of_group: of_group.double().T.repeat_interleave(group, 1)  # noqa: E731
    wanted = x.bfloat16().double() @ ((w.double() - spread(zeros)) * spread(scales)).T
    close(y, wanted, 2e-6)
    close(y, x.double() @ ((w.double() - spread(zeros)) * spread(scales)).T, 1e-2)
    b.check()


@pytest.mark.parametrize("k", [32, 128, 224])
@pytest.mark.parametrize("rows,n", SHAPES)
def test_int8_with_scales_of_groups(rows, n, k):
    b = Buffers(n)
    x, y = b.normal(rows, k), b.result(rows, n)
    scales = b.of(torch.rand(k // 32, n, generator=b.random))
    w = torch.randint(-128, 128, (n, k), generator=b.random, dtype=torch.int8)
    int8[grid(rows, n)](b.ints([rows]), x, b.of(w), scales, y, n, k, GROUP=32, BLOCK_N=64, BLOCK_R=16)
    close(y, x.bfloat16().double() @ (w.double() * scales.double().T.repeat_interleave(32, 1)).T, 2e-6)
    b.check()


@pytest.mark.parametrize("k", [64, 192])
def test_lookups_give_the_weights_themselves(k):
    b, n, first = Buffers(k), 20, 5
    ids = [5, 24, 4, 25, 12]
    scales = torch.randn(k // 32, n, generator=b.random)
    of = scales.T.repeat_interleave(32, 1)
    eight = torch.randint(-128, 128, (n, k), generator=b.random, dtype=torch.int8)
    four = torch.randint(0, 16, (n, k), generator=b.random, dtype=torch.uint8)
    zeros = torch.randint(0, 16, (k // 32, n), generator=b.random, dtype=torch.uint8)
    y8, y4, scales = b.result(len(ids), k), b.result(len(ids), k), b.of(scales)
    count, ids_at = b.ints([len(ids)]), b.ints(ids)
    on = (len(ids), blocks(k, 128))
    gather_int8[on](count, ids_at, b.of(eight), scales, y8, first, n, k, GROUP=32, BLOCK=128)
    gather_int4[on](
        count, ids_at, b.of(packed(four, 32)), scales, b.of(zeros), y4, first, n, k, GROUP=32, BLOCK=128
    )
    less = four.float() - zeros.T.repeat_interleave(32, 1).float()
    for y, whole in [(y8, eight.float() * of), (y4, less * of)]:
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
    int8[(1, 2)](
        b.ints([3]), x, b.of(torch.ones(8, 64, dtype=torch.int8)), scales, y, 8, 64, GROUP=32, BLOCK_N=64, BLOCK_R=16
    )
    assert not torch.isnan(y[:3]).any() and unwritten(y[3:])
