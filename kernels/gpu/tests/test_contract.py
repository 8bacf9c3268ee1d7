"""contract and round_rows against f64 of the rounded operands."""

import pytest
import torch
from buffers import BOUND, DTYPES, Buffers, blocks, close, unwritten
from ops.contract.triton import contract, round_rows

SHAPES = [(0, 8, 16), (1, 1, 1), (1, 130, 64), (3, 20, 24), (17, 70, 130), (40, 64, 33)]
DT = ["f32", "bf16", "f16"]


def run(b, x, weights, rows, block_r, part=0, parted=None, even=0):
    """x times each weight, in one launch."""
    weights = weights if isinstance(weights, list) else [weights]
    k = weights[0].shape[1]
    tiles = sum(blocks(len(w), 64) for w in weights)
    row_tiles, runs = blocks(rows, block_r) + 1, blocks(k, part) if part else 1
    ys = [b.result(rows, len(w)) for w in weights]
    parts, arrived = b.result(row_tiles * tiles, runs, 64 * block_r), b.ints([0] * row_tiles * tiles)
    absent = 3 - len(weights)
    ws, outs, ns = weights + weights[:1] * absent, ys + ys[:1] * absent, [len(w) for w in weights] + [0] * absent
    parted = int(part > 0) if parted is None else parted
    grid = (tiles, row_tiles, runs if parted == 2 else 1)
    contract[grid](
        b.ints([rows]), x, *ws, *outs, parts, arrived, *ns, k, part,
        PARTED=parted, EVEN=even, EARLY=0, BLOCK_N=64, BLOCK_R=block_r, BLOCK_K=32,
    )  # fmt: skip
    assert not arrived.any()
    return ys if len(weights) > 1 else ys[0]


@pytest.mark.parametrize("dtype", DT)
@pytest.mark.parametrize("rows,n,k", SHAPES)
def test_contract_is_the_product(rows, n, k, dtype):
    b = Buffers(n)
    x, w = b.normal(rows, k), b.normal(n, k, dtype=dtype)
    y = run(b, x, w, rows, 16)
    close(y, x.to(w.dtype).double() @ w.double().T, 2e-6)
    close(y, x.double() @ w.double().T, BOUND[dtype])
    b.check()


@pytest.mark.parametrize("dtype", DT)
def test_a_row_is_the_same_beside_others(dtype):
    b = Buffers()
    x, w = b.normal(40, 70), b.normal(70, 70, dtype=dtype)
    rounded = b.result(40, 70, dtype=dtype)
    round_rows[(41, 2)](b.ints([40]), x, rounded, 70, BLOCK=64)
    assert torch.equal(rounded, x.to(DTYPES[dtype]))
    alone = run(b, x[:1].contiguous(), w, 1, 16)
    for block_r, given in [(16, x), (32, x), (64, rounded)]:
        y = run(b, given, w, 40, block_r)
        assert torch.equal(y[:1], alone)
    b.check()


@pytest.mark.parametrize("dtype", DT)
@pytest.mark.parametrize("rows,n,k,part", [(1, 64, 64, 64), (3, 70, 130, 32), (18, 20, 200, 64), (17, 70, 192, 64)])
def test_runs_are_the_same_additions_in_one_program_and_in_several(rows, n, k, part, dtype):
    b = Buffers()
    x, w = b.normal(rows, k), b.normal(n, k, dtype=dtype)
    in_turn = run(b, x, w, rows, 16, part)
    for even in (0, 1) if k % 32 == 0 and part % 32 == 0 else (0,):
        assert torch.equal(run(b, x, w, rows, 16, part, 2, even), in_turn)
        assert torch.equal(run(b, x, w, rows, 32, part, 1, even), in_turn)
    close(in_turn, x.to(w.dtype).double() @ w.double().T, 2e-6)
    b.check()


@pytest.mark.parametrize("part,parted", [(0, 0), (32, 1), (32, 2)])
@pytest.mark.parametrize("ns", [(70, 20), (64, 1, 130)])
def test_weights_side_by_side_are_each_as_alone(ns, part, parted):
    b = Buffers()
    x, weights = b.normal(19, 100), [b.normal(n, 100, dtype="bf16") for n in ns]
    for y, w in zip(run(b, x, weights, 19, 16, part, parted), weights, strict=True):
        assert torch.equal(y, run(b, x, w, 19, 16, part, parted))
    b.check()


def test_rows_beyond_the_count_are_left_alone():
    b = Buffers()
    x, w, y, parts = b.normal(20, 32), b.normal(64, 32), b.result(20, 64), b.result(1)
    contract[(1, 2)](
        b.ints([3]), x, w, w, w, y, y, y, parts, b.ints([0]), 64, 0, 0, 32, 0,
        PARTED=0, EVEN=1, EARLY=0, BLOCK_N=64, BLOCK_R=16, BLOCK_K=32,
    )  # fmt: skip
    assert not torch.isnan(y[:3]).any() and unwritten(y[3:])
