"""gather, slice, runs, sampled_rows, reduce: no rounding, or one a level."""

import pytest
import torch
from buffers import Buffers, blocks
from ops.gather.triton import gather
from ops.reduce.triton import reduce_tree
from ops.runs.triton import concat
from ops.sampled_rows.triton import sampled_rows
from ops.slice.triton import slice_blocks

BLOCK = 64


def grid(rows, width):
    return (rows + 1, blocks(width, BLOCK))


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("k", [1, 20, 130])
def test_gather_widens_entries_and_zeros_those_held_elsewhere(dtype, k):
    b = Buffers()
    table, y = b.normal(5, k, dtype=dtype), b.result(6, k)
    # Of a table that begins at token 3: before it, in it, behind it, and an id with the highest bit set.
    ids = [2, 3, 7, 8, 5, -1]
    gather[grid(6, k)](b.ints([6]), b.ints(ids), table, y, 3, 5, k, BLOCK=BLOCK)
    for row, entry in enumerate(ids):
        wanted = table[entry - 3].float() if 3 <= entry < 8 else torch.zeros(k)
        assert torch.equal(y[row], wanted), row
    b.check()


def test_gather_of_no_rows():
    b = Buffers()
    gather[(1, 1)](b.ints([0]), b.ints([]), b.normal(5, 8), b.result(0, 8), 0, 5, 8, BLOCK=BLOCK)
    b.check()


@pytest.mark.parametrize("rows,blocks_,block,begin,run", [(0, 1, 4, 1, 2), (1, 1, 1, 0, 1), (3, 5, 24, 20, 4), (2, 3, 100, 10, 70)])
def test_slice_keeps_a_run_of_every_block(rows, blocks_, block, begin, run):
    b = Buffers()
    x, y = b.normal(rows, blocks_ * block), b.result(rows, blocks_ * run)
    slice_blocks[grid(rows, blocks_ * run)](b.ints([rows]), x, y, blocks_ * block, blocks_ * run, block, begin, run, BLOCK=BLOCK)
    assert torch.equal(y, x.view(rows, blocks_, block)[:, :, begin : begin + run].reshape(rows, blocks_ * run))
    b.check()


@pytest.mark.parametrize("rows,runs,m,n", [(0, 1, 2, 3), (1, 1, 1, 1), (3, 4, 20, 8), (2, 3, 64, 33)])
def test_concat_puts_runs_behind_runs(rows, runs, m, n):
    b = Buffers()
    left, right, y = b.normal(rows, runs, m), b.normal(rows, runs, n), b.result(rows, runs, m + n)
    concat[grid(rows, runs * (m + n))](b.ints([rows]), left, right, y, runs * (m + n), m, n, BLOCK=BLOCK)
    assert torch.equal(y, torch.cat([left, right], 2))
    b.check()


@pytest.mark.parametrize("sampled", [[], [0], [1, 2, 5]])
def test_sampled_rows_are_picked(sampled):
    b = Buffers()
    x, y = b.normal(6, 130), b.result(len(sampled), 130)
    sampled_rows[grid(len(sampled), 130)](b.ints([len(sampled)]), b.ints(sampled), x, y, 130, BLOCK=BLOCK)
    assert torch.equal(y, x[torch.tensor(sampled, dtype=torch.long)])
    b.check()


def tree(parts):
    if len(parts) == 1:
        return parts[0]
    half = 1 << ((len(parts) - 1).bit_length() - 1)
    return tree(parts[:half]) + tree(parts[half:])


@pytest.mark.parametrize("parts", range(1, 17))
def test_parts_are_added_in_a_tree(parts):
    b = Buffers()
    x, y = b.normal(parts, 2, 70, scale=100.0), b.result(2, 70)
    x[:, 0, 0] = -0.0
    reduce_tree[grid(2, 70)](b.ints([2]), x, y, 140, 70, PARTS=parts, BLOCK=BLOCK)
    wanted = tree(list(x))
    assert torch.equal(y.view(torch.int32), wanted.view(torch.int32)), "the same bits, signs of zeros as well"
    b.check()
