"""Cosines and sines of the rows' positions, once a step, and the rotation of heads by them.

Shapes: frequencies [pairs] f32, table [rows, 2 pairs] f32: of each row first all cosines, then all sines, times the amplitude. x, y
[rows, heads head_dim] f32; y may be x. Of a head the first 2 pairs elements are turned, i with i + pairs (halves) or neighbours.
Programs: angles (rows, pairs / BLOCK), rope and rope_append (rows, heads / HEADS). D is at least head_dim.
Maths: the angle is position times frequency in f32; its cosine and sine are f64, by fdlibm's polynomials, rounded to f32.
"""

import triton
import triton.language as tl

# Positions of a page.
PAGE: tl.constexpr = tl.constexpr(16)


@triton.jit
def sine_and_cosine(angle):
    """Both of an f64 angle below 2^20 or so: brought within pi/4 by two parts of pi/2, the first exact in products."""
    quarter = tl.floor(angle * 0.6366197723675814 + 0.5)
    r = angle - quarter * 1.5707963267341256
    r = r - quarter * 6.077100506506192e-11
    z = r * r
    s = 1.58969099521155010221e-10 * z - 2.50507602534068634195e-08
    s = s * z + 2.75573137070700676789e-06
    s = s * z - 1.98412698298579493134e-04
    s = s * z + 8.33333333332248946124e-03
    s = s * z - 1.66666666666666324348e-01
    s = r + r * z * s
    c = -1.13596475577881948265e-11 * z + 2.08757232129817482790e-09
    c = c * z - 2.75573143513906633035e-07
    c = c * z + 2.48015872894767294178e-05
    c = c * z - 1.38888888888741095749e-03
    c = c * z + 4.16666666666666019037e-02
    c = 1.0 - 0.5 * z + z * z * c
    turn = quarter.to(tl.int64) & 3
    sine = tl.where((turn & 1) == 0, s, c)
    cosine = tl.where((turn & 1) == 0, c, s)
    sine = tl.where((turn & 2) == 0, sine, -sine)
    cosine = tl.where((turn == 1) | (turn == 2), -cosine, cosine)
    return sine, cosine


@triton.jit
def angles(rows, row_position, frequencies, table, pairs, amplitude, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    pair = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kept = pair < pairs
    position = tl.load(row_position + row).to(tl.float32)
    angle = position * tl.load(frequencies + pair, mask=kept, other=0.0)
    sine, cosine = sine_and_cosine(angle.to(tl.float64))
    at = row.to(tl.int64) * 2 * pairs + pair
    tl.store(table + at, cosine.to(tl.float32) * amplitude, mask=kept)
    tl.store(table + at + pairs, sine.to(tl.float32) * amplitude, mask=kept)


@triton.jit
def rope(rows, x, table, y, heads, head_dim, pairs, NEIGHBOURS: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr):
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    pair = tl.arange(0, D // 2)[None, :]
    begin = row.to(tl.int64) * heads * head_dim + head * head_dim
    turned = (head < heads) & (pair < pairs)
    first = begin + (2 * pair if NEIGHBOURS else pair)
    second = first + (1 if NEIGHBOURS else pairs)
    # What is not turned lies behind the pairs: fewer than D elements of it, in two halves of D / 2.
    low = 2 * pairs + pair
    high = low + D // 2
    low_kept = (head < heads) & (low < head_dim)
    high_kept = (head < heads) & (high < head_dim)
    a = tl.load(x + first, mask=turned, other=0.0)
    b = tl.load(x + second, mask=turned, other=0.0)
    low_value = tl.load(x + begin + low, mask=low_kept, other=0.0)
    high_value = tl.load(x + begin + high, mask=high_kept, other=0.0)
    angle = table + row.to(tl.int64) * 2 * pairs + pair
    cosine = tl.load(angle, mask=pair < pairs, other=0.0)
    sine = tl.load(angle + pairs, mask=pair < pairs, other=0.0)
    tl.store(y + first, a * cosine - b * sine, mask=turned)
    tl.store(y + second, b * cosine + a * sine, mask=turned)
    tl.store(y + begin + low, low_value, mask=low_kept)
    tl.store(y + begin + high, high_value, mask=high_kept)


@triton.jit
def rope_append(
    rows, row_position, row_span, span_first_page, pages, k, v, table, keys, values, heads, head_dim, pairs,
    NEIGHBOURS: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr,
):  # fmt: skip
    """Turns k and appends it, and v, to pages [page, heads, 16, head_dim], as `rope` and `append` of ops/attend do one after the other."""
    row = tl.program_id(0)
    if row >= tl.load(rows):
        return
    position = tl.load(row_position + row)
    page = tl.load(pages + tl.load(span_first_page + tl.load(row_span + row)) + position // PAGE)
    if page < 0:
        return
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    pair = tl.arange(0, D // 2)[None, :]
    begin = (row.to(tl.int64) * heads + head) * head_dim
    to = ((page.to(tl.int64) * heads + head) * PAGE + position % PAGE) * head_dim
    turned = (head < heads) & (pair < pairs)
    first = 2 * pair if NEIGHBOURS else pair
    second = first + (1 if NEIGHBOURS else pairs)
    angle = table + row.to(tl.int64) * 2 * pairs + pair
    cosine = tl.load(angle, mask=pair < pairs, other=0.0)
    sine = tl.load(angle + pairs, mask=pair < pairs, other=0.0)
    a = tl.load(k + begin + first, mask=turned, other=0.0)
    b = tl.load(k + begin + second, mask=turned, other=0.0)
    tl.store(keys + to + first, (a * cosine - b * sine).to(keys.dtype.element_ty), mask=turned)
    tl.store(keys + to + second, (b * cosine + a * sine).to(keys.dtype.element_ty), mask=turned)
    # What is not turned, and all of v.
    dim = tl.arange(0, D)[None, :]
    kept = (head < heads) & (dim < head_dim)
    plain = tl.load(k + begin + dim, mask=kept & (dim >= 2 * pairs), other=0.0)
    tl.store(keys + to + dim, plain.to(keys.dtype.element_ty), mask=kept & (dim >= 2 * pairs))
    value = tl.load(v + begin + dim, mask=kept, other=0.0)
    tl.store(values + to + dim, value.to(values.dtype.element_ty), mask=kept)
