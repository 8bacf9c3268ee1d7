"""columns: a copy."""

import pytest
import torch
from buffers import Buffers, blocks, unwritten
from ops.concat.triton import columns


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("widths", [[8], [1, 70, 20], [64, 64]])
def test_matrices_stand_side_by_side(rows, widths):
    b = Buffers(rows)
    parts, y, begin = [b.normal(rows, width) for width in widths], b.result(rows, sum(widths)), 0
    for part in parts:
        assert unwritten(y[:, begin:])
        width = part.shape[1]
        columns[(rows + 1, blocks(width, 64))](b.ints([rows]), part, y, width, sum(widths), begin, BLOCK=64)
        begin += width
    assert torch.equal(y, torch.cat(parts, 1))
    b.check()
