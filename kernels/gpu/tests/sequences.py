"""Steps over paged sequences, as the engine makes them."""

from dataclasses import dataclass

import torch
from buffers import DTYPES

PAGE = 16


@dataclass
class Span:
    """`rows` rows of a sequence from position `start` on; positions below `prompt` are prompt rows."""

    start: int
    rows: int
    prompt: int

    @property
    def prompt_rows(self):
        return max(0, min(self.prompt - self.start, self.rows))


class Step:
    """The arrays of a step in buffers, and pages in a random order."""

    def __init__(self, b, spans, spare=3):
        self.spans = spans
        pages = [-(-(span.start + span.rows) // PAGE) for span in spans]
        self.pages_count = sum(pages) + spare
        order = torch.randperm(self.pages_count, generator=b.random).tolist()
        first_page = [sum(pages[:i]) for i in range(len(spans))]
        first_row = [sum(span.rows for span in spans[:i]) for i in range(len(spans))]
        self.first_row, self.rows_count = first_row, sum(span.rows for span in spans)
        self.tables = [order[first : first + count] for first, count in zip(first_page, pages)]
        position = [span.start + i for span in spans for i in range(span.rows)]
        self.position_list = position
        generated = [
            first_row[number] + i
            for number, span in enumerate(spans)
            for i in range(span.prompt_rows, span.rows)
        ]
        self.generated_list = generated
        self.rows = b.ints([self.rows_count])
        self.row_position = b.ints(position)
        self.row_span = b.ints([number for number, span in enumerate(spans) for _ in range(span.rows)])
        self.span_first_row = b.ints(first_row)
        self.span_rows = b.ints([span.rows for span in spans])
        self.span_start = b.ints([span.start for span in spans])
        self.span_prompt = b.ints([span.prompt for span in spans])
        self.span_first_page = b.ints(first_page)
        self.table = b.ints([page for table in self.tables for page in table])
        self.generated_count, self.generated_rows = b.ints([len(generated)]), b.ints(generated)

    def tiles(self, b, block_m):
        """The tiles of prompt rows: count, spans, first rows."""
        tiles = [(n, row) for n, span in enumerate(self.spans) for row in range(0, span.prompt_rows, block_m)]
        return len(tiles), b.ints([len(tiles)]), b.ints([t[0] for t in tiles]), b.ints([t[1] for t in tiles])

    def filled(self, b, past, kv_heads, head_dim, dtype):
        """Pages with the past of every span, which is [start, kv_heads, head_dim] of it, and NaN elsewhere."""
        pages = torch.full((self.pages_count, kv_heads, PAGE, head_dim), float("nan"), dtype=DTYPES[dtype])
        for table, rows in zip(self.tables, past):
            for position, row in enumerate(rows):
                pages[table[position // PAGE], :, position % PAGE] = row.to(pages.dtype)
        return b.of(pages)

    def read(self, pages, number):
        """What the pages hold of a span's sequence, f64: [positions, kv_heads, head_dim]."""
        span, table = self.spans[number], self.tables[number]
        rows = [pages[table[p // PAGE], :, p % PAGE] for p in range(span.start + span.rows)]
        return torch.stack(rows).double() if rows else pages[:0, :, 0].double()
