"""The arithmetic of a step: counts, order of pairs, sums over devices."""

import pytest
import torch

from tiny_training import random_rows
from trueup.models.reward import Branches
from trueup.train.reward_step import reward_batch
from trueup.train.step import Devices, Step, Tally, summarize


def branches_of(rows):
    count = sum(len(row.branch_lengths) for row in rows)
    return Branches(torch.arange(float(count)), torch.ones(count, 3))


def test_pairs_keep_the_order_of_the_step_however_it_is_cut():
    rows = random_rows(7, seed=1)
    step = Step.count(rows)
    starts = [sum(len(row.pairs) for row in rows[:i]) for i in range(7)]
    for part in ((0, 1, 2), (6, 3), (5, 4)):
        order = reward_batch(step, part, branches_of([rows[i] for i in part])).order.tolist()
        assert order == [starts[i] + k for i in part for k in range(len(rows[i].pairs))]


def test_units():
    rows = random_rows(5)
    units = Step.count(rows).units
    assert units["pair"] == sum(len(row.pairs) for row in rows)
    assert units["branch"] == sum(len(row.branch_lengths) for row in rows)
    assert units["prompt"] == 5


def test_a_batch_points_at_its_own_rewards():
    rows = random_rows(4)
    batch = reward_batch(Step.count(rows), (2, 0), branches_of([rows[2], rows[0]]))
    first = len(rows[2].branch_lengths)
    assert batch.pairs.tolist() == rows[2].pairs.tolist() + (rows[0].pairs + first).tolist()
    assert batch.prompt.tolist() == [0] * first + [1] * len(rows[0].branch_lengths)
    assert batch.rank.tolist() == [*rows[2].rank, *rows[0].rank]
    before = [len(row.pairs) for row in rows]
    expected = [*range(sum(before[:2]), sum(before[:3])), *range(before[0])]
    assert batch.order.tolist() == expected
    margins = [rows[2].margin] * before[2] + [rows[0].margin] * before[0]
    assert batch.margin.tolist() == pytest.approx(margins)


def test_an_empty_part_has_no_units():
    rows = random_rows(2)
    none = Branches(torch.zeros(0), torch.zeros(0, 3))
    batch = reward_batch(Step.count(rows), (), none)
    assert batch.pairs.shape == (0, 2)
    assert len(batch.order) == len(batch.margin) == len(batch.rank) == len(batch.prompt) == 0


def test_a_tally_over_devices():
    """Three devices, one of which saw nothing."""
    seen = [torch.tensor([1.0, 2.0]), torch.zeros(0), torch.tensor([6.0])]
    tallies = []
    for values in seen:
        tally = Tally()
        for name in ("mean_reward", "min_reward", "max_reward", "reward_square"):
            tally.add(name, values.square() if name == "reward_square" else values)
        tallies.append(tally)
    sent: list[list[torch.Tensor]] = []
    for rank, tally in enumerate(tallies):
        own: list[torch.Tensor] = []
        tally.means(Devices(rank=rank, world=3, add=lambda t, own=own: own.append(t.clone()) or t))
        sent.append(own)
    sums = iter([sum(tensors) for tensors in zip(*sent, strict=True)])
    found = summarize(tallies[1].means(Devices(rank=1, world=3, add=lambda _: next(sums))))
    expected = torch.tensor([1.0, 2.0, 6.0])
    assert found["mean_reward"] == pytest.approx(3.0)
    assert (found["min_reward"], found["max_reward"]) == (1.0, 6.0)
    assert found["reward_std"] == pytest.approx(float(expected.std(correction=0)))
