"""A step is the same however it is cut into micro-batches and however prompts are shared."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_training import largest_difference, make_trainer, random_rows, step_once, tiny_reward_model
from trueup.models.plan import cut
from trueup.objectives import REWARD_OBJECTIVES, REWARD_REGULARIZERS
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero

BSR = [
    BatchSumToZero(coefficient=0.3, reduction=reduction, group_size=size)
    for reduction in ("official", "mean", "sum")
    for size in (None, 4)
]
TERMS = [
    *([cls()] for cls in REWARD_OBJECTIVES.values()),
    *([BradleyTerry(), cls()] for cls in REWARD_REGULARIZERS.values()),
    *([BradleyTerry(), term] for term in BSR),
    [BatchSumToZero(coefficient=1.0), BatchSumToZero(coefficient=0.1, reduction="mean", group_size=3)],
]
ROWS = random_rows(10, seed=4)
# transformers computes Llama's RMSNorm in float32 whatever the model's type; GPT-2 is float64 throughout.
TOLERANCE = {"llama": 1e-6, "gpt2": 1e-10}


def budget_for(rows, parts, sharing):
    """The largest token budget that cuts the rows into exactly so many parts."""
    for budget in range(2000, 0, -1):
        if len(cut(rows, budget=budget, sharing=sharing)) == parts:
            return budget
    raise AssertionError(f"no budget gives {parts} parts")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Of each family: loss and gradients of every loss with all rows in one ordinary padded micro-batch."""
    folder, results = tmp_path_factory.mktemp("run"), {}
    for family in TOLERANCE:
        model = tiny_reward_model("separate", family=family)
        trainers = (make_trainer(folder, model, terms=terms, budget=10**6) for terms in TERMS)
        results[family] = [step_once(trainer, ROWS) for trainer in trainers]
    return results


CUTS = [("gpt2", sharing, parts) for sharing in ("trees", "mask", "separate") for parts in (1, 2, 8)]


@pytest.mark.parametrize(("family", "sharing", "parts"), [*CUTS, ("llama", "trees", 2), ("llama", "mask", 8)])
def test_same_loss_and_gradients(family, sharing, parts, expected, tmp_path, monkeypatch):
    # Padding can make two parts cheaper than one; here the number of parts is what is asked for.
    monkeypatch.setattr("trueup.models.plan._PART_COST", 10**6)
    budget = budget_for(ROWS, parts, sharing)
    model = tiny_reward_model(sharing, family=family)
    for terms, (loss, gradients) in zip(TERMS, expected[family], strict=True):
        trainer = make_trainer(tmp_path, model, terms=terms, budget=budget)
        assert len(trainer._plan(ROWS)[1]) == parts
        found, found_gradients = step_once(trainer, ROWS)
        assert found == pytest.approx(loss, abs=TOLERANCE[family]), terms
        assert largest_difference(found_gradients, gradients) < TOLERANCE[family], terms


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), budget=st.integers(1, 400), count=st.integers(8, 16))
def test_any_cut_of_any_step(seed, budget, count, tmp_path_factory):
    rows = random_rows(count, seed=seed, longest=12)
    model, folder = tiny_reward_model("trees", family="gpt2", n_layer=1), tmp_path_factory.mktemp("run")
    terms = [BradleyTerry(), BatchSumToZero(coefficient=0.1, group_size=5)]
    whole = step_once(make_trainer(folder, model, terms=terms, budget=10**6), rows)
    cut_up = step_once(make_trainer(folder, model, terms=terms, budget=budget), rows)
    assert cut_up[0] == pytest.approx(whole[0], abs=1e-10)
    assert largest_difference(cut_up[1], whole[1]) < 1e-10


def test_order_of_rows_decides_the_groups_and_the_cut_does_not(tmp_path):
    """A check of the check: another order of rows is another loss with groups, and the same without."""
    model = tiny_reward_model("trees")
    turned = ROWS[::-1]
    for size, same in ((None, True), (4, False)):
        trainer = make_trainer(tmp_path, model, terms=[BatchSumToZero(coefficient=1.0, group_size=size)], budget=90)
        assert (step_once(trainer, ROWS)[0] == pytest.approx(step_once(trainer, turned)[0], abs=1e-9)) is same


def test_gradient_checkpointing_changes_no_gradient(tmp_path):
    terms = [BradleyTerry(), BatchSumToZero(coefficient=0.1)]
    results = []
    for checkpointing in (False, True):
        model = tiny_reward_model("trees")
        if checkpointing:
            model.core.gradient_checkpointing_enable({"use_reentrant": False})
        results.append(step_once(make_trainer(tmp_path, model, terms=terms, budget=200), ROWS))
    assert results[0][0] == results[1][0]
    assert largest_difference(results[0][1], results[1][1]) < 1e-12


@pytest.mark.parametrize(
    ("terms", "per_part"),
    [
        ([BradleyTerry()], 1),
        ([BradleyTerry(), BatchSumToZero()], 2),
    ],
)
@pytest.mark.parametrize("budget", [10**6, 150])
def test_forward_passes(terms, per_part, budget, tmp_path):
    """An extra pass is made for coupled losses only, and only where the step has several parts."""
    model = tiny_reward_model("trees")
    trainer = make_trainer(tmp_path, model, terms=terms, budget=budget)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    step_once(trainer, ROWS)
    parts = len(trainer._plan(ROWS)[1])
    assert parts == (1 if budget == 10**6 else 5)
    assert sum(calls) == parts
    assert len(calls) == (1 if parts == 1 else per_part * parts)


def test_both_passes_see_the_same_rewards(tmp_path):
    """With dropout off, and, in an adapter's dropout, because both passes draw the same numbers."""
    for dropout in (0.0, 0.5):
        model = tiny_reward_model("trees")
        model.core.model.norm = torch.nn.Sequential(model.core.model.norm, torch.nn.Dropout(dropout)).double()
        trainer = make_trainer(tmp_path, model, terms=[BatchSumToZero()], budget=150)
        rewards = []
        model.register_forward_hook(lambda *args, seen=rewards: seen.append(args[-1].reward.detach()))
        step_once(trainer, ROWS)
        half = len(rewards) // 2
        assert half > 1
        assert all(torch.equal(a, b) for a, b in zip(rewards[:half], rewards[half:], strict=True))
        before = torch.cat(rewards[:half])
        rewards.clear()
        step_once(trainer, ROWS)
        assert torch.equal(before, torch.cat(rewards[: len(rewards) // 2])) is (dropout == 0.0)
