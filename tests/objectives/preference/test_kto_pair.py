"""KTO on pairs: both sides' mean log-ratio over the whole step, not differentiated."""

import math

import pytest
import torch
from tabular_pairs import distribution, every_pair

from trueup.objectives import KTOPair
from trueup.objectives.example import two_preferences


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_by_hand():
    """Log-ratios log 4 against 0, and log 2 against log 2: means (log 8) / 2 and (log 2) / 2."""
    term, batch = KTOPair(beta=0.4, desirable_weight=1.2, undesirable_weight=0.7), two_preferences()
    stats = term.statistics(batch)
    assert stats["chosen"].item() == pytest.approx(math.log(8))
    assert stats["rejected"].item() == pytest.approx(math.log(2))
    assert stats["pairs"].item() == 2
    gain, loss = math.log(8) / 2, math.log(2) / 2
    expected = [
        1.2 * (1 - sigmoid(0.4 * (chosen - loss))) / 2 + 0.7 * (1 - sigmoid(0.4 * (gain - rejected))) / 2
        for chosen, rejected in ((math.log(4), 0.0), (math.log(2), math.log(2)))
    ]
    assert term(batch, stats).values.tolist() == pytest.approx(expected)


def test_estimates_below_zero_count_as_zero():
    term, batch = KTOPair(), two_preferences()
    below = {"chosen": torch.tensor(-3.0), "rejected": torch.tensor(-1.0), "pairs": torch.tensor(2.0)}
    nothing = {name: value * (name == "pairs") for name, value in below.items()}
    assert torch.equal(term(batch, below).values, term(batch, nothing).values)


def test_statistics_carry_no_gradient_and_move_the_values():
    term, batch = KTOPair(beta=0.4, undesirable_weight=2.0), two_preferences()
    stats = term.statistics(batch)
    assert not any(value.requires_grad for value in stats.values())
    more = {**stats, "chosen": stats["chosen"] + 1, "rejected": stats["rejected"] + 1}
    assert (term(batch, more).values - term(batch, stats).values).abs().min() > 1e-4


def test_at_the_reference_a_pair_is_worth_a_quarter_of_both_weights():
    policy = distribution(0)
    term, batch = KTOPair(desirable_weight=1.2, undesirable_weight=0.7), every_pair(policy, policy)
    assert torch.allclose(term(batch, term.statistics(batch)).values, torch.tensor(1.9 / 4, dtype=torch.float64))
