"""Every preference objective: its contract, its refusals, and that it stays finite."""

import dataclasses
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objective_records import check_record
from trueup.errors import RecipeError
from trueup.functional.masked import masked_sum
from trueup.objectives import DPO, PREFERENCE_OBJECTIVES, SimPO
from trueup.objectives.example import two_preferences
from trueup.types import Coupled, Loss, PolicyObjective

FREE = {"beta": 0.7, "eta": 0.7}
"""Strengths at which all terms of the losses matter in the example."""


def make(name):
    kind = PREFERENCE_OBJECTIVES[name]
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{key: value for key, value in FREE.items() if key in names})


@pytest.fixture(params=PREFERENCE_OBJECTIVES)
def term(request):
    return make(request.param)


def started(dtype=torch.float64, seed=0):
    """The example some steps later, with a pair more: one response may be in several."""
    batch = two_preferences(dtype=dtype)
    moved = 0.3 * torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    pairs = torch.tensor([[0, 1], [1, 0], [2, 3]])
    reward = torch.tensor([0.5, 0.2, -0.1, 0.4], dtype=dtype)
    logprob = (batch.logprob.detach() + moved).requires_grad_()
    return replace(batch, logprob=logprob, pairs=pairs, reward=reward)


def statistics(term, batch):
    return term.statistics(batch) if isinstance(term, Coupled) else {}


def evaluate(term, batch, stats=None):
    return term(batch, statistics(term, batch) if stats is None else stats)


def part(batch, prompt):
    """The pairs of one prompt as a micro-batch of their own."""
    branches = (batch.prompt == prompt).nonzero()[:, 0]
    tokens = torch.isin(batch.branch, branches)
    pairs = torch.isin(batch.pairs[:, 0], branches)
    first = branches[0]
    by_token = {name: getattr(batch, name)[tokens] for name in ("logprob", "reference", "previous")}
    return type(batch)(
        **by_token,
        branch=batch.branch[tokens] - first,
        prompt=torch.zeros_like(branches),
        pairs=batch.pairs[pairs] - first,
        reward=batch.reward[branches],
    )


def test_is_a_frozen_keyword_only_record(term):
    assert isinstance(term, PolicyObjective)
    assert term.unit == "pair"
    assert dataclasses.fields(term)
    check_record(term)


@pytest.mark.parametrize("kind", PREFERENCE_OBJECTIVES.values())
def test_can_be_made_without_settings(kind):
    assert torch.isfinite(evaluate(kind(), started()).values).all()


def test_is_unreduced_and_keeps_dtype(term):
    for dtype in (torch.float32, torch.float64):
        loss = evaluate(term, started(dtype))
        assert isinstance(loss, Loss)
        assert loss.values.shape == (3,)
        assert loss.mask is None
        assert loss.values.dtype == dtype
        assert all(value.dtype == dtype and value.shape == (3,) for value in loss.metrics.values())


def test_is_pure_and_repeatable(term):
    batch = started()
    before = {name: value.clone() for name, value in vars(batch).items() if value is not None}
    assert torch.equal(evaluate(term, batch).values, evaluate(term, batch).values)
    assert all(torch.equal(getattr(batch, name), value) for name, value in before.items())


def test_reads_only_what_it_says_it_needs(term):
    batch = started()
    for name in ("reference", "previous", "reward"):
        without = replace(batch, **{name: None})
        if name in term.needs:
            with pytest.raises(RecipeError, match=f"`{name}`"):
                evaluate(term, without)
        else:
            assert torch.equal(evaluate(term, without).values, evaluate(term, batch).values)


def test_wants_pairs(term):
    with pytest.raises(RecipeError, match="`pairs`"):
        evaluate(term, replace(started(), pairs=None))


def test_gradients_match_finite_differences(term):
    batch = started()
    stats = statistics(term, batch)
    weight = torch.tensor([1.0, 0.7, -0.4], dtype=torch.float64)

    def total(logprob):
        return (weight * evaluate(term, replace(batch, logprob=logprob), stats).values).sum()

    (exact,) = torch.autograd.grad(total(batch.logprob), batch.logprob)
    assert exact.abs().max() > 1e-3
    for i in range(len(exact)):
        step = torch.zeros_like(exact)
        step[i] = 1e-6
        slope = (total(batch.logprob.detach() + step) - total(batch.logprob.detach() - step)) / 2e-6
        assert slope.item() == pytest.approx(exact[i].item(), abs=1e-7)


def test_learning_raises_the_chosen_and_lowers_the_rejected(term):
    batch = replace(two_preferences(), pairs=torch.tensor([[1, 0], [2, 3]]))
    (slope,) = torch.autograd.grad(evaluate(term, batch).values.sum(), batch.logprob)
    assert (slope[[2, 3]] < 0).all()
    assert (slope[[0, 1, 4, 5]] > 0).all()


@settings(max_examples=40)
@given(seed=st.integers(0, 50), name=st.sampled_from(sorted(PREFERENCE_OBJECTIVES)))
def test_the_order_of_pairs_and_the_cut_of_a_step_change_nothing(seed, name):
    batch, term = started(seed=seed), make(name)
    whole = evaluate(term, batch).values
    turned = evaluate(term, replace(batch, pairs=batch.pairs.flip(0))).values
    assert torch.allclose(turned.flip(0), whole, rtol=1e-12)
    cuts = [part(batch, prompt) for prompt in (0, 1)]
    stats = {}
    for cut in cuts:
        for key, value in statistics(term, cut).items():
            stats[key] = stats.get(key, 0) + value
    pieces = torch.cat([evaluate(term, cut, stats).values for cut in cuts])
    assert torch.allclose(pieces, whole, rtol=1e-12)
    (slope,) = torch.autograd.grad(whole.sum(), batch.logprob)
    (sliced,) = torch.autograd.grad(pieces.sum(), batch.logprob)
    assert torch.allclose(slope, sliced, rtol=1e-12)


def test_pairs_without_a_kept_branch_are_masked(term):
    batch = replace(started(), kept=torch.tensor([True, True, True, False]))
    loss = evaluate(term, batch)
    assert loss.mask.tolist() == [True, True, False]
    alone = evaluate(term, part(started(), 0)).values.sum()
    assert masked_sum(loss.values, loss.mask).item() == pytest.approx(alone.item())


def test_metrics_are_of_the_implied_rewards(term):
    metrics = evaluate(term, started()).metrics
    chosen, rejected = metrics["rewards/chosen"], metrics["rewards/rejected"]
    assert torch.equal(metrics["rewards/margins"], chosen - rejected)
    assert metrics["rewards/accuracies"].tolist() == [float(a > b) for a, b in zip(chosen, rejected, strict=True)]
    assert metrics["rewards/accuracies"][:2].sum() == 1
    assert metrics["logps/chosen"][1] == metrics["logps/rejected"][0]
    assert not any(value.requires_grad for value in metrics.values())


@pytest.mark.parametrize(
    "name", ["dpo", "forward_kl_dpo", "js_dpo", "alpha_dpo", "chi_squared_dpo", "chi_squared_po", "h_dpo", "modpo"]
)
def test_dpo_like_losses_are_those_of_the_rewards_that_they_log(name):
    """Rewards, accuracies and the loss cannot disagree."""
    loss = evaluate(make(name), started())
    margin = loss.metrics["rewards/margins"]
    assert torch.allclose(loss.values, -margin.sigmoid().log())


def test_rewards_of_h_dpo_and_modpo_are_their_own():
    """By hand: log pi and log pi_ref of the four responses are -log (4, 4, 2, 8) and -log (16, 4, 4, 16)."""
    size = torch.tensor([4.0, 4.0, 2.0, 8.0], dtype=torch.float64).log()
    anchor = torch.tensor([16.0, 4.0, 4.0, 16.0], dtype=torch.float64).log()
    batch = two_preferences()
    sharper = PREFERENCE_OBJECTIVES["h_dpo"](beta=0.3, alpha=0.8)(batch, {}).metrics
    expected = -0.3 * 0.8 * size + 0.3 * anchor
    assert torch.allclose(sharper["rewards/chosen"], expected[[0, 2]])
    assert torch.allclose(sharper["rewards/rejected"], expected[[1, 3]])
    several = PREFERENCE_OBJECTIVES["modpo"](beta=0.3, weight=0.4)(batch, {}).metrics
    expected = (0.3 * (anchor - size) - torch.tensor([3.0, 1.0, 2.0, 2.0])) / 0.4
    assert torch.allclose(several["rewards/chosen"], expected[[0, 2]])


@pytest.mark.parametrize("shift", [-200.0, 200.0])
def test_far_from_the_reference_values_and_gradients_are_finite(term, shift):
    batch = two_preferences(dtype=torch.float32)
    far = replace(batch, reference=batch.reference + shift * torch.tensor([1.0, 1.0, 0.0, -1.0, 0.0, 0.0]))
    values = evaluate(term, far).values
    (slope,) = torch.autograd.grad(values.sum(), batch.logprob)
    assert torch.isfinite(values).all()
    assert torch.isfinite(slope).all()


def test_an_empty_set_of_pairs_is_an_empty_loss(term):
    assert evaluate(term, replace(started(), pairs=torch.zeros(0, 2, dtype=torch.long))).values.shape == (0,)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("dpo", {"beta": 0.0}, "beta must be positive, got 0.0; "),
        ("dpo", {"beta": float("nan")}, "beta must be positive, got nan; "),
        ("ipo", {"beta": -1.0}, "beta must be positive"),
        ("simpo", {"beta": float("inf")}, "beta must be positive"),
        ("simpo", {"gamma": -0.5}, "gamma must not be negative, got -0.5; take 0"),
        ("cdpo", {"label_smoothing": 0.5}, r"label_smoothing must lie in \[0, 0.5\), got 0.5; .* exchange chosen"),
        ("robust_dpo", {"label_smoothing": -0.1}, r"label_smoothing must lie in \[0, 0.5\)"),
        ("kto_pair", {"desirable_weight": 0.0}, "desirable_weight must be positive"),
        ("kto_pair", {"undesirable_weight": -1.0}, "undesirable_weight must be positive"),
        ("alpha_dpo", {"alpha": 0.0}, "alpha must be positive, got 0.0; at 0 it is `dpo`"),
        ("chi_squared_po", {"kl_weight": 0.0}, "kl_weight must be positive, .* `chi_squared_dpo`"),
        ("chi_squared_po", {"reward_limit": 0.0}, "reward_limit must be positive, .* leave it out"),
        ("h_dpo", {"alpha": 0.0}, "alpha must be positive, got 0.0; 1 is DPO"),
        ("modpo", {"weight": 0.0}, r"weight must lie in \(0, 1\], got 0.0; .* another objective"),
        ("modpo", {"weight": 1.1}, r"weight must lie in \(0, 1\], got 1.1"),
        ("inpo", {"eta": 0.0}, "eta must be positive"),
        ("inpo", {"eta": 0.1, "tau": 0.2}, r"tau must lie in \[0, eta = 0.1\], got 0.2; raise eta or lower tau"),
        ("inpo", {"eta": 0.1, "tau": -0.1}, "tau must lie in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings, words):
    with pytest.raises(RecipeError, match=words):
        PREFERENCE_OBJECTIVES[name](**settings)


def test_simpo_takes_the_mean_over_tokens_and_no_reference():
    """A response and the same one said twice are worth the same to SimPO, but not to DPO."""
    batch = two_preferences()
    twice = replace(batch, logprob=torch.tensor([0.5, 0.5, 0.5, 0.25, 0.25, 0.25], dtype=torch.float64).log())
    assert SimPO(gamma=0.0)(twice, {}).metrics["rewards/margins"].tolist() == pytest.approx([0, 0])
    assert DPO(beta=1.0)(twice, {}).metrics["rewards/margins"].tolist() == pytest.approx([math.log(2), 0])
