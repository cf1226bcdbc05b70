"""Every entry of every table keeps the contract of objectives."""

import dataclasses
import importlib

import pytest
import torch

from objective_records import check_record
from trueup.objectives import REWARD_OBJECTIVES, REWARD_REGULARIZERS
from trueup.objectives.example import pairs
from trueup.types import Coupled, Loss, RewardObjective

TABLES = {**REWARD_OBJECTIVES, **REWARD_REGULARIZERS}


def evaluate(objective, batch):
    stats = objective.statistics(batch) if isinstance(objective, Coupled) else {}
    return objective(batch, stats)


@pytest.fixture(params=TABLES)
def objective(request):
    return TABLES[request.param]()


def batch(dtype=torch.float64):
    return pairs([0.7, -0.2, 1.5], [0.1, 0.4, -1.0], dtype=dtype)


def test_is_a_frozen_keyword_only_record(objective):
    assert isinstance(objective, RewardObjective)
    check_record(objective)


def test_is_unreduced_and_keeps_dtype(objective):
    for dtype in (torch.float32, torch.float64):
        loss = evaluate(objective, batch(dtype))
        assert isinstance(loss, Loss)
        assert loss.values.shape == (3,)
        assert loss.values.dtype == dtype


def test_is_pure_and_repeatable(objective):
    given = batch()
    before = {name: value.clone() for name, value in vars(given).items() if isinstance(value, torch.Tensor)}
    first, second = evaluate(objective, given).values, evaluate(objective, given).values
    assert torch.equal(first, second)
    assert all(torch.equal(getattr(given, name), value) for name, value in before.items())


def test_order_of_pairs_does_not_matter(objective):
    given = batch()
    turned = dataclasses.replace(given, pairs=given.pairs.flip(0), order=given.order.flip(0))
    total, again = evaluate(objective, given).values.sum(), evaluate(objective, turned).values.sum()
    assert torch.allclose(total, again)


def test_a_larger_chosen_reward_never_raises_a_preference_loss(objective):
    if type(objective) not in REWARD_OBJECTIVES.values():
        pytest.skip("a regulariser, not a preference loss")
    better = pairs([0.9, -0.2, 1.5], [0.1, 0.4, -1.0])
    assert evaluate(objective, better).values.sum() <= evaluate(objective, batch()).values.sum() + 1e-9


def test_gradients_match_finite_differences(objective):
    given = batch()

    def total(reward):
        return evaluate(objective, dataclasses.replace(given, reward=reward)).values.sum()

    exact = torch.autograd.grad(total(given.reward), given.reward)[0]
    # For coupled terms the statistics must move with the reward, which `evaluate` makes them do.
    for i in range(len(given.reward)):
        step = torch.zeros_like(given.reward)
        step[i] = 1e-6
        slope = (total(given.reward.detach() + step) - total(given.reward.detach() - step)) / 2e-6
        assert slope.item() == pytest.approx(exact[i].item(), abs=1e-6)


def test_every_method_has_a_row_in_the_methods_page(objective):
    from pathlib import Path

    page = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    module = importlib.import_module(type(objective).__module__)
    assert Path(module.__file__).name in page
