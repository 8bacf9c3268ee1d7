"""rope_append has the bits of rope, rounded into pages."""

import pytest
import torch
from buffers import Buffers
from ops.rope.triton import rope, rope_append
from sequences import Span, Step

SPANS = [Span(0, 1, 1), Span(14, 5, 17), Span(31, 2, 4)]


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("heads,head_dim,pairs,d", [(3, 16, 8, 16), (2, 20, 4, 32)])
def test_both_in_one(heads, head_dim, pairs, d, neighbours, dtype):
    b = Buffers(heads)
    step = Step(b, SPANS)
    rows = step.rows_count
    k, v = b.normal(rows, heads, head_dim), b.normal(rows, heads, head_dim)
    angle = torch.rand(rows, 1, pairs, generator=b.random) * 6
    table = b.of(torch.cat([angle.cos(), angle.sin()], 1))
    empty = [torch.zeros(0, heads, head_dim)] * len(SPANS)
    pages = [step.filled(b, empty, heads, head_dim, dtype) for _ in range(2)]
    where = (step.rows, step.row_position, step.row_span, step.span_first_page, step.table)
    rope_append[(rows + 1, 2)](
        *where, k, v, table, pages[0], pages[1], heads, head_dim, pairs, NEIGHBOURS=neighbours, HEADS=2, D=d
    )
    turned = b.result(rows, heads, head_dim)
    rope[(rows, 2)](step.rows, k, table, turned, heads, head_dim, pairs, NEIGHBOURS=neighbours, HEADS=2, D=d)
    for own, got in [(turned, pages[0]), (v, pages[1])]:
        wanted = torch.full(got.shape, float("nan"), dtype=got.dtype)
        for number, span in enumerate(SPANS):
            for row in range(span.rows):
                at = span.start + row
                wanted[step.tables[number][at // 16], :, at % 16] = own[step.first_row[number] + row].to(got.dtype)
        assert torch.equal(torch.nan_to_num(got.float(), 77.0), torch.nan_to_num(wanted.float(), 77.0))
    b.check()
