"""Margin, hinge, logit-normalised, direct rewards, centring and Plackett-Luce."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.objectives import BradleyTerry, Centering, DirectRewards, Hinge, LogitNormalized, Margin, PlackettLuce
from trueup.objectives.example import pairs, two_pairs

REWARDS = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=5)


def value(objective, chosen, rejected):
    return objective(pairs(chosen, rejected), {}).values


class TestMargin:
    def test_recovers_bradley_terry(self):
        assert torch.equal(value(Margin(), [1.0, 3.0], [0.0, 2.0]), value(BradleyTerry(), [1.0, 3.0], [0.0, 2.0]))

    def test_margin_of_the_data_is_added(self):
        batch = two_pairs()
        with_data = type(batch)(**{**vars(batch), "margin": torch.tensor([0.5, 1.5], dtype=torch.float64)})
        found = Margin(constant=0.25)(with_data, {}).values
        expected = [math.log(1 + math.exp(-(1 - m - 0.25))) for m in (0.5, 1.5)]
        assert found.tolist() == pytest.approx(expected)
        assert Margin(constant=0.25, from_data=False)(with_data, {}).values.tolist() == pytest.approx(
            [math.log(1 + math.exp(-0.75))] * 2
        )


class TestHinge:
    def test_zero_on_ordered_pairs_at_margin_zero(self):
        assert value(Hinge(margin=0.0), [1.0, 3.0], [0.0, 2.0]).tolist() == [0.0, 0.0]

    def test_gradient_stops_at_the_margin(self):
        batch = pairs([0.4, 2.0], [0.0, 0.0])
        Hinge(margin=1.0)(batch, {}).values.sum().backward()
        assert batch.reward.grad.tolist() == [-1.0, 1.0, 0.0, 0.0]


class TestLogitNormalized:
    def test_worked_value(self):
        expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-1 / math.sqrt(13)))) / 2
        assert value(LogitNormalized(), [1.0, 3.0], [0.0, 2.0]).mean().item() == pytest.approx(expected)

    @given(REWARDS, st.floats(0.1, 10))
    def test_scale_invariant_and_bounded(self, rewards, scale):
        rewards = [(w, v) for w, v in rewards if abs(w) + abs(v) > 1e-3] or [(1.0, 0.0)]
        chosen, rejected = zip(*rewards, strict=True)
        plain = value(LogitNormalized(), chosen, rejected)
        scaled = value(LogitNormalized(), [scale * r for r in chosen], [scale * r for r in rejected])
        assert torch.allclose(plain, scaled)
        assert plain.min() >= math.log(1 + math.exp(-math.sqrt(2))) - 1e-12

    def test_bound_is_reached_at_opposite_rewards(self):
        assert value(LogitNormalized(), [2.0], [-2.0]).item() == pytest.approx(math.log(1 + math.exp(-math.sqrt(2))))

    def test_both_rewards_zero_is_finite_with_finite_gradient(self):
        batch = pairs([0.0], [0.0])
        loss = LogitNormalized()(batch, {}).values.sum()
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(batch.reward.grad).all()

    def test_a_constant_changes_it(self):
        assert not torch.allclose(value(LogitNormalized(), [1.0], [0.0]), value(LogitNormalized(), [2.0], [1.0]))


class TestDirectRewards:
    def test_with_bradley_terry_it_is_the_worked_value(self):
        total = value(BradleyTerry(), [1.0], [0.0]) + value(DirectRewards(), [1.0], [0.0])
        assert total.item() == pytest.approx(1.319671, abs=1e-6)

    def test_large_negative_rewards_stay_finite(self):
        assert value(DirectRewards(), [-1e4], [1e4]).item() == pytest.approx(2e4)

    def test_a_constant_changes_it(self):
        assert not torch.allclose(value(DirectRewards(), [1.0], [0.0]), value(DirectRewards(), [2.0], [1.0]))


class TestCentering:
    def test_worked_value(self):
        assert value(Centering(coefficient=0.01), [1.0, 3.0], [0.0, 2.0]).tolist() == pytest.approx([0.01, 0.25])


class TestPlackettLuce:
    def test_two_responses_are_bradley_terry(self):
        chosen, rejected = [1.0, -2.0], [0.5, 3.0]
        assert torch.allclose(value(PlackettLuce(), chosen, rejected), value(BradleyTerry(), chosen, rejected))

    def test_probabilities_of_all_rankings_sum_to_one(self):
        import itertools

        base = pairs([0.3, -1.0], [1.2, 0.4])  # four branches, made one prompt
        reward = base.reward.detach()
        total = 0.0
        for ranking in itertools.permutations(range(4)):
            rank = torch.empty(4, dtype=torch.long)
            rank[list(ranking)] = torch.arange(4)
            batch = type(base)(
                **{**vars(base), "reward": reward, "prompt": torch.zeros(4, dtype=torch.long), "rank": rank}
            )
            total += math.exp(-PlackettLuce()(batch, {}).values.item())
        assert total == pytest.approx(1.0)

    def test_unranked_prompts_are_masked(self):
        batch = two_pairs()
        unranked = type(batch)(**{**vars(batch), "rank": torch.tensor([0, 1, -1, -1])})
        loss = PlackettLuce()(unranked, {})
        assert loss.mask.tolist() == [True, False]
        assert torch.isfinite(loss.values).all()
