"""angles and rope against f64."""

import pytest
import torch
from buffers import Buffers, blocks, close
from ops.rope.triton import angles, rope


def frequencies(pairs):
    return torch.tensor([10000.0 ** (-i / pairs) for i in range(pairs)], dtype=torch.float64).float()


@pytest.mark.parametrize("pairs", [1, 4, 20, 64])
def test_angles_are_the_exact_ones_rounded(pairs):
    b = Buffers()
    positions = [0, 1, 2, 3, 17, 1000, 4095, 131071, 1048575]
    turns = b.of(frequencies(pairs))
    table = b.result(len(positions), 2, pairs)
    angles[(len(positions) + 1, blocks(pairs, 32))](
        b.ints([len(positions)]), b.ints(positions), turns, table, pairs, 0.5, BLOCK=32
    )
    angle = (torch.tensor(positions, dtype=torch.float32)[:, None] * turns).double()
    wanted = torch.stack([angle.cos().float() * 0.5, angle.sin().float() * 0.5], 1)
    # The same f32, but where two libraries round an f64 between two of them.
    assert ((table - wanted).abs() <= 6e-8 * wanted.abs()).all()
    assert (table != wanted).sum() <= table.numel() // 200
    b.check()


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("rows,heads,head_dim,pairs,d", [(0, 2, 8, 4, 16), (1, 1, 2, 1, 16), (3, 5, 24, 4, 32), (2, 3, 64, 32, 64), (2, 2, 20, 10, 32)])
def test_rope_turns_the_first_elements(rows, heads, head_dim, pairs, d, neighbours):
    b = Buffers(rows)
    x = b.normal(rows, heads, head_dim)
    angle = torch.rand(rows, 1, pairs, generator=b.random).double() * 6
    table = b.of(torch.stack([angle.cos(), angle.sin()], 1).float().view(rows, 2, pairs))
    cosine, sine = table.double()[:, None, 0], table.double()[:, None, 1]
    first = slice(0, 2 * pairs, 2) if neighbours else slice(0, pairs)
    second = slice(1, 2 * pairs, 2) if neighbours else slice(pairs, 2 * pairs)
    wanted = x.double().clone()
    wanted[..., first] = x.double()[..., first] * cosine - x.double()[..., second] * sine
    wanted[..., second] = x.double()[..., second] * cosine + x.double()[..., first] * sine
    # In place.
    rope[(rows + 1, blocks(heads, 2))](
        b.ints([rows]), x, table, x, heads, head_dim, pairs, NEIGHBOURS=neighbours, HEADS=2, D=d
    )
    close(x, wanted, 2e-7)
    b.check()
