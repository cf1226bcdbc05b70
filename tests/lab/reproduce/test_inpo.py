"""INPO's claims on games that were made up."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trueup.lab.games.matrix import circular_games, mirror_step
from trueup.lab.games.play import Rounds
from trueup.lab.reproduce.inpo import evidence_of
from trueup.lab.reproduce.inpo_games import (
    EXACT_ETAS,
    EXACT_ROUNDS,
    HASTY,
    INPO_ARM,
    NO_KL,
    ORACLE,
    REWARD,
    SLOW_TOURNAMENT,
    TOURNAMENT,
    InpoRuns,
    Part,
    Track,
    learners,
    minimiser_difference,
    strengths,
    track_of,
    with_beta,
)

SEEDS = range(4)
GAMES = circular_games(SEEDS)
JITTER = np.linspace(-0.01, 0.01, len(SEEDS))
GOOD, BAD = (0.01, 0.45, 0.3), (0.4, 0.2, 0.9)
"""Last gap, win rate against the best response and largest share."""


def track(end, *, wins=True):
    """A method that begins at a gap of 0.3 and ends so, with the best response of the reference or the worst."""
    gap, worst, largest = end
    policy = mirror_step(GAMES, GAMES.reference, eta=0.15 if wins else 0.3)
    return Track(
        gap=np.stack([np.full(4, 0.3), gap + JITTER], axis=1),
        worst=np.stack([np.full(4, 0.3), worst + JITTER], axis=1),
        largest=largest + JITTER,
        final=policy if wins else GAMES.reference,
        calls=11 if wins else 1,
    )


def part(name, *, ours=GOOD, others=BAD):
    wins = ours[0] < others[0]
    tracks = {arm: track(others, wins=not wins) for arm in learners(eta=0.3)}
    return Part(
        name=name, games=GAMES, eta=0.3, rounds=Rounds(rounds=1), tracks=tracks | {INPO_ARM: track(ours, wins=wins)}
    )


def made(*, ours=GOOD, others=BAD, ordered=None, difference=1e-6, left=0.0):
    shape = (len(SEEDS), len(EXACT_ROUNDS))
    exact = np.full(shape, left) + np.array([1.0] + [0.0] * (len(EXACT_ROUNDS) - 1))
    return InpoRuns(
        exact=dict.fromkeys(EXACT_ETAS, exact),
        greedy=np.ones(shape),
        difference=np.full(4, difference),
        circular=part("tables", ours=ours, others=others),
        ordered=ordered or part("tables with a reward", ours=GOOD, others=GOOD),
        sequences=part("sequences", ours=ours, others=others),
    )


def verdicts(runs, scale):
    return {claim.statement: claim.verdict for claim in evidence_of(runs, scale=scale, command="c").claims}


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = evidence_of(made(), scale=tiny_scale, command="c")
    assert [claim.verdict for claim in found.claims] == ["reproduced"] * 18
    assert set(found.figures) == {"inpo-tables.svg", "inpo-sequences.svg"}
    assert "0.39 [" in found.finding


def test_the_opposite_contradicts(tiny_scale):
    runs = made(ours=BAD, others=GOOD, difference=0.1, left=0.5)
    assert set(verdicts(runs, tiny_scale).values()) == {"contradicted"}


def test_equal_methods_decide_nothing(tiny_scale):
    found = verdicts(made(ours=GOOD, others=GOOD), tiny_scale)
    left = [verdict for statement, verdict in found.items() if "preferred to those" not in statement][2:]
    assert set(left) == {"not at this scale"}


def test_a_strength_is_chosen_by_the_other_games():
    """One beta wins by far in the first game alone, so that the first cannot choose it, and the others would."""
    made_part = part("tables")
    names = strengths(ORACLE)
    gaps = {name: np.array([1.0, 1.0, 1.0, 1.0]) for name in names}
    gaps[names[0]], gaps[names[1]] = np.array([-9.0, 1.0, 1.0, 1.0]), np.full(4, 0.9)
    tracks = {name: replace(made_part.tracks[name], gap=np.stack([gap, gap], axis=1)) for name, gap in gaps.items()}
    chosen = replace(made_part, tracks=tracks).best_of(names)
    assert chosen == [names[1], names[0], names[0], names[0]]


def test_methods_are_what_their_names_say():
    found = learners(eta=0.3)
    assert {INPO_ARM, NO_KL, HASTY, TOURNAMENT, SLOW_TOURNAMENT} < set(found)
    assert (found[HASTY].term.eta, found[HASTY].term.tau) == (0.1, 0.1)
    assert (found[NO_KL].term.eta, found[NO_KL].term.tau) == (0.3, 0.0)
    assert found[SLOW_TOURNAMENT].term.eta == pytest.approx(0.9)
    assert {name for name, one in found.items() if one.selection == "tournament"} == {TOURNAMENT, SLOW_TOURNAMENT}
    assert {name for name, one in found.items() if one.judge == "reward"} == set(strengths(REWARD))
    assert found[with_beta(ORACLE, 0.5)].term.beta == 0.5


def test_the_minimiser_is_the_exact_step():
    assert minimiser_difference(GAMES, eta=0.3, steps=600).max() < 1e-3
    assert minimiser_difference(GAMES, eta=0.3, steps=1).max() > 1e-2


def test_a_track_by_hand():
    one = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).log()
    games = replace(circular_games([0], size=3), reference=torch.full((1, 3), 1 / 3, dtype=torch.float64).log())
    found = track_of(games, [games.reference, one])
    assert found.largest.tolist() == [1.0]
    assert found.worst[0, 1] == pytest.approx(1 - games.preferred[0, :, 0].max().item())
    assert found.gap.shape == (1, 2)
