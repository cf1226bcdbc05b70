"""MODPO: several objectives at once, from the preferences of one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tabular_pairs import bradley_terry, distribution, labelled, learned, some

from trueup.objectives import DPO, MODPO
from trueup.objectives.example import two_preferences

BETA = 0.7


def test_without_others_it_is_dpo():
    batch = two_preferences()
    alone = replace(batch, reward=torch.zeros(4, dtype=torch.float64))
    ours, theirs = MODPO(weight=1.0)(alone, {}).values, DPO()(batch, {}).values
    assert torch.equal(ours, theirs)
    slopes = [torch.autograd.grad(values.sum(), batch.logprob)[0] for values in (ours, theirs)]
    assert torch.equal(*slopes)


@settings(max_examples=30)
@given(weight=st.floats(0.05, 1.0), first=st.floats(-5, 5), second=st.floats(-5, 5))
def test_what_both_responses_earn_alike_cancels(weight, first, second):
    """So does an implied reward whose model has not moved from the reference: it is 0."""
    reward = torch.tensor([first, first, second, second], dtype=torch.float64)
    batch = replace(two_preferences(), reward=reward)
    assert torch.allclose(MODPO(weight=weight)(batch, {}).values, DPO(beta=0.1 / weight)(batch, {}).values)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_every_objectives_preferences_lead_to_the_same_policy(weight):
    reference, first, second = distribution(0), some(1), some(2)
    expected = (reference + (weight * first + (1 - weight) * second) / BETA).log_softmax(0)
    from_first = learned(
        MODPO(beta=BETA, weight=weight),
        labelled(bradley_terry(first), reference),
        reference,
        reward=(1 - weight) * second,
    )
    from_second = learned(
        MODPO(beta=BETA, weight=1 - weight),
        labelled(bradley_terry(second), reference),
        reference,
        reward=weight * first,
    )
    assert torch.allclose(from_first, expected, atol=1e-6)
    assert torch.allclose(from_second, expected, atol=1e-6)


def test_three_objectives_and_weights_that_do_not_add_up_to_one():
    reference, first, second, third = distribution(0), some(1), some(2), some(3)
    others = 0.4 * second - 0.2 * third
    policy = learned(MODPO(beta=BETA, weight=0.9), labelled(bradley_terry(first), reference), reference, reward=others)
    assert torch.allclose(policy, (reference + (0.9 * first + others) / BETA).log_softmax(0), atol=1e-6)


def test_without_information_the_others_decide():
    """Labels by coin flips: a larger reward elsewhere makes a response more likely, by r / (2 beta) at even weights."""
    reference, second = distribution(0), some(2)
    coin = torch.full((4, 4), 0.5, dtype=torch.float64)
    policy = learned(MODPO(beta=BETA, weight=0.5), labelled(coin, reference), reference, reward=0.5 * second)
    tilt = policy - reference
    assert torch.allclose(tilt - tilt[0], (second - second[0]) / (2 * BETA), atol=1e-6)
    assert tilt.argmax() == second.argmax()


def test_at_the_reference_the_logit_is_minus_the_others_margin_over_the_weight():
    batch = two_preferences()
    batch = replace(batch, logprob=batch.reference)
    assert MODPO(weight=0.4)(batch, {}).metrics["rewards/margins"].tolist() == pytest.approx([-2 / 0.4, 0])


def test_both_terms_are_divided_by_the_weight():
    batch = two_preferences()
    margins = [MODPO(beta=1.0, weight=weight)(batch, {}).metrics["rewards/margins"] for weight in (1.0, 0.25)]
    assert torch.allclose(margins[1], 4 * margins[0])
    assert margins[0].abs().max() > 0.1


def test_rewards_of_others_get_no_gradient():
    batch = two_preferences()
    others = batch.reward.clone().requires_grad_()
    loss = MODPO()(replace(batch, reward=others), {})
    (slope,) = torch.autograd.grad(loss.values.sum(), others, allow_unused=True)
    assert slope is None
