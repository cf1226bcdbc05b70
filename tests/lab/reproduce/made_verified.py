"""Hand-made worlds with a verifier, for which claims have known answers."""

from collections.abc import Callable, Mapping

import numpy as np

from trueup.lab.arithmetic.worlds import Watched
from trueup.lab.frozen_lake import Walked
from trueup.lab.reproduce.h_dpo_runs import ALPHAS, OTHERS, PLAIN, HDpoWorld, arm, scaled, temperatures_of, weak
from trueup.lab.reproduce.ift_runs import ON_LAKE, ON_PROBLEMS, Answered, LakeWorld, ProblemWorld

SAMPLES = 1000


def made_watched(share: float, *, entropy: float, problems: int = 12) -> Watched:
    """A policy of which this share of workings is right, of every problem alike."""
    correct = np.full(problems, round(share * SAMPLES))
    return Watched(correct=correct, samples=SAMPLES, entropy=entropy, hard=np.arange(problems) % 3 == 0)


def made_h_dpo_world(
    seed: int,
    *,
    entropy: Callable[[float], float],
    solved: Callable[[float], float],
    tempered: Callable[[float], float] | None = None,
    scaled_entropy: Callable[[float], float] | None = None,
    scaled_solved: Callable[[float], float] | None = None,
) -> HDpoWorld:
    """A world by what each alpha gives.

    Args:
        seed: Its seed.
        entropy: Of H-DPO, with either beta, nats.
        solved: Share of its workings that are right.
        tempered: The same of DPO, by temperature; that of every arm is highest at 1, and DPO's at 1 is its own.
        scaled_entropy: Of DPO with alpha beta.
        scaled_solved: Right workings of it.
    """
    more = 0.01 * seed
    at = tempered or (lambda temperature: solved(1.0))
    looks: dict[str, dict[float, Watched]] = {}
    for alpha in ALPHAS:
        looks[arm(alpha)] = {
            t: made_watched(solved(alpha) if t == 1 else 0.001, entropy=entropy(alpha) + more)
            for t in temperatures_of(arm(alpha))
        }
        looks[weak(alpha)] = {1.0: made_watched(solved(alpha), entropy=entropy(alpha) + more)}
    for alpha in OTHERS:
        looks[PLAIN][alpha] = made_watched(at(alpha), entropy=entropy(1.0))
        looks[scaled(alpha)] = {
            1.0: made_watched((scaled_solved or solved)(alpha), entropy=(scaled_entropy or entropy)(alpha) + more)
        }
    return HDpoWorld(seed=seed, start=made_watched(0.1, entropy=4.0), pairs=100 + seed, looks=looks)


def made_lake(seed: int, *, distance: Mapping[str, float], success: Mapping[str, float]) -> LakeWorld:
    """A lake by what each method gives; what is not named has a distance of 0.5 and arrives half the time."""

    def walked(name: str) -> Walked:
        far = distance.get(name, 0.5) * (1 + 0.01 * seed)
        return Walked(moves=np.full((11, 4), 0.25), distance=far, met=far, success=success.get(name, 0.5))

    return LakeWorld(seed=seed, start=walked("start"), walked={name: walked(name) for name in ON_LAKE}, optimal=0.72)


def made_problems(seed: int, *, solved: Mapping[str, float], loss: Mapping[str, float]) -> ProblemWorld:
    """A world of arithmetic by what each method gives; what is not named solves half with a loss of 0.5."""

    def answered(name: str) -> Answered:
        share = solved.get(name, 0.5) + 0.001 * seed * (name in solved)
        return Answered(sampled=share, greedy=share, loss=loss.get(name, 0.5))

    return ProblemWorld(seed=seed, start=answered("start"), answered={name: answered(name) for name in ON_PROBLEMS})
