"""Every method that learns from given responses, weighted or not, keeps the contract of policies' objectives."""

import dataclasses
from dataclasses import replace

import pytest
import torch

from objective_records import check_record
from trueup.errors import RecipeError
from trueup.functional.masked import masked_sum
from trueup.objectives import ADVANTAGE_OBJECTIVES, SUPERVISED_OBJECTIVES
from trueup.objectives.example import two_groups
from trueup.types import Coupled, Loss, PolicyBatch, PolicyObjective

TABLES = {**ADVANTAGE_OBJECTIVES, **SUPERVISED_OBJECTIVES}
NEEDS = ("reference", "advantage", "reward")


@pytest.fixture(params=TABLES)
def term(request):
    return TABLES[request.param]()


def batch_of(dtype=torch.float64):
    batch = two_groups(dtype=dtype)
    advantage = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=dtype)
    return PolicyBatch(
        logprob=batch.logprob,
        branch=batch.branch,
        prompt=batch.prompt,
        reference=batch.reference,
        reward=batch.reward,
        advantage=advantage[batch.branch],
    )


def part(batch, branches):
    """Some neighbouring branches as a micro-batch of their own."""
    mine = torch.isin(batch.branch, torch.tensor(branches))
    cut = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if value is not None:
            cut[field.name] = value[mine] if len(value) == len(batch.branch) else value[branches]
    return PolicyBatch(**{**cut, "branch": cut["branch"] - branches[0], "prompt": cut["prompt"] - cut["prompt"][0]})


def total(loss):
    return masked_sum(loss.values, loss.mask)


def test_is_a_frozen_keyword_only_record(term):
    assert isinstance(term, PolicyObjective)
    assert not isinstance(term, Coupled)
    check_record(term)
    assert term.needs <= set(NEEDS)


def test_is_unreduced_and_keeps_dtype(term):
    for dtype in (torch.float32, torch.float64):
        loss = term(batch_of(dtype), {})
        units = {"branch": 4, "token": 6}[term.unit]
        assert isinstance(loss, Loss)
        assert loss.values.shape == (units,)
        assert loss.values.dtype == dtype
        assert all(metric.shape == (units,) and not metric.requires_grad for metric in loss.metrics.values())


def test_is_pure_and_repeatable(term):
    batch = batch_of()
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    assert torch.equal(term(batch, {}).values, term(batch, {}).values)
    assert all(torch.equal(getattr(batch, name), value) for name, value in before.items())


def test_needs_are_enough_and_all_needed(term):
    batch = replace(batch_of(), **{name: None for name in NEEDS if name not in term.needs})
    assert term(batch, {}).values.isfinite().all()
    for need in term.needs:
        with pytest.raises(RecipeError, match=f"`{need}`"):
            term(replace(batch, **{need: None}), {})


def test_the_step_does_not_depend_on_how_it_is_cut(term):
    batch = batch_of()
    parts = [part(batch, branches) for branches in ([0], [1, 2], [3])]
    assert sum(total(term(one, {})) for one in parts).item() == pytest.approx(total(term(batch, {})).item())


def test_a_part_without_responses_adds_nothing(term):
    batch = batch_of()
    none = PolicyBatch(**{
        field.name: None if getattr(batch, field.name) is None else getattr(batch, field.name)[:0]
        for field in dataclasses.fields(batch)
    })  # fmt: skip
    assert total(term(none, {})).item() == 0.0


def test_branches_that_are_not_kept_move_nothing(term):
    batch = replace(batch_of(), kept=torch.tensor([True, True, False, True]))
    (slope,) = torch.autograd.grad(total(term(batch, {})), batch.logprob)
    assert (slope[batch.branch == 2] == 0).all()
    assert (slope[batch.branch == 0] != 0).all()
