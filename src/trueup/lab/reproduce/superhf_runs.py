"""What the page on SuperHF runs, and what it reads off the runs.

**Source** Mukobi et al. (2023), SuperHF: Supervised Iterative Learning from Human Feedback, arXiv 2310.16763, and its
released settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trueup.lab.policy_runs import PolicyRun
from trueup.lab.reproduce.fronts import at_step, common_step
from trueup.lab.reproduce.policy_arms import PolicyWorld, gold_gain
from trueup.lab.reproduce.policy_plans import FREE, by_ppo, plain, varied
from trueup.lab.reproduce.scale import Scale
from trueup.measure.similarity import between_prompts
from trueup.objectives.policy.regularizers.forward_kl_prior_sum import ForwardKLPriorSum
from trueup.objectives.policy.superhf import SuperHF
from trueup.train.prompt_order import Rhythm

COEFFICIENTS = (0.0, 0.05, 0.15, 0.35)
RHYTHM = Rhythm(prompts=2, samples=16)
PENALTY = 0.05
HELD, PPO_HELD = f"RLOO, KL {PENALTY:g}", f"PPO, KL {PENALTY:g}"
REPEATS, REPEAT_STEPS = 3, 40
_OTHER_SEED, PAIRS = 100, 200


def superhf_arm(coefficient: float) -> str:
    """Arm of SuperHF with one weight of its prior."""
    return f"SuperHF, c = {coefficient:g}"


PLAIN, RELEASED = superhf_arm(COEFFICIENTS[0]), superhf_arm(COEFFICIENTS[-1])
SWEEP = tuple(superhf_arm(c) for c in COEFFICIENTS)


def repeated(arm: str, number: int) -> str:
    """Arm of the same settings with another seed of prompts and draws; number 0 is the arm itself."""
    return f"{arm}, seed {number}" if number else arm


STEADY = (HELD, PPO_HELD, RELEASED)
"""What is repeated with other seeds."""

REPEATED = tuple(repeated(arm, number) for arm in STEADY for number in range(REPEATS))


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """SuperHF over weights of its prior, RLOO without and with a penalty, and short repeats, of PPO as well."""
    found = {FREE: plain(scale, seed), HELD: plain(scale, seed, kl_coefficient=PENALTY)}
    for coefficient, name in zip(COEFFICIENTS, SWEEP, strict=True):
        prior = (ForwardKLPriorSum(coefficient=coefficient),) if coefficient else ()
        found[name] = varied(found[FREE], terms=(SuperHF(), *prior), rhythm=RHYTHM)
    short = min(REPEAT_STEPS, scale.policy_steps)
    found[PPO_HELD] = replace(found[HELD], how=replace(by_ppo(found[HELD].how), steps=short))
    for name in STEADY:
        for number in range(1, REPEATS):
            found[repeated(name, number)] = varied(found[name], seed=seed + _OTHER_SEED * number, steps=short)
    return found


def similarity(world: PolicyWorld, arm: str, *, step: int | None = None) -> float:
    """Mean METEOR of responses to different prompts at a step, or at the run's last look."""
    looks = world.looks[arm]
    place = len(looks.step) - 1 if step is None else int(np.flatnonzero(looks.step == step)[0])
    generator = np.random.default_rng(world.seed)
    return float(between_prompts(looks.texts[place], pairs=PAIRS, generator=generator).mean())


def sweep_step(world: PolicyWorld) -> int:
    """The last step at which all weights of the prior were looked at."""
    return common_step(world, SWEEP)


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Similarity of responses to different prompts in one world.

    Args:
        start: At the start.
        sweep: Of each weight of the prior, at the last step at which all were looked at.
        last: At the last look of each arm but the repeats.
    """

    start: float
    sweep: Mapping[str, float]
    last: Mapping[str, float]


def alike_in(world: PolicyWorld) -> Alike:
    """Everything about similarity that the page shows."""
    step = sweep_step(world)
    return Alike(
        start=similarity(world, FREE, step=0),
        sweep={arm: similarity(world, arm, step=step) for arm in SWEEP},
        last={arm: similarity(world, arm) for arm in (FREE, HELD, *SWEEP)},
    )


def order(values: Sequence[float]) -> float:
    """Kendall's tau of values with their places: 1 where each is above all before it, -1 where below."""
    signs = [np.sign(later - earlier) for k, earlier in enumerate(values) for later in values[k + 1 :]]
    return float(np.mean(signs))


@dataclass(frozen=True)
class Middle:
    """Gold of the best middle weight of the prior, minus that of the least and of the largest weight."""

    least: float
    largest: float


def middle_of(world: PolicyWorld) -> Middle:
    """Half of the prompts choose the middle weight, the other half are what is measured, and in turn."""
    step = sweep_step(world)
    place = [int(np.flatnonzero(world.looks[arm].step == step)[0]) for arm in SWEEP]
    gold = np.stack([world.looks[arm].gold[k].mean(axis=1) for arm, k in zip(SWEEP, place, strict=True)])
    halves = [gold[:, half::2].mean(axis=1) for half in (0, 1)] if gold.shape[1] > 1 else [gold[:, 0]] * 2
    found = []
    for chooses, measured in (halves, halves[::-1]):
        best = 1 + int(chooses[1:-1].argmax())
        found.append((measured[best] - measured[0], measured[best] - measured[-1]))
    least, largest = np.mean(found, axis=0) / world.scale
    return Middle(float(least), float(largest))


@dataclass(frozen=True, kw_only=True)
class Stability:
    """What the same settings give with several seeds in one world.

    Args:
        spread: Standard deviation of the gain over seeds.
        mean: Mean gain.
        improved: Share of seeds whose policy is better than the start.
    """

    spread: float
    mean: float
    improved: float


def stability(world: PolicyWorld, arm: str, *, kl: float | None = None) -> Stability:
    """Gains in gold over seeds.

    Args:
        world: One world.
        arm: What was repeated.
        kl: Where to compare, nats; by default after as many steps as all repeats of all methods took.
    """
    names = [repeated(arm, number) for number in range(REPEATS)]
    if kl is None:
        step = common_step(world, REPEATED)
        values = np.array([at_step(world, name, step, what="gold") for name in names])
    else:
        values = np.array([gold_gain(world, name, kl) for name in names])
    return Stability(spread=float(values.std(ddof=1)), mean=float(values.mean()), improved=float(np.mean(values > 0)))
