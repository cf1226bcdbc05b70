"""Iterated methods in games without a best response: what each of them leads to, round by round."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trueup.lab.games.circles import CircleWorld, circle_games, shares_of_kinds
from trueup.lab.games.descent import Descent, Lesson, learn
from trueup.lab.games.matrix import (
    Games,
    Policies,
    best_response,
    circular_games,
    duality_gap,
    iterate,
    mirror_step,
    ordered_games,
    wins,
    worst_win_rate,
)
from trueup.lab.games.pairs import expected_pairs
from trueup.lab.games.play import Learner, Rounds, play
from trueup.lab.games.responders import Table, now, whole
from trueup.lab.reproduce.scale import Scale
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.inpo import INPO

Array = np.ndarray

TAU = 0.1
BETAS = (0.1, 0.3, 0.5, 1.0, 3.0)
_LONGER = 3.0
INPO_ARM, NO_KL, HASTY = "INPO", "INPO, no KL", "INPO, eta = tau"
TOURNAMENT, SLOW_TOURNAMENT = "INPO, tournament", "INPO, tournament, 3 eta"
ORACLE, REWARD = "DPO", "DPO on a reward"
EXACT_ETAS, EXACT_ROUNDS = (0.3, 1.0), (0, 1, 3, 10, 50, 200)
GAMES_PER_SEED, SPELLERS_PER_SEED = 4, 2

Measure = Callable[[Games, Policies], Float[Tensor, " games"]]


def with_beta(arm: str, beta: float) -> str:
    """Name of DPO with one strength of its KL."""
    return f"{arm}, beta {beta:g}"


def strengths(arm: str) -> list[str]:
    """DPO with each strength."""
    return [with_beta(arm, beta) for beta in BETAS]


def learners(*, eta: float, tau: float = TAU) -> dict[str, Learner]:
    """The methods that are compared, by name."""
    dpo = {
        with_beta(ORACLE, beta): Learner(term=DPO(beta=beta)) for beta in BETAS
    } | {with_beta(REWARD, beta): Learner(term=DPO(beta=beta), judge="reward") for beta in BETAS}  # fmt: skip
    return {
        INPO_ARM: Learner(term=INPO(eta=eta, tau=tau)),
        TOURNAMENT: Learner(term=INPO(eta=eta, tau=tau), selection="tournament"),
        SLOW_TOURNAMENT: Learner(term=INPO(eta=_LONGER * eta, tau=tau), selection="tournament"),
        NO_KL: Learner(term=INPO(eta=eta, tau=0.0)),
        HASTY: Learner(term=INPO(eta=tau, tau=tau)),
        **dpo,
    }


@dataclass(frozen=True, kw_only=True)
class Track:
    """One method in several games.

    Args:
        gap: Duality gap at the start and after each round.
        worst: Win rate against the best response, likewise.
        largest: Share of the most frequent response, or kind of response, at the end.
        final: The policies at the end.
        calls: What the oracle was asked in each game.
        dropped: Share of the tournaments that gave no pair.
    """

    gap: Float[Array, "games rounds"]
    worst: Float[Array, "games rounds"]
    largest: Float[Array, " games"]
    final: Policies
    calls: int = 0
    dropped: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """Games of one kind with everything that was played in them.

    Args:
        name: What they are.
        games: The games.
        eta: INPO's.
        rounds: How long methods played.
        tracks: By method.
    """

    name: str
    games: Games
    eta: float
    rounds: Rounds
    tracks: Mapping[str, Track]

    def head_to_head(self, one: str, other: str) -> Float[Array, " games"]:
        """How often one method's last policy is preferred to another's."""
        return np.asarray(wins(self.games, self.tracks[one].final, self.tracks[other].final))

    def best_of(self, names: Sequence[str]) -> list[str]:
        """For each game, the method whose last gap is smallest on average over the other games."""
        gaps = np.stack([self.tracks[name].gap[:, -1] for name in names])
        count = gaps.shape[1]
        others = gaps if count == 1 else (gaps.sum(axis=1, keepdims=True) - gaps) / (count - 1)
        return [names[place] for place in others.argmin(axis=0)]


@dataclass(frozen=True, kw_only=True)
class InpoRuns:
    """Everything on the page.

    Args:
        exact: Gap of exact mirror descent, by eta and then after EXACT_ROUNDS.
        greedy: Gap after as many rounds of exact best responses.
        difference: Largest difference of a probability between the learned minimiser and the exact step.
        circular: Games without any order.
        ordered: Games with Bradley-Terry preferences.
        sequences: Short sequences of three kinds.
    """

    exact: Mapping[float, Float[Array, "games rounds"]]
    greedy: Float[Array, "games rounds"]
    difference: Float[Array, " games"]
    circular: Part
    ordered: Part
    sequences: Part


def run_inpo(scale: Scale) -> InpoRuns:
    """Play everything; seconds for each method."""
    numbers = [GAMES_PER_SEED * seed + place for seed in scale.seeds for place in range(GAMES_PER_SEED)]
    rounds = Rounds(rounds=max(scale.policy_steps // 5, 2), descent=_descent(scale, 0.1))
    circular = circular_games(numbers, tau=TAU)
    exact = {eta: _exact(circular, eta) for eta in EXACT_ETAS}
    responses = iterate(lambda policy: best_response(circular, policy), circular.reference, rounds=max(EXACT_ROUNDS))
    return InpoRuns(
        exact=exact,
        greedy=_measured(circular, [responses[place] for place in EXACT_ROUNDS], duality_gap),
        difference=minimiser_difference(circular, eta=EXACT_ETAS[0], steps=5 * scale.policy_steps),
        circular=_part("tables", circular, eta=0.3, rounds=rounds),
        ordered=_part("tables with a reward", ordered_games(numbers, tau=TAU), eta=0.3, rounds=rounds),
        sequences=_sequences(scale),
    )


def _sequences(scale: Scale) -> Part:
    numbers = [SPELLERS_PER_SEED * seed + place for seed in scale.seeds for place in range(SPELLERS_PER_SEED)]
    world = circle_world(scale)
    games, speller = circle_games(world, numbers)
    rounds = Rounds(rounds=max(3 * scale.policy_steps // 10, 2), descent=_descent(scale, 0.02))
    return _part("sequences", games, eta=1.0, rounds=rounds, policy=speller, length=world.length)


def circle_world(scale: Scale) -> CircleWorld:
    """The sequences and their policies."""
    return CircleWorld(tau=TAU, descent=Descent(steps=min(10 * scale.policy_steps, 300), learning_rate=0.03))


def _descent(scale: Scale, learning_rate: float) -> Descent:
    return Descent(steps=min(5 * scale.policy_steps, 150), learning_rate=learning_rate)


def _exact(games: Games, eta: float) -> Float[Array, "games rounds"]:
    policies = iterate(lambda policy: mirror_step(games, policy, eta=eta), games.reference, rounds=max(EXACT_ROUNDS))
    return _measured(games, [policies[place] for place in EXACT_ROUNDS], duality_gap)


def minimiser_difference(games: Games, *, eta: float, steps: int) -> Float[Array, " games"]:
    """How far one learned round on all pairs, with their exact frequencies, is from the exact step of mirror descent.

    The largest difference of a probability. The policy before is one step away from the reference.
    """
    before = mirror_step(games, games.reference, eta=eta)
    player = Table(before)
    weight = expected_pairs(np.asarray(before.exp()), games.preferred.numpy())
    lesson = Lesson(term=INPO(eta=eta, tau=games.tau), weight=weight)
    learn(player, [lesson], reference=games.reference[:, :, None], how=Descent(steps=steps, learning_rate=0.1))
    found = whole(now(player)).exp() - mirror_step(games, before, eta=eta).exp()
    return np.asarray(found.abs().amax(1))


def _part(
    name: str, games: Games, *, eta: float, rounds: Rounds, policy: nn.Module | None = None, length: int | None = None
) -> Part:
    tracks = {}
    for arm, learner in learners(eta=eta).items():
        played = play(games, learner, rounds=rounds, seed=0, policy=copy.deepcopy(policy))
        tracks[arm] = replace(
            track_of(games, played.policies, length=length), calls=played.calls, dropped=played.dropped
        )
    return Part(name=name, games=games, eta=eta, rounds=rounds, tracks=tracks)


def track_of(games: Games, policies: Sequence[Policies], *, length: int | None = None) -> Track:
    """What is measured of policies; with a length, responses are sequences, of which kinds are counted."""
    final = policies[-1]
    shares = final.exp() if length is None else shares_of_kinds(final, length)
    return Track(
        gap=_measured(games, policies, duality_gap),
        worst=_measured(games, policies, worst_win_rate),
        largest=np.asarray(shares.amax(1)),
        final=final,
    )


def _measured(games: Games, policies: Sequence[Policies], measure: Measure) -> Float[Array, "games rounds"]:
    return np.asarray(torch.stack([measure(games, policy) for policy in policies], 1))
