"""A-LoL, its variants and its baselines: limits, the clip, what weighs nothing, and where training ends."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tabular_policies import Tabular
from trueup.errors import RecipeError
from trueup.functional.segments import branch_sum
from trueup.objectives import ADVANTAGE_OBJECTIVES, WBC, ALol, ALolKL, ALolRefFree, ALolSeq, RGold, RLol
from trueup.objectives.example import two_groups
from trueup.train.priority import priority_rows
from trueup.types import PolicyBatch

BY_ADVANTAGE = (ALol(), ALolRefFree(), ALolSeq(), ALolKL())


def batch_of(advantage=(1.0, -1.0, 0.5, 0.25), **changes):
    batch = two_groups()
    each = torch.tensor(advantage, dtype=torch.float64)
    return replace(batch, advantage=each[batch.branch], **changes)


def slope_of(term, batch):
    return torch.autograd.grad(term(batch, {}).values.sum(), batch.logprob)[0].tolist()


# The first step


def test_at_the_first_step_three_variants_are_one():
    batch = batch_of()
    batch = replace(batch, reference=batch.logprob.detach())
    slopes = [slope_of(term, batch) for term in BY_ADVANTAGE[:3]]
    assert slopes[0] == slopes[1] == slopes[2] == [-1, -1, 0, -0.5, -0.25, -0.25]


def test_with_all_advantages_one_and_no_room_it_is_the_likelihood():
    batch = batch_of((1.0,) * 4)
    values = ALol(clip=0.0)(batch, {}).values
    assert torch.equal(values, -branch_sum(batch.logprob, batch.branch, 4))
    assert torch.equal(values, WBC()(replace(batch, reward=torch.ones(4, dtype=torch.float64)), {}).values)


# The clip


@pytest.mark.parametrize(("ratio", "weight"), [(5.0, 1.9), (1.5, 1.5), (0.5, 0.5), (0.01, 0.1)])
@pytest.mark.parametrize("term", [ALol(), ALolSeq(), RLol()], ids=lambda term: type(term).__name__)
def test_the_clip_clamps_a_weight_and_leaves_the_gradient(term, ratio, weight):
    """One token of ratio 5: unlike PPO's, the gradient goes on, at weight 1.9."""
    logprob = torch.tensor([-6.0], dtype=torch.float64, requires_grad=True)
    batch = PolicyBatch(
        logprob=logprob,
        branch=torch.tensor([0]),
        prompt=torch.tensor([0]),
        reference=logprob.detach() - math.log(ratio),
        advantage=torch.tensor([2.0], dtype=torch.float64),
        reward=torch.tensor([2.0], dtype=torch.float64),
    )
    assert slope_of(term, batch) == pytest.approx([-2 * weight])
    assert term(batch, {}).values.item() == pytest.approx(2 * weight * 6)
    assert float(term(batch, {}).metrics["policy_clipped"]) == (weight in (1.9, 0.1))


def test_the_ratio_is_of_whole_responses_or_of_each_token():
    """Two tokens of ratio 1.5: together 2.25, beyond the clip; each alone within it."""
    batch = batch_of((1.0, 1.0, 1.0, 1.0))
    batch = replace(batch, reference=batch.logprob.detach() - math.log(1.5))
    assert slope_of(ALol(), batch) == pytest.approx([-1.9, -1.9, -1.5, -1.5, -1.9, -1.9])
    assert slope_of(ALolSeq(), batch) == pytest.approx([-1.5] * 6)


@given(
    logprob=st.lists(st.floats(-8, 0), min_size=5, max_size=5),
    reference=st.lists(st.floats(-8, 0), min_size=5, max_size=5),
    clip=st.floats(0, 2),
)
def test_responses_of_one_token_make_sequence_and_response_one(logprob, reference, clip):
    batch = PolicyBatch(
        logprob=torch.tensor(logprob, dtype=torch.float64, requires_grad=True),
        branch=torch.arange(5),
        prompt=torch.arange(5),
        reference=torch.tensor(reference, dtype=torch.float64),
        advantage=torch.tensor([0.5, 1.0, -0.5, 0.0, 2.0], dtype=torch.float64),
    )
    whole, seq = ALol(clip=clip)(batch, {}), ALolSeq(clip=clip)(batch, {})
    assert torch.equal(whole.values, seq.values)
    assert slope_of(ALol(clip=clip), batch) == slope_of(ALolSeq(clip=clip), batch)


def test_a_ratio_beyond_all_floats_is_a_weight_like_another():
    batch = batch_of(reference=torch.full((6,), -1e30, dtype=torch.float64))
    for term in (ALol(), ALolSeq(), RLol()):
        assert term(batch, {}).values.isfinite().all()


# The KL variant


def test_the_kl_variant_weighs_by_advantage_less_beta():
    assert slope_of(ALolKL(beta=0.4), batch_of()) == pytest.approx([-0.6, -0.6, 0, -0.1, 0.15, 0.15])


def test_without_beta_it_needs_no_reference():
    batch = batch_of()
    assert torch.equal(ALolKL(beta=0.0)(batch, {}).values, ALolRefFree()(batch, {}).values)


def test_its_value_holds_the_log_ratio():
    """Advantage 1 and log-ratio log 4 at beta 1/2: log 4 + log 4 / 2."""
    value = ALolKL(beta=0.5)(batch_of(), {}).values[0].item()
    assert value == pytest.approx(math.log(4) * 1.5)


# What weighs nothing


@pytest.mark.parametrize("term", BY_ADVANTAGE, ids=lambda term: type(term).__name__)
def test_negative_advantages_weigh_exactly_nothing(term):
    batch = batch_of((-0.1, 0.0, -5.0, 1.0))
    loss = term(batch, {})
    assert loss.values[:3].tolist() == [0, 0, 0]
    assert loss.values[3] > 0
    slope = slope_of(term, batch)
    assert slope[:4] == [0, 0, 0, 0]
    assert slope[4] < 0 > slope[5]


# Baselines


def test_rewards_weigh_tokens():
    """Rewards 3, 1, 2, 2; token probabilities 1/2 and 1/4; log-ratios log 4, 0, log 2, log 2."""
    batch = two_groups()
    assert slope_of(WBC(), batch) == [-3, -3, -1, -2, -2, -2]
    assert slope_of(RLol(clip=0.5), batch) == pytest.approx([-4.5, -4.5, -1, -3, -3, -3])
    assert slope_of(RGold(), batch) == pytest.approx([-1.5, -1.5, -0.25, -1, -1, -0.5])
    assert slope_of(RGold(floor=0.3), batch) == pytest.approx([-1.5, -1.5, -0.3, -1, -1, -0.6])
    assert slope_of(RGold(floor=1.0), batch) == slope_of(WBC(), batch)


# Where training ends


def actions(policy, counts, *, advantage, reward, reference=None):
    """A data set of single-token responses to one prompt, each action as often as its count says."""
    drawn = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return PolicyBatch(
        logprob=policy.log_softmax(-1)[drawn],
        branch=torch.arange(len(drawn)),
        prompt=torch.arange(len(drawn)),
        reference=None if reference is None else reference[drawn],
        advantage=advantage[drawn],
        reward=reward[drawn],
    )


COUNTS = (10, 30, 20, 40)
ADVANTAGE = torch.tensor([0.6, 0.2, -0.1, 0.05], dtype=torch.float64)
REWARD = torch.tensor([1.0, 0.6, 0.3, 0.45], dtype=torch.float64)


@pytest.mark.parametrize(("term", "weight"), [(ALolRefFree(), ADVANTAGE.clamp(min=0)), (WBC(), REWARD)])
def test_training_ends_at_the_data_tilted_by_the_weight(term, weight):
    """pi proportional to pi_data A+, or pi_data R: there, and only there, the gradient is zero."""
    goal = torch.tensor(COUNTS, dtype=torch.float64) * weight
    # An action that weighs nothing may have any probability close to 0.
    for shift, still in ((0.0, True), (0.5, False)):
        logits = goal.clamp(min=1e-12).log()
        logits = (logits + torch.tensor([shift, 0, 0, 0], dtype=torch.float64)).requires_grad_()
        loss = term(actions(logits, COUNTS, advantage=ADVANTAGE, reward=REWARD), {}).values.mean()
        slope = torch.autograd.grad(loss, logits)[0]
        assert (slope.abs().max() < 1e-10) == still


def test_drawn_by_priority_it_ends_at_the_square():
    """Rows drawn in proportion to A+ and weighted by it again: pi proportional to pi_data A+^2."""
    rows = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))
    drawn = rows[torch.tensor(priority_rows(ADVANTAGE[rows].tolist(), step=0, count=200_000, seed=0))]
    counts = drawn.bincount(minlength=4).tolist()
    goal = torch.tensor(COUNTS, dtype=torch.float64) * ADVANTAGE.clamp(min=0).square()
    logits = goal.clamp(min=1e-12).log().requires_grad_()
    loss = ALolRefFree()(actions(logits, counts, advantage=ADVANTAGE, reward=REWARD), {}).values.mean()
    slope = torch.autograd.grad(loss, logits)[0]
    scale = ADVANTAGE.max()
    assert slope.abs().max() < 5e-3 * scale
    plain = (torch.tensor(COUNTS) * ADVANTAGE.clamp(min=1e-12)).log().requires_grad_()
    loss = ALolRefFree()(actions(plain, counts, advantage=ADVANTAGE, reward=REWARD), {}).values.mean()
    assert torch.autograd.grad(loss, plain)[0].abs().max() > 5e-2 * scale


def test_samples_of_the_reference_and_no_clip_give_the_policy_gradient():
    """Every response of a small world, as often as the reference draws it: E_pi[A grad log pi], by enumeration."""
    world = Tabular.make(longest=2, ends=True, seed=3)
    texts = torch.arange(len(world.texts))
    chance = world.sequence(world.reference).exp()
    advantage = torch.linspace(0.1, 1.0, len(texts), dtype=torch.float64)
    batch = world.batch(texts)
    batch = replace(batch, advantage=advantage[batch.branch])
    found = world.gradient((chance * ALol(clip=1e9)(batch, {}).values).sum())
    expected = world.gradient(-(world.sequence(world.policy).exp() * advantage).sum())
    assert torch.allclose(found, expected, atol=1e-12)


class Bandit:
    """Noisy samples of a softmax behaviour in 10 contexts with 8 actions, cloned by tabular softmax policies."""

    def __init__(self, *, noise, seed, samples=600):
        rng = torch.Generator().manual_seed(seed)
        self.truth = torch.rand(10, 8, generator=rng, dtype=torch.float64)
        behaviour = (4 * self.truth).softmax(-1) * (1 - noise) + noise / 8
        self.context = torch.randint(10, (samples,), generator=rng)
        self.action = torch.multinomial(behaviour[self.context], 1, generator=rng)[:, 0]
        self.counts = torch.zeros(80, dtype=torch.float64).index_add(
            0, self.context * 8 + self.action, torch.ones(samples, dtype=torch.float64)
        )
        self.counts = self.counts.view(10, 8)
        self.reference = self.counts / self.counts.sum(-1, keepdim=True)
        self.value = (self.reference * self.truth).sum(-1)

    def worth(self, policy):
        return (policy * self.truth).sum(-1).mean().item()

    def end(self, weight):
        """Worth of pi proportional to pi_data times a weight, where training without a ratio ends."""
        tilted = self.counts * weight
        return self.worth(tilted / tilted.sum(-1, keepdim=True))

    def trained(self, term, steps=80):
        logits = self.reference.log().clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.1)
        reward, at = self.truth[self.context, self.action], (self.context, self.action)
        for _ in range(steps):
            batch = PolicyBatch(
                logprob=logits.log_softmax(-1)[at],
                branch=torch.arange(len(reward)),
                prompt=torch.arange(len(reward)),
                reference=self.reference.log()[at],
                advantage=reward - self.value[self.context],
                reward=reward,
            )
            optimizer.zero_grad()
            term(batch, {}).values.mean().backward()
            optimizer.step()
        return self.worth(logits.softmax(-1).detach())


def test_in_a_noisy_bandit_advantages_beat_rewards_and_the_ratio_adds():
    world = Bandit(noise=0.9, seed=0)
    cloned, by_reward = world.end(1.0), world.end(world.truth)
    by_advantage = world.end((world.truth - world.value[:, None]).clamp(min=0))
    a_lol, r_lol = world.trained(ALol()), world.trained(RLol())
    assert a_lol > by_advantage > by_reward > cloned
    assert a_lol > r_lol > by_reward


# Refusals


@pytest.mark.parametrize("make", [lambda: ALol(clip=-0.1), lambda: ALolSeq(clip=-1.0), lambda: RLol(clip=math.nan)])
def test_a_negative_clip_is_refused(make):
    with pytest.raises(RecipeError, match="clip must not be negative"):
        make()


def test_other_settings_are_refused():
    with pytest.raises(RecipeError, match="beta must not be negative"):
        ALolKL(beta=-1.0)
    with pytest.raises(RecipeError, match="floor must lie"):
        RGold(floor=1.5)


def test_the_table_is_complete():
    assert list(ADVANTAGE_OBJECTIVES) == ["a_lol", "a_lol_ref_free", "a_lol_seq", "a_lol_kl", "r_lol", "wbc", "r_gold"]
