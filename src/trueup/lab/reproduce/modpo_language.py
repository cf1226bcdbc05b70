"""Coverage against brevity in the language world: policies learned from preferences by each, at equal KL.

Coverage is a facet of gold, the share of what was asked for that is there; brevity is minus the number of words. Both
are in standard deviations of the comparisons' responses. Labels are drawn, as Bradley and Terry have it, so that the
rewards that DPO implies have a scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from trueup.data.rows import Prompt, Response, Row
from trueup.lab.games.pareto import along
from trueup.lab.gold_proxy import Setup, set_up
from trueup.lab.offline_draws import likelihoods
from trueup.lab.offline_looks import Looking, Shares, look_once
from trueup.lab.offline_runs import OfflineRun, OfflineTraining, cost_of, run_offline
from trueup.lab.optimizing import Looks
from trueup.lab.reproduce.h_dpo_runs import over_seeds
from trueup.lab.reproduce.scale import Scale
from trueup.lab.world import World
from trueup.measure.pareto import hypervolume
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.modpo import MODPO
from trueup.rewards.function import FunctionReward

Array = np.ndarray

MODPO_ARM, MIXTURE, SOUP = "MODPO", "mixture of losses", "soup of DPO policies"
ARMS = (MODPO_ARM, MIXTURE, SOUP)
WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
_SMALL_WEIGHTS = (0.5,)
BETA = 0.1
SHARES = (0.5, 1.0)
"""How far from the start to the trained weights is looked."""
SHARPNESS = 2.0
"""Log-odds of a preference for a standard deviation of difference."""
_WEIGHT = "weight"


@dataclass(frozen=True, kw_only=True)
class LanguageFront:
    """What one world gave; rewards are gains over the start in its standard deviations within a prompt.

    Args:
        paths: By arm and weight of coverage, looks on the way from the start: root of the KL, coverage and
            brevity. Weights 0 and 1 are
            the DPO policies of one reward alone, and the same in every arm.
        trainings: By arm, trainings for the whole front.
        seconds: By arm, what they took of the processor.
        agreement: Correlation of coverage and brevity over the comparisons' responses.
    """

    paths: Mapping[str, Mapping[float, Float[Array, "looks 3"]]]
    trainings: Mapping[str, int]
    seconds: Mapping[str, float]
    agreement: float

    @property
    def nats(self) -> float:
        """The largest KL that every policy reaches."""
        return self._distance**2

    @property
    def _distance(self) -> float:
        return min(float(path[:, 0].max()) for paths in self.paths.values() for path in paths.values())

    def points(self, arm: str) -> Float[Array, "weights 2"]:
        """Both rewards at that KL, by weight."""
        return np.stack([along(path, self._distance) for _, path in sorted(self.paths[arm].items())])

    def volume(self, arm: str) -> float:
        """Area under the front at that KL, above what either reward alone leaves of the other."""
        points = self.points(arm)
        return hypervolume(points, np.array([points[0, 0], points[-1, 1]]))

    def weighted(self, arm: str) -> float:
        """`w coverage + (1 - w) brevity` at that KL, mean over the weights between 0 and 1."""
        weights = np.array(sorted(self.paths[arm]))[1:-1]
        points = self.points(arm)[1:-1]
        return float((weights * points[:, 0] + (1 - weights) * points[:, 1]).mean())


def run_languages(scale: Scale, *, progress: bool = False) -> list[LanguageFront]:
    """Every world of a scale, in its processes."""
    return over_seeds(run_language, scale, progress=progress)


def run_language(scale: Scale, seed: int) -> LanguageFront:
    """One world; what an earlier run has done is read."""
    setup, weights = set_up(scale.plan(seed), folder=scale.folder), weights_of(scale)
    covering, brief, agreement = preferences(setup, count=scale.pairs[-2], seed=seed)
    how = OfflineTraining(terms=(DPO(beta=BETA),), steps=steps_of(scale), seed=seed)
    train = partial(_train, setup, how=how, folder=scale.folder)
    alone = [train(rows) for rows in (brief, covering)]
    arms: dict[str, dict[float, Path]] = {
        MODPO_ARM: {
            weight: train(rows, terms=(MODPO(beta=BETA, weight=weight),))
            for weight, rows in _with_margins(setup, covering, alone[0], weights=weights).items()
        },
        MIXTURE: {weight: train(_mixed(covering, brief, weight), priority=_WEIGHT) for weight in weights},
    }
    mixtures: dict[str, dict[float, Shares]] = {
        name: {weight: {place: 1.0} for weight, place in found.items()} for name, found in arms.items()
    }
    mixtures[SOUP] = {weight: {alone[1]: weight, alone[0]: 1 - weight} for weight in weights}
    ends: dict[float, Shares] = {0.0: {alone[0]: 1.0}, 1.0: {alone[1]: 1.0}}
    path = partial(_path, setup, samples=scale.setup.samples // 64, folder=scale.folder)
    both = {weight: path(policy) for weight, policy in ends.items()}
    costs = {name: [cost_of(place).seconds for place in found.values()] for name, found in arms.items()}
    shared = [cost_of(place).seconds for place in alone]
    return LanguageFront(
        paths={name: both | {weight: path(policy) for weight, policy in found.items()}
               for name, found in mixtures.items()},
        trainings={MODPO_ARM: 1 + len(weights), MIXTURE: len(weights), SOUP: 2},
        seconds={MODPO_ARM: shared[0] + sum(costs[MODPO_ARM]), MIXTURE: sum(costs[MIXTURE]), SOUP: sum(shared)},
        agreement=agreement,
    )  # fmt: skip


def weights_of(scale: Scale) -> tuple[float, ...]:
    """Weights of coverage between 0 and 1."""
    return WEIGHTS if scale.policy_steps >= 30 else _SMALL_WEIGHTS


def steps_of(scale: Scale) -> int:
    """Optimiser steps of every training."""
    return max(3 * scale.policy_steps // 5, 1)


def coverage(prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
    """Share of what was asked for that is there."""
    world = World()  # its facts are those of every seed
    return [world.gold_features(one, text)["coverage"] for one, text in zip(prompts, completions, strict=True)]


def brevity(prompts: Sequence[Prompt], completions: Sequence[str]) -> list[float]:
    """Minus the number of words."""
    return [-float(len(text.split())) for text in completions]


def preferences(setup: Setup, *, count: int, seed: int) -> tuple[tuple[Row, ...], tuple[Row, ...], float]:
    """As many comparisons by coverage and as many others by brevity, and how the two rewards correlate.

    The comparisons' responses are standardised. Who is preferred is drawn, with log-odds of `SHARPNESS` a unit.
    """
    generator = np.random.default_rng([seed, 5])
    order = generator.permutation(len(setup.comparisons))
    half = min(count, len(order) // 2)
    texts = [one.text for row in setup.comparisons for one in row.responses]
    prompts = [row.prompt for row in setup.comparisons for _ in row.responses]
    values = np.array([reward(prompts, texts) for reward in (coverage, brevity)])
    standard = (values.T - values.mean(axis=1)) / _unit(values.std(axis=1))
    values = standard.reshape(len(setup.comparisons), 2, 2)
    found = []
    for which, places in enumerate((order[:half], order[half : 2 * half])):
        margin = SHARPNESS * (values[places, 0, which] - values[places, 1, which])
        first = generator.random(half) < expit(margin)
        won = zip(places.tolist(), first.tolist(), strict=True)
        found.append(tuple(_label(setup.comparisons[place], one) for place, one in won))
    return found[0], found[1], float(standard.prod(axis=1).mean())


def _unit(spread: Float[Array, " rewards"]) -> Float[Array, " rewards"]:
    """Standard deviations; 1 for a reward that is always the same."""
    return np.where(spread > 0, spread, 1.0)


def _label(row: Row, first: bool) -> Row:
    one, other = (Response(text=response.text) for response in row.responses)
    return replace(row, responses=(replace(one, label=first), replace(other, label=not first)))


def _with_margins(
    setup: Setup, rows: Sequence[Row], brief: Path, *, weights: Sequence[float]
) -> dict[float, tuple[Row, ...]]:
    """Comparisons with the reward that brevity's DPO policy implies, weighted, for each weight of coverage."""
    held, moved = (likelihoods(place, rows).logprob for place in (setup.policy, brief))
    implied = (BETA * (moved - held)).reshape(len(rows), 2)
    return {weight: _featured(rows, {"reward": (1 - weight) * implied}) for weight in weights}


def _mixed(covering: Sequence[Row], brief: Sequence[Row], weight: float) -> tuple[Row, ...]:
    """Comparisons by both, those by coverage with probability w: in expectation the weighted sum of the losses."""
    parts = [
        _featured(rows, {_WEIGHT: np.full((len(rows), 2), share / len(rows))})
        for rows, share in ((covering, weight), (brief, 1 - weight))
    ]
    return parts[0] + parts[1]


def _featured(rows: Sequence[Row], features: Mapping[str, Float[Array, "rows 2"]]) -> tuple[Row, ...]:
    return tuple(
        replace(row, responses=tuple(
            replace(one, features={name: float(values[number, place]) for name, values in features.items()})
            for place, one in enumerate(row.responses)
        ))
        for number, row in enumerate(rows)
    )  # fmt: skip


def _train(setup: Setup, rows: Sequence[Row], *, how: OfflineTraining, folder: Path | None, **changes: object) -> Path:
    return run_offline(
        OfflineRun(start=setup.policy, rows=tuple(rows), how=replace(how, **changes)),  # type: ignore[arg-type]
        folder=folder,
    )


def _path(setup: Setup, policy: Shares, *, samples: int, folder: Path | None) -> Float[Array, "looks 3"]:
    """Root of the KL, coverage and brevity on the way from the start to a policy, in a straight line of weights."""
    look = partial(
        look_once,
        setup,
        second=FunctionReward(coverage, "coverage"),
        how=Looking(samples=max(samples, 4)),
        folder=folder,
    )
    start = look({setup.policy: 1.0})
    before = _both(start)
    units = _unit(before.std(axis=2).mean(axis=1))
    places = [np.zeros(3)]
    for share in SHARES:
        seen = look({place: share * part for place, part in policy.items()} | {setup.policy: 1 - share})
        gains = (_both(seen).mean(axis=(1, 2)) - before.mean(axis=(1, 2))) / units
        places.append(np.array([max(float(seen.kl.mean()), 0.0) ** 0.5, *gains]))
    return np.stack(places)


def _both(looks: Looks) -> Float[Array, "2 prompts samples"]:
    """Coverage and brevity of what was seen."""
    brief = np.reshape([brevity([], group) for group in looks.texts[0]], looks.proxy[0].shape)
    return np.stack([looks.proxy[0], brief])
