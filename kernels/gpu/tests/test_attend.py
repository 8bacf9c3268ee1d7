"""append, prompt, generated and merge_splits against f64 softmax over what the pages hold."""

from dataclasses import dataclass

import pytest
import torch
from buffers import BOUND, Buffers, blocks, close, unwritten
from ops.attend.triton import append, generated, merge_splits, prompt
from sequences import Span, Step

NO_WINDOW = 2**31 - 1
DT = ["f32", "bf16", "f16"]


@dataclass
class Shape:
    """Heads, and what is compiled for them."""

    kv_heads: int = 2
    group: int = 2
    head_dim: int = 16
    d: int = 16
    tail: int = 0
    window: int = NO_WINDOW
    cap: float = 0.0
    sinks: bool = False


class Case:
    """A step with its past in pages and its own rows appended by the kernel."""

    def __init__(self, spans, shape, dtype, seed=0):
        self.b, self.shape, self.dtype = Buffers(seed), shape, dtype
        b, s = self.b, shape
        self.step = step = Step(b, spans)
        draw = lambda rows: torch.randn(rows, s.kv_heads, s.head_dim, generator=b.random)  # noqa: E731
        self.keys = step.filled(b, [draw(span.start) for span in spans], s.kv_heads, s.head_dim, dtype)
        self.values = step.filled(b, [draw(span.start) for span in spans], s.kv_heads, s.head_dim, dtype)
        self.q = b.normal(step.rows_count, s.kv_heads * s.group, s.head_dim)
        self.k, self.v = b.of(draw(step.rows_count)), b.of(draw(step.rows_count))
        self.sinks, self.scale = b.normal(s.kv_heads * s.group), s.head_dim**-0.5
        self.before = (self.keys.clone(), self.values.clone())
        width = s.kv_heads * s.head_dim
        append[(step.rows_count + 1, blocks(width, 32))](
            step.rows, step.row_position, step.row_span, step.span_first_page, step.table,
            self.k, self.v, self.keys, self.values, s.kv_heads, s.head_dim, BLOCK=32,
        )  # fmt: skip
        self.y = b.result(step.rows_count, s.kv_heads * s.group, s.head_dim)

    def prompt(self, block_m=16, block_p=16):
        b, s, step = self.b, self.shape, self.step
        count, tiles, spans, rows = step.tiles(b, block_m)
        prompt[(count + 1, s.kv_heads * s.group)](
            tiles, spans, rows, step.span_first_row, step.span_rows, step.span_start, step.span_prompt,
            step.span_first_page, step.table, self.q, self.keys, self.values, self.sinks, self.y,
            s.kv_heads, s.group, s.head_dim, s.window, int(s.sinks), self.scale, s.cap,
            D=s.d, TAIL=s.tail, CAPPED=s.cap > 0, LOOPS=3, BLOCK_M=block_m, BLOCK_P=block_p,
        )  # fmt: skip

    def generated(self, block_p=32, group_size=16):
        b, s, step = self.b, self.shape, self.step
        count, heads = len(step.generated_list), s.kv_heads * s.group
        splits = max(1, max((step.position_list[r] // 256 + 1 for r in step.generated_list), default=1))
        m, l, o = b.result(count, heads, splits), b.result(count, heads, splits), b.result(count, heads, splits, s.head_dim)
        generated[(count + 1, s.kv_heads * blocks(s.group, group_size), splits)](
            step.generated_count, step.generated_rows, step.row_position, step.row_span, step.span_first_page,
            step.table, self.q, self.keys, self.values, m, l, o, s.kv_heads, s.group, s.head_dim, s.window,
            self.scale, s.cap, D=s.d, TAIL=s.tail, CAPPED=s.cap > 0, GROUP=group_size, BLOCK_P=block_p,
        )  # fmt: skip
        merge_splits[(count + 1, heads)](
            step.generated_count, step.generated_rows, step.row_position, m, l, o, self.sinks, self.y, splits,
            s.head_dim, s.window, int(s.sinks), D=1 << (s.head_dim - 1).bit_length(), AT_ONCE=2,
        )  # fmt: skip

    def wanted(self):
        s, step = self.shape, self.step
        y = torch.zeros(step.rows_count, s.kv_heads * s.group, s.head_dim, dtype=torch.float64)
        for number, span in enumerate(step.spans):
            keys, values = step.read(self.keys, number), step.read(self.values, number)
            for row in range(span.rows):
                position, at = span.start + row, step.first_row[number] + row
                first = max(0, position - s.window + 1)
                for head in range(s.kv_heads * s.group):
                    scores = keys[first : position + 1, head // s.group] @ self.q[at, head].double() * self.scale
                    if s.cap > 0:
                        scores = s.cap * torch.tanh(scores / s.cap)
                    if s.sinks:
                        scores = torch.cat([scores, self.sinks[head].double()[None]])
                    shares = torch.softmax(scores, 0)[: position + 1 - first]
                    y[at, head] = shares @ values[first : position + 1, head // s.group]
        return y

    def check(self, bound=None):
        far = close(self.y, self.wanted(), bound or BOUND[self.dtype])
        self.b.check()
        return far


# One prompt row; prompt and generated rows; rows over a page border, more than a tile; one generated row.
SPANS = [Span(0, 1, 1), Span(5, 3, 7), Span(14, 20, 32), Span(17, 1, 9)]


def whole(spans, shape, dtype, **sizes):
    case = Case(spans, shape, dtype)
    case.prompt(**sizes)
    case.generated()
    return case


@pytest.mark.parametrize("dtype", DT)
def test_append_rounds_rows_into_their_pages_and_touches_nothing_else(dtype):
    case = Case(SPANS, Shape(head_dim=20, d=32), dtype)
    step = case.step
    for now, before, own in [(case.keys, case.before[0], case.k), (case.values, case.before[1], case.v)]:
        before = before.clone()
        for number, span in enumerate(SPANS):
            for row in range(span.rows):
                page, slot = step.tables[number][(span.start + row) // 16], (span.start + row) % 16
                before[page, :, slot] = own[step.first_row[number] + row].to(before.dtype)
        assert torch.equal(torch.nan_to_num(now.float(), 77.0), torch.nan_to_num(before.float(), 77.0))
    case.b.check()


@pytest.mark.parametrize("dtype", DT)
@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(kv_heads=1, group=3, head_dim=20, d=32),
        Shape(kv_heads=3, group=1, head_dim=8, d=16, sinks=True),
        Shape(window=7),
        Shape(window=16, sinks=True, cap=5.0),
    ],
    ids=str,
)
def test_ragged_steps(shape, dtype):
    whole(SPANS, shape, dtype).check()


@pytest.mark.parametrize("dtype", DT)
def test_heads_with_a_tail_and_groups_over_sixteen(dtype):
    whole([Span(0, 2, 1), Span(17, 3, 19)], Shape(kv_heads=1, group=18, head_dim=40, d=32, tail=16), dtype).check()


@pytest.mark.parametrize("dtype", DT)
def test_a_past_of_several_splits(dtype):
    spans = [Span(600, 1, 4), Span(255, 1, 4), Span(256, 2, 4), Span(0, 1, 0)]
    for shape in [Shape(), Shape(window=300, sinks=True), Shape(window=20)]:
        whole(spans, shape, dtype).check()


def test_wide_heads():
    whole([Span(3, 3, 5)], Shape(kv_heads=1, head_dim=128, d=128), "bf16").check()
    whole([Span(3, 3, 5)], Shape(kv_heads=1, group=20, head_dim=576, d=512, tail=64), "bf16").check()


def test_steps_of_one_kind_and_of_none():
    for spans in [[], [Span(0, 4, 4)], [Span(3, 1, 2)]]:
        whole(spans, Shape(), "f32").check()


def test_pages_behind_the_window_are_not_read():
    case = Case([Span(100, 20, 110)], Shape(window=20), "f32")
    # The first row sees positions from 81 on: pages 0 to 4 are gone.
    for page in case.step.tables[0][:5]:
        case.keys[page], case.values[page] = float("nan"), float("nan")
    wanted = case.wanted()
    case.step.table[:5] = -1
    case.prompt()
    case.generated()
    close(case.y, wanted, BOUND["f32"])
    case.b.check()


def test_a_row_has_the_same_bits_however_its_prompt_is_cut():
    shape = Shape(group=1, window=21)
    whole_step = Case([Span(0, 40, 40)], shape, "f32")
    whole_step.prompt()
    for cut in (1, 13, 32):
        part = Case([Span(cut, 40 - cut, 40)], shape, "f32")
        for name in ("keys", "values"):
            pages = getattr(part, name)
            for page, other in zip(part.step.tables[0], whole_step.step.tables[0]):
                pages[page] = getattr(whole_step, name)[other]
        part.q.copy_(whole_step.q[cut:])
        part.prompt()
        assert torch.equal(part.y.view(torch.int32), whole_step.y[cut:].view(torch.int32))


def test_rows_of_the_other_kind_are_left_alone():
    case = Case([Span(10, 4, 12)], Shape(), "f32")
    case.prompt()
    assert not torch.isnan(case.y[:2]).any() and unwritten(case.y[2:])


def test_prompt_can_take_all_rows_in_one_form():
    """Whether a row is a prompt row changes nothing then."""
    found = []
    for end in (18, 20):
        case = Case([Span(14, 6, end)], Shape(group=1), "f32")
        case.step.spans[0].prompt = 2**31 - 1
        case.step.span_prompt.fill_(2**31 - 1)
        case.prompt()
        case.check()
        found.append(case.y)
    assert torch.equal(found[0], found[1])
