"""contract, contract_part, merge_parts, round_rows against f64 of the rounded operands."""

import pytest
import torch
from buffers import BOUND, DTYPES, Buffers, blocks, close, unwritten
from ops.contract.triton import contract, contract_part, merge_parts, round_rows

SHAPES = [(0, 8, 16), (1, 1, 1), (1, 130, 64), (3, 20, 24), (17, 70, 130), (40, 64, 33)]
DT = ["f32", "bf16", "f16"]


def run(b, x, w, rows, block_r, part=0):
    n, k = w.shape
    y = b.result(rows, n)
    grid = (blocks(n, 64), blocks(rows, block_r) + 1)
    contract[grid](b.ints([rows]), x, w, y, n, k, part, PARTED=part > 0, BLOCK_N=64, BLOCK_R=block_r, BLOCK_K=32)
    return y


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
@pytest.mark.parametrize("rows,n,k,part", [(1, 64, 64, 64), (3, 70, 130, 32), (18, 20, 200, 64)])
def test_parts_are_the_same_additions_in_one_program_and_in_two(rows, n, k, part, dtype):
    b = Buffers()
    x, w = b.normal(rows, k), b.normal(n, k, dtype=dtype)
    count = -(-k // part)
    parts, merged = b.result(count, rows, n), b.result(rows, n)
    contract_part[(blocks(n, 64), blocks(rows, 16) + 1, count)](
        b.ints([rows]), x, w, parts, rows * n, n, k, part, BLOCK_N=64, BLOCK_R=16, BLOCK_K=32
    )
    merge_parts[(rows + 1, blocks(n, 64))](b.ints([rows]), parts, merged, rows * n, count, n, BLOCK=64)
    whole = run(b, x, w, rows, 16, part)
    assert torch.equal(whole, merged)
    close(whole, x.to(w.dtype).double() @ w.double().T, 2e-6)
    b.check()


def test_rows_beyond_the_count_are_left_alone():
    b = Buffers()
    x, w, y = b.normal(20, 32), b.normal(64, 32), b.result(20, 64)
    contract[(1, 2)](b.ints([3]), x, w, y, 64, 32, 0, PARTED=0, BLOCK_N=64, BLOCK_R=16, BLOCK_K=32)
    assert not torch.isnan(y[:3]).any() and unwritten(y[3:])
