"""Every method and regulariser of policies keeps the contract of online objectives."""

import dataclasses
import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from objective_records import check_record
from trueup.errors import RecipeError
from trueup.functional.masked import masked_sum
from trueup.objectives import POLICY_OBJECTIVES, POLICY_REGULARIZERS
from trueup.objectives.example import two_groups
from trueup.types import Coupled, Loss, OnlineObjective

TABLES = {**POLICY_OBJECTIVES, **POLICY_REGULARIZERS}
COSTLY = {
    "reference": ["reference"],
    "value": ["value", "old_value"],
    "entropy": ["entropy"],
    "forward_kl": ["forward_kl"],
}
LEAVES = ("logprob", "value", "entropy", "forward_kl")


@pytest.fixture(params=TABLES)
def term(request):
    return TABLES[request.param]()


def collected(dtype=torch.float64):
    """A collection some steps after it was drawn, with what PPO leaves to the value loss."""
    batch = two_groups(dtype=dtype)
    drawn = torch.tensor([0.1, -0.2, 0.1, -0.3, 0.05, 0.0], dtype=dtype)
    return replace(batch, behaviour=batch.behaviour + drawn, returns=batch.old_value + 1)


def evaluate(term, batch, stats=None):
    if stats is None:
        stats = term.statistics(batch) if isinstance(term, Coupled) else {}
    return term(batch, stats)


def part(batch, branches):
    """Some neighbouring branches as a micro-batch of their own."""
    mine = torch.isin(batch.branch, torch.tensor(branches))
    cut = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if value is not None:
            cut[field.name] = value[mine] if len(value) == len(batch.branch) else value[branches]
    return type(batch)(**{**cut, "branch": cut["branch"] - branches[0], "prompt": cut["prompt"] - cut["prompt"][0]})


def total(loss):
    return masked_sum(loss.values, loss.mask)


def test_is_a_frozen_keyword_only_record(term):
    assert isinstance(term, OnlineObjective)
    check_record(term)
    assert term.needs <= set(COSTLY)


def test_is_unreduced_and_keeps_dtype(term):
    for dtype in (torch.float32, torch.float64):
        batch = term.prepare(collected(dtype))
        loss = evaluate(term, batch)
        units = {"branch": 4, "token": 6}[term.unit]
        assert isinstance(loss, Loss)
        assert loss.values.shape == (units,)
        assert loss.values.dtype == dtype
        assert all(metric.shape == (units,) and not metric.requires_grad for metric in loss.metrics.values())
        if batch.advantage is not None:
            assert batch.advantage.shape == (6,)
            assert batch.advantage.dtype == dtype


def test_is_pure_and_repeatable(term):
    given = collected()
    before = {name: value.clone() for name, value in vars(given).items() if isinstance(value, torch.Tensor)}
    first, second = (evaluate(term, term.prepare(given)).values for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(getattr(given, name), value) for name, value in before.items())


def test_preparing_takes_no_gradient_and_regularisers_prepare_nothing(term):
    given = collected()
    plain = replace(given, **{name: getattr(given, name).detach() for name in LEAVES})
    prepared = term.prepare(plain)
    if type(term) in POLICY_REGULARIZERS.values():
        assert prepared is plain
        return
    changed = {name for name, value in vars(prepared).items() if value is not getattr(plain, name)}
    assert changed in ({"advantage"}, {"advantage", "returns"}, {"kept"})


def test_needs_are_enough_and_all_needed(term):
    """What it does not ask for may be missing; without what it asks for it says so."""
    missing = {name: None for need, names in COSTLY.items() if need not in term.needs for name in names}
    batch = replace(collected(), **missing)
    assert evaluate(term, term.prepare(batch)).values.isfinite().all()
    for need in term.needs:
        without = replace(batch, **dict.fromkeys(COSTLY[need]))
        with pytest.raises(RecipeError, match=f"`(old_)?{need}`"):
            evaluate(term, term.prepare(without))


def test_the_step_does_not_depend_on_how_it_is_cut(term):
    batch = term.prepare(collected())
    stats = term.statistics(batch) if isinstance(term, Coupled) else {}
    whole = total(evaluate(term, batch))
    parts = [part(batch, branches) for branches in ([0], [1, 2], [3])]
    if stats:
        sums = [term.statistics(piece) for piece in parts]
        for name, value in stats.items():
            assert not value.requires_grad
            assert sum(s[name] for s in sums).item() == pytest.approx(value.item())
    assert sum(total(evaluate(term, piece, stats)) for piece in parts).item() == pytest.approx(whole.item())


def test_branches_that_are_not_kept_move_nothing(term):
    kept = torch.tensor([True, False, True, True])
    batch = replace(term.prepare(collected()), kept=kept)
    leaves = [getattr(batch, name) for name in LEAVES]
    slopes = torch.autograd.grad(total(evaluate(term, batch)), leaves, allow_unused=True)
    present = [slope for slope in slopes if slope is not None]
    assert present
    for slope in present:
        assert (slope[batch.branch == 1] == 0).all()


def test_order_of_branches_does_not_matter(term):
    """Prompts and branches turned round, at no change in the sum."""
    batch = collected()
    order = torch.tensor([4, 5, 3, 2, 0, 1])
    cut = {}
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if value is not None:
            cut[field.name] = value[order] if len(value) == 6 else value.flip(0)
    turned = type(batch)(**{**cut, "branch": 3 - cut["branch"], "prompt": 1 - cut["prompt"]})
    # Of equal rewards SuperHF keeps the first.
    apart = torch.tensor([3.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    batch, turned = replace(batch, reward=apart), replace(turned, reward=apart.flip(0))
    values = [total(evaluate(term, term.prepare(one))).item() for one in (batch, turned)]
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("term", [kind() for kind in POLICY_REGULARIZERS.values()], ids=lambda x: type(x).__name__)
def test_coefficient_scales_the_term(term):
    batch = term.prepare(collected())
    doubled = dataclasses.replace(term, coefficient=2 * term.coefficient)
    assert torch.allclose(evaluate(doubled, batch).values, 2 * evaluate(term, batch).values)
    assert evaluate(dataclasses.replace(term, coefficient=0.0), batch).values.abs().max() == 0


def test_every_method_has_a_row_in_the_methods_page(term):
    page = (Path(__file__).resolve().parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    module = importlib.import_module(type(term).__module__)
    name = next(name for name, kind in TABLES.items() if kind is type(term))
    assert f"`{name}`" in page
    assert f"/{Path(module.__file__).name}`" in page
