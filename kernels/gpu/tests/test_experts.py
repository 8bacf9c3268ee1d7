"""choose, count, place, experts, weigh, expert_bias, contract_each against f64 loops over rows and choices."""

import pytest
import torch
from buffers import Buffers, blocks, close
from ops.contract.triton import contract
from ops.experts.triton import choose, contract_each, count, expert_bias, experts, place, weigh

DT = ["f32", "bf16", "f16"]


class Routed:
    """Gates of a step, and who chose whom."""

    def __init__(self, rows, experts_count, choices, begin=0, held=None, tile=16, seed=0, least=0):
        self.b = b = Buffers(seed)
        self.rows, self.choices, self.begin, self.tile = rows, choices, begin, tile
        self.held = experts_count if held is None else held
        gates = torch.zeros(rows, experts_count)
        for row in range(rows):
            some = int(torch.randint(least, choices + 1, (1,), generator=b.random))
            at = torch.randperm(experts_count, generator=b.random)[:some]
            gates[row, at] = torch.rand(some, generator=b.random) + 0.1
        self.gates = b.of(gates)
        slots = rows * choices
        self.count = b.ints([rows])
        self.entry, self.gate = b.ints([7] * slots), b.result(rows, choices)
        choose[(rows + 1,)](
            self.count, self.gates, self.entry, self.gate, experts_count, choices, begin, self.held, EXPERTS=16, CHOICES=4
        )
        most = min(slots, slots // tile + self.held + 1)
        self.counts, self.tiles = b.ints([9] * (self.held + 1)), b.ints([9])
        self.at, self.tile_entry, self.most = b.ints([9] * (most * tile)), b.ints([9] * most), most
        count[(self.held + 1,)](self.count, self.entry, self.counts, choices, self.held, BLOCK=32)
        place[(self.held + 1,)](
            self.count, self.entry, self.counts, self.at, self.tile_entry, self.tiles, choices, self.held, tile,
            ENTRIES=32, BLOCK=32,
        )  # fmt: skip

    def chosen(self, row):
        """Of each choice of a row its expert and gate."""
        return [(int(e), float(self.gates[row, e])) for e in torch.nonzero(self.gates[row]).flatten()[: self.choices]]

    def entry_of(self, expert):
        return expert - self.begin if self.begin <= expert < self.begin + self.held else None

    def contract(self, x, w, parts):
        n, k = w.shape[1:]
        y = self.b.result(self.rows, self.choices, n)
        experts[(blocks(n, 64), self.most + 1)](
            self.tiles, self.tile_entry, self.at, x, w, y, self.choices, parts, self.held, n, k,
            BLOCK_N=64, BLOCK_R=self.tile, BLOCK_K=32,
        )  # fmt: skip
        return y

    def wanted(self, x, w):
        y = torch.zeros(self.rows, self.choices, w.shape[1], dtype=torch.float64)
        for row in range(self.rows):
            for choice, (expert, _) in enumerate(self.chosen(row)):
                if (entry := self.entry_of(expert)) is not None:
                    own = x[row] if x.dim() == 2 else x[row, choice]
                    y[row, choice] = w[entry].double() @ own.to(w.dtype).double()
        return y


SHAPES = [(0, 4, 2), (1, 1, 1), (1, 8, 3), (7, 5, 2), (40, 6, 4)]


@pytest.mark.parametrize("rows,count_,choices", SHAPES)
@pytest.mark.parametrize("begin,held", [(0, None), (1, 2)])
def test_slots_are_listed_by_entry(rows, count_, choices, begin, held):
    if held and begin + held > count_:
        return
    r = Routed(rows, count_, choices, begin, held)
    entry, gate = r.entry.view(rows, choices), r.gate
    lists = {number: [] for number in [*range(r.held), r.held]}
    for row in range(rows):
        own = r.chosen(row)
        for choice in range(choices):
            expert, by = own[choice] if choice < len(own) else (-1, 0.0)
            number = r.entry_of(expert)
            assert entry[row, choice] == (-1 if number is None else number) and gate[row, choice] == torch.tensor(by)
            lists[r.held if number is None else number].append(row * choices + choice)
    assert r.counts.tolist() == [len(own) for own in lists.values()]
    at, tiles = [], []
    for number, own in lists.items():
        tiles += [number] * -(-len(own) // r.tile)
        at += own + [-1] * (-len(own) % r.tile)
    assert r.tiles.tolist() == [len(tiles)]
    assert r.at[: len(at)].tolist() == at and r.tile_entry[: len(tiles)].tolist() == tiles
    r.b.check()


@pytest.mark.parametrize("dtype", DT)
@pytest.mark.parametrize("rows,count_,choices", SHAPES)
@pytest.mark.parametrize("shared", [True, False])
def test_experts_are_contractions_by_choice(rows, count_, choices, shared, dtype):
    for begin, held in [(0, None), (1, 2)]:
        if held and begin + held > count_:
            continue
        r = Routed(rows, count_, choices, begin, held)
        x = r.b.normal(rows, 24) if shared else r.b.normal(rows, choices, 24)
        w = r.b.normal(r.held, 20, 24, dtype=dtype)
        y = r.contract(x, w, 1 if shared else choices)
        close(y, r.wanted(x, w), 2e-6)
        r.b.check()


@pytest.mark.parametrize("dtype", DT)
def test_a_choice_has_the_bits_of_a_plain_contraction(dtype):
    r = Routed(9, 4, 2, least=2)
    x, w = r.b.normal(9, 70), r.b.normal(4, 70, 70, dtype=dtype)
    y = r.contract(x, w, 1)
    for row in range(9):
        for choice, (expert, _) in enumerate(r.chosen(row)):
            own = r.b.result(1, 70)
            contract[(2, 1)](
                r.b.ints([1]), x[row], *[w[expert]] * 3, *[own] * 3, own, r.b.ints([0]), 70, 0, 0, 70, 0,
                PARTED=0, EVEN=0, EARLY=0, BLOCK_N=64, BLOCK_R=16, BLOCK_K=32,
            )  # fmt: skip
            assert torch.equal(own[0], y[row, choice])


@pytest.mark.parametrize("rows,count_,choices", SHAPES)
def test_weigh_adds_what_was_chosen(rows, count_, choices):
    r = Routed(rows, count_, choices)
    x, y = r.b.normal(rows, choices, 70), r.b.result(rows, 70)
    wanted = (x.double() * r.gate.double()[..., None]).sum(1)
    # What a row has not chosen is not read.
    x[r.gate == 0] = float("nan")
    weigh[(rows + 1, 2)](r.count, r.gate, x, y, choices, 70, BLOCK=64)
    close(y, wanted, 1e-6)
    r.b.check()


@pytest.mark.parametrize("rows,count_,choices", SHAPES)
def test_bias_is_that_of_the_entry(rows, count_, choices):
    r = Routed(rows, count_, choices)
    x, w = r.b.normal(rows, choices, 20), r.b.normal(r.held, 20)
    wanted = x.clone()
    for row in range(rows):
        for choice, (expert, _) in enumerate(r.chosen(row)):
            wanted[row, choice] += w[r.entry_of(expert)]
    expert_bias[(rows * choices + 1, 1)](r.count, r.entry, x, w, x, choices, 20, BLOCK=64)
    assert torch.equal(x, wanted)
    r.b.check()


@pytest.mark.parametrize("dtype", DT)
@pytest.mark.parametrize("rows,each,n,k", [(0, 2, 8, 8), (1, 1, 1, 1), (3, 4, 20, 24), (18, 2, 70, 40)])
def test_contract_each_takes_the_entry_of_the_run(rows, each, n, k, dtype):
    b = Buffers(n)
    x, w, y = b.normal(rows, each, k), b.normal(each, n, k, dtype=dtype), b.result(rows, each, n)
    contract_each[(blocks(n, 64), blocks(rows, 16) + 1, each)](
        b.ints([rows]), x, w, y, each, n, k, BLOCK_N=64, BLOCK_R=16, BLOCK_K=32
    )
    close(y, torch.einsum("rek,enk->ren", x.to(w.dtype).double(), w.double()), 2e-6)
    b.check()
