"""route against plain sorting in f64."""

import pytest
import torch
from buffers import Buffers, close, unwritten
from ops.route.triton import route


def before(keys):
    """Entries, those that come first by f32::total_cmp in front, of equals the one of the lowest number."""
    bits = keys.view(torch.int32).long()
    order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return torch.argsort(-order, stable=True).tolist()


def exact(logits, bias, how, choices):
    """The gates of one row; the choice is made from f32 keys, as the kernel's."""
    logits = logits.double()
    scores = torch.sigmoid(logits) if how["sigmoid"] else torch.softmax(logits, 0)
    keys = scores.float() + (bias if bias is not None else 0)
    size = len(keys) // how["groups"]
    best = []
    for group in range(how["groups"]):
        own = keys[group * size : (group + 1) * size]
        best.append(sum((own[e] for e in before(own)[: how["group_best"]]), torch.tensor(0.0)))
    kept = before(torch.stack(best))[: how["groups_kept"]]
    chosen = [e for e in before(keys) if e // size in kept][:choices]
    gates = torch.zeros(len(keys), dtype=torch.float64)
    gates[chosen] = scores[chosen]
    return (gates / (gates.sum() + 1e-20) if how["normalise"] else gates) * how["scale"]


def run(b, logits, bias, how, choices, begin, held, groups_max, size_max):
    rows, experts = logits.shape
    y = b.result(rows, held)
    route[(rows + 1,)](
        b.ints([rows]), logits, logits if bias is None else bias, y, how["groups"], experts // how["groups"], choices, how["groups_kept"],
        how["group_best"], begin, held, how["sigmoid"], int(bias is not None), how["normalise"], how["scale"],
        GROUPS=groups_max, SIZE=size_max,
    )  # fmt: skip
    return y


PLAIN = dict(sigmoid=0, groups=1, groups_kept=1, group_best=1, normalise=1, scale=1.0)
LATENT = dict(sigmoid=1, groups=4, groups_kept=2, group_best=2, normalise=1, scale=2.5)
CASES = [
    (0, 8, 2, PLAIN, 1, 8),
    (1, 1, 1, PLAIN, 1, 8),
    (3, 20, 20, PLAIN | {"normalise": 0}, 1, 32),
    (4, 60, 6, PLAIN, 1, 128),
    (4, 24, 4, LATENT, 8, 8),
    (3, 16, 5, LATENT | {"groups_kept": 3, "sigmoid": 0}, 8, 8),
]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rows,experts,choices,how,groups_max,size_max", CASES)
def test_gates_are_those_of_sorting(rows, experts, choices, how, groups_max, size_max, biased):
    b = Buffers(experts)
    logits, bias = b.normal(rows, experts), b.normal(experts, scale=0.1) if biased else None
    y = run(b, logits, bias, how, choices, 0, experts, groups_max, size_max)
    for row in range(rows):
        wanted = exact(logits[row], bias, how, choices)
        assert torch.equal(y[row] != 0, wanted != 0), row
        close(y[row], wanted, 1e-6)
    # The part of one rank: experts from 1 on, half of them.
    if experts > 1:
        half = run(b, logits, bias, how, choices, 1, experts // 2, groups_max, size_max)
        assert torch.equal(half, y[:, 1 : 1 + experts // 2])
    b.check()


def chosen(logits, choices, how, groups_max=1, size_max=8):
    """With the logistic function: keys stand as logits do."""
    b = Buffers()
    y = run(b, b.of(torch.tensor([logits])), None, how | {"sigmoid": 1}, choices, 0, len(logits), groups_max, size_max)
    return torch.nonzero(torch.nan_to_num(y[0], 1.0)).flatten().tolist()


def test_the_lowest_number_wins_a_tie():
    assert chosen([0.25] * 4, 2, PLAIN) == [0, 1]
    assert chosen([0.1, 0.5, 0.5, 0.5], 2, PLAIN) == [1, 2]


def test_groups_come_before_experts():
    two = PLAIN | {"groups": 3, "group_best": 2}
    keys = [0.9, 0.0, 0.5, 0.5, 0.4, 0.4]
    logits = [float(torch.logit(torch.tensor(max(key, 1e-6)))) for key in keys]
    assert chosen(logits, 2, two, 4, 2) == [2, 3]
    assert chosen(logits, 2, two | {"group_best": 1}, 4, 2) == [0, 1]


def test_rows_beyond_the_count_are_left_alone():
    b = Buffers()
    y = b.result(2, 4)
    route[(2,)](
        b.ints([1]), b.normal(2, 4), b.normal(4), y, 1, 4, 2, 1, 1, 0, 4, 0, 0, 1, 1.0, GROUPS=1, SIZE=4,
    )  # fmt: skip
    assert not torch.isnan(y[0]).any() and unwritten(y[1])
