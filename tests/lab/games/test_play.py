"""Rounds of play: what is learned, and whom it does not touch."""

import numpy as np
import pytest
import torch

from trueup.lab.games.descent import Descent, Lesson, learn
from trueup.lab.games.matrix import Games, circular_games, duality_gap, mirror_step, worst_win_rate
from trueup.lab.games.pairs import expected_pairs
from trueup.lab.games.play import Learner, Rounds, bradley_terry, fit_reward, play
from trueup.lab.games.responders import Table, now, whole
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.inpo import INPO

ROCK = torch.tensor([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]], dtype=torch.float64)
ROUNDS = Rounds(rounds=6, pairs=2_000, descent=Descent(steps=80, learning_rate=0.15))


def circle():
    reference = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64).log()
    return Games(preferred=ROCK[None], reference=reference, tau=0.2)


def test_a_round_on_exact_frequencies_is_a_step_of_mirror_descent():
    games = circular_games([0, 1], size=5)
    before = mirror_step(games, games.reference, eta=0.4)
    player = Table(before)
    lesson = Lesson(term=INPO(eta=0.4, tau=games.tau),
                    weight=expected_pairs(before.exp().numpy(), games.preferred.numpy()))  # fmt: skip
    learn(player, [lesson], reference=games.reference[:, :, None], how=Descent(steps=500, learning_rate=0.1))
    assert torch.allclose(whole(now(player)), mirror_step(games, before, eta=0.4), atol=1e-3)


def test_rounds_of_inpo_close_the_gap_of_a_circle_and_dpo_collapses():
    games = circle()
    ours = play(games, Learner(term=INPO(eta=0.5, tau=0.2)), rounds=ROUNDS, seed=0).policies
    theirs = play(games, Learner(term=DPO(beta=0.1)), rounds=ROUNDS, seed=0).policies
    assert torch.equal(ours[0], theirs[0])
    assert len(ours) == ROUNDS.rounds + 1
    assert duality_gap(games, ours[-1]) < 0.5 * duality_gap(games, ours[0])
    assert duality_gap(games, theirs[-1]) > duality_gap(games, ours[0])
    assert worst_win_rate(games, theirs[-1]) < 0.2 < worst_win_rate(games, ours[-1])


def test_what_was_asked_is_counted():
    games, rounds = circle(), Rounds(rounds=2, pairs=30, descent=Descent(steps=1, learning_rate=0.1))
    calls = {
        name: play(games, learner, rounds=rounds, seed=0)
        for name, learner in {
            "pairs": Learner(term=INPO(eta=0.5)),
            "tournament": Learner(term=INPO(eta=0.5), selection="tournament"),
            "reward": Learner(term=DPO(), judge="reward"),
        }.items()
    }
    assert {name: one.calls for name, one in calls.items()} == {"pairs": 60, "tournament": 660, "reward": 60}
    assert calls["pairs"].dropped == calls["reward"].dropped == 0
    assert 0 < calls["tournament"].dropped < 1


def test_equal_seeds_play_alike():
    games = circle()
    rounds = Rounds(rounds=2, pairs=50, descent=Descent(steps=5, learning_rate=0.1))
    first, again, other = (
        play(games, Learner(term=INPO(eta=0.5)), rounds=rounds, seed=seed).policies[-1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_reward_is_found_again_from_its_own_choices():
    reward = torch.tensor([[1.0, -0.5, 0.3, -0.8], [0.0, 2.0, -1.0, -1.0]], dtype=torch.float64)
    weight = expected_pairs(np.full((2, 4), 0.25), bradley_terry(reward))
    fitted = fit_reward(weight, how=Descent(steps=600, learning_rate=0.1), shrink=0.0)
    assert torch.allclose(fitted, reward - reward.mean(1, keepdim=True), atol=1e-3)


def test_what_always_won_stays_finite():
    fitted = fit_reward(np.array([[[0.0, 5.0], [0.0, 0.0]]]), how=Descent(steps=300, learning_rate=0.1))
    assert 1 < fitted[0, 0].item() < 10


def test_lessons_add_up_by_their_shares():
    """One lesson with a share of 0 changes nothing; halves of the same lesson are the lesson."""
    games = circle()
    weight = expected_pairs(games.reference.exp().numpy(), games.preferred.numpy())
    turned = weight.swapaxes(1, 2)

    def learned(*lessons):
        player = Table(games.reference)
        learn(player, lessons, reference=games.reference[:, :, None], how=Descent(steps=30, learning_rate=0.1))
        return whole(now(player))

    term = DPO(beta=1.0)
    alone = learned(Lesson(term=term, weight=weight))
    half = Lesson(term=term, weight=weight, share=0.5)
    assert torch.allclose(learned(half, half), alone)
    assert torch.allclose(learned(Lesson(term=term, weight=weight), Lesson(term=term, weight=turned, share=0)), alone)
    both = learned(half, Lesson(term=term, weight=turned, share=0.5))
    assert torch.allclose(both, games.reference, atol=1e-6)  # each label as often turned round


@pytest.mark.parametrize("seeds", [(0, 1)])
def test_games_learn_side_by_side_without_touching_one_another(seeds):
    together = circular_games(seeds, size=4)
    weight = expected_pairs(together.reference.exp().numpy(), together.preferred.numpy())
    how = Descent(steps=20, learning_rate=0.1)
    both = Table(together.reference)
    learn(both, [Lesson(term=DPO(), weight=weight)], reference=now(both), how=how)
    alone = Table(together.reference[1:])
    learn(alone, [Lesson(term=DPO(), weight=weight[1:])], reference=now(alone), how=how)
    assert torch.allclose(now(both)[1:], now(alone), atol=1e-12)
