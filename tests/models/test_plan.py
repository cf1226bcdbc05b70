"""Micro-batches: every row once, within the budget, with little padding, and evenly shared out."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny_training import make_trainer, random_rows, tiny_reward_model
from trueup.data.formats import read_rows
from trueup.data.templates import infer_format
from trueup.models import plan
from trueup.models.branching import packed, padded, separate
from trueup.models.plan import cut, share_out, slots
from trueup.train.prepare import prepare

SHARING = ("trees", "flex", "mask", "separate")
LAYOUTS = {"trees": packed, "mask": padded, "separate": separate, "flex": lambda rows: packed(rows, multiple=128)}
steps = st.builds(lambda seed, count: random_rows(count, seed=seed), st.integers(0, 10**6), st.integers(1, 14))


@pytest.mark.parametrize("sharing", SHARING)
def test_slots_are_those_of_the_layout(sharing):
    rows = random_rows(5)
    assert slots(rows, sharing) == LAYOUTS[sharing](rows).slots


@pytest.mark.parametrize("sharing", SHARING)
@given(rows=steps, budget=st.integers(1, 600), at_least=st.integers(1, 16))
def test_a_cut_is_a_partition_within_the_budget(sharing, rows, budget, at_least):
    parts = cut(rows, budget=budget, sharing=sharing, at_least=at_least)
    assert sorted(i for part in parts for i in part) == list(range(len(rows)))
    assert all(len(part) == 1 or slots([rows[i] for i in part], sharing) <= budget for part in parts)
    assert len(parts) >= min(at_least, len(rows))
    assert parts == cut(rows, budget=budget, sharing=sharing, at_least=at_least)


@pytest.mark.parametrize("sharing", SHARING)
@given(rows=st.builds(lambda seed: random_rows(7, seed=seed), st.integers(0, 10**6)), budget=st.integers(50, 400))
def test_no_cut_of_the_sorted_rows_is_cheaper(sharing, rows, budget):
    """Against all 2^6 ways to cut seven sorted rows."""

    def cost(parts):
        return sum(slots([rows[i] for i in part], sharing) + plan._PART_COST for part in parts)

    order = sorted(range(7), key=lambda i: (rows[i].longest if sharing == "separate" else rows[i].size, i))
    costs = []
    for count in range(7):
        for chosen in combinations(range(1, 7), count):
            bounds = [0, *chosen, 7]
            parts = [order[a:b] for a, b in pairwise(bounds)]
            if all(len(part) == 1 or slots([rows[i] for i in part], sharing) <= budget for part in parts):
                costs.append(cost(parts))
    assert cost(cut(rows, budget=budget, sharing=sharing)) == min(costs)


@pytest.mark.parametrize("sharing", SHARING)
@given(rows=steps, budget=st.integers(1, 600), devices=st.integers(1, 5))
def test_sharing_out_is_a_partition_into_equally_many_parts(sharing, rows, budget, devices):
    hands = share_out(rows, devices=devices, budget=budget, sharing=sharing)
    assert len({len(parts) for parts in hands}) == 1
    assert sorted(i for parts in hands for part in parts for i in part) == list(range(len(rows)))
    assert all(len(p) <= 1 or slots([rows[i] for i in p], sharing) <= budget for parts in hands for p in parts)
    loads = [sum(slots([rows[i]], sharing) for part in parts for i in part) for parts in hands]
    # Greedy: taking its last row from the heaviest device leaves it no heavier than the lightest.
    assert max(loads) - min(loads) <= max(slots([row], sharing) for row in rows)


def test_one_device_gets_the_plain_cut():
    rows = random_rows(9)
    assert share_out(rows, devices=1, budget=150, sharing="trees") == [cut(rows, budget=150, sharing="trees")]


@pytest.fixture(scope="module")
def real_steps(shared_data):
    """Steps of 16 real pairs."""
    from tiny_models import make_tokenizer

    rows = read_rows(str(shared_data / "hh-rlhf-harmless" / "train.jsonl.gz"), limit=320).rows
    tokenizer = make_tokenizer()
    form = infer_format(rows, tokenizer, max_length=4096)
    dataset = prepare(rows, tokenizer=tokenizer, form=form).dataset
    assert len(dataset) > 300
    return [[dataset[i] for i in range(start, start + 16)] for start in range(0, len(dataset) - 15, 16)]


@pytest.mark.parametrize(("sharing", "most"), [("mask", 0.10), ("flex", 0.04), ("trees", 0.0)])
def test_padding_on_real_pairs(real_steps, sharing, most):
    real = sum(row.size for step in real_steps for row in step)
    for budget in (8_192, 16_384, 65_536):
        computed = sum(
            slots([step[i] for i in part], sharing)
            for step in real_steps
            for part in cut(step, budget=budget, sharing=sharing)
        )
        assert 1 - real / computed <= most


def test_the_logged_padding_share_is_that_of_the_plan(tmp_path):
    rows = random_rows(16)
    model = tiny_reward_model("mask", dtype=torch.float32)
    trainer = make_trainer(tmp_path, model, rows=rows, budget=300, per_device_train_batch_size=16, max_steps=1)
    trainer.train()
    parts = cut(rows, budget=300, sharing="mask")
    computed = sum(slots([rows[i] for i in part], "mask") for part in parts)
    expected = 1 - sum(row.size for row in rows) / computed
    assert trainer.state.log_history[0]["padding_share"] == pytest.approx(expected)
    assert expected > 0.05
