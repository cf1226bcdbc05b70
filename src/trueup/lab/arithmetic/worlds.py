"""A world of arithmetic: a policy that makes mistakes, problems to learn from, and others on which it is watched."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from trueup.data.rows import Row
from trueup.errors import DataError
from trueup.files import cache_folder
from trueup.lab.arithmetic.policies import MAX_NEW_TOKENS, ArithmeticPlan, build_arithmetic_policy
from trueup.lab.arithmetic.preferences import verified_pairs
from trueup.lab.arithmetic.problems import Problem, is_correct
from trueup.lab.offline_draws import Drawing, draw_from, verify
from trueup.lab.offline_runs import OfflineRun, OfflineTraining, run_offline
from trueup.measure.pass_at_k import pass_at_k

logger = logging.getLogger(__name__)

Array = np.ndarray

_PROBLEM_SEED, _OWN_SEED, _WATCH_SEED = 70_001, 80_001, 60_001


@dataclass(frozen=True, kw_only=True)
class WorldPlan:
    """One world; another seed of its policy is another policy with other problems.

    Args:
        policy: What the policy is made of.
        problems: Problems to learn from; the policy has seen none of them.
        drawn: Own workings of each, for the verifier to compare.
        pairs: The most comparisons that one problem gives.
        watched: Further problems, from which nothing is learned.
        samples: Workings of each of those.
        hard: Share of them, at the start's least success, that count as hard.
    """

    policy: ArithmeticPlan = field(default_factory=ArithmeticPlan)
    problems: int = 600
    drawn: int = 16
    pairs: int = 4
    watched: int = 96
    samples: int = 128
    hard: float = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a policy does on the watched problems.

    Args:
        correct: Right workings of each problem.
        samples: Workings of each.
        entropy: Of whole workings, as they were drawn, nats.
        hard: Which problems the start found hard.
    """

    correct: Int[Array, " problems"]
    samples: int
    entropy: float
    hard: Bool[Array, " problems"]

    def pass_at(self, k: int, *, hard: bool = False) -> float:
        """Mean probability that one of k workings is right, over all problems or over the hard ones."""
        correct = self.correct[self.hard] if hard else self.correct
        return float(pass_at_k(correct, self.samples, [k]).mean())


@dataclass(frozen=True, kw_only=True)
class ArithmeticWorld:
    """A plan carried out.

    Args:
        plan: The plan.
        start: Folder of the policy.
        problems: To learn from.
        watched: To be watched on.
        hard: Which of these the start found hard: those of which the fewest of other workings were right.
        folder: Where policies, runs and draws are kept.
    """

    plan: WorldPlan
    start: Path
    problems: tuple[Problem, ...]
    watched: tuple[Problem, ...]
    hard: Bool[Array, " problems"]
    folder: Path

    def preferences(self, policy: Path | None = None, *, problems: Sequence[Problem] | None = None) -> tuple[Row, ...]:
        """The verifier's comparisons of a policy's own workings.

        Args:
            policy: Whose; the start's by default.
            problems: Of what; the problems to learn from by default.

        Raises:
            DataError: No problem has a right and a wrong working.
        """
        asked = [one.text for one in (self.problems if problems is None else problems)]
        how = Drawing(samples=self.plan.drawn, max_new_tokens=MAX_NEW_TOKENS, seed=_OWN_SEED)
        drawn = draw_from(policy or self.start, asked, how, folder=self.folder)
        correct = verify(drawn, asked, is_correct)
        rows = verified_pairs(asked, drawn.texts, correct, pairs=self.plan.pairs, seed=self.plan.policy.seed)
        if not rows:
            cure = "give the policy more problems or epochs"
            raise DataError(
                f"of {correct.size} workings {correct.sum()} are right", expected="right and wrong", cure=cure
            )
        return tuple(rows)

    def train(self, how: OfflineTraining, rows: Sequence[Row], *, start: Path | None = None) -> Path:
        """Train the start, or another policy, once."""
        return run_offline(OfflineRun(start=start or self.start, rows=tuple(rows), how=how), folder=self.folder)

    def watch(self, policy: Path, *, temperature: float = 1.0) -> Watched:
        """Look at a policy; the same random numbers serve all policies and temperatures."""
        asked = [one.text for one in self.watched]
        # Without chance one sample says all.
        samples = self.plan.samples if temperature else 1
        how = Drawing(samples=samples, temperature=temperature, max_new_tokens=MAX_NEW_TOKENS, seed=_WATCH_SEED)
        drawn = draw_from(policy, asked, how, folder=self.folder)
        correct = verify(drawn, asked, is_correct).sum(axis=1)
        return Watched(correct=correct, samples=samples, entropy=drawn.entropy, hard=self.hard)


def set_up_world(plan: WorldPlan, *, folder: Path | None = None) -> ArithmeticWorld:
    """Build the policy and choose the problems; what was made before is read.

    Args:
        plan: What to make.
        folder: Where policies, runs and draws are kept; the user's cache folder by default.
    """
    home = folder or cache_folder() / "lab"
    start = build_arithmetic_policy(plan.policy, folder=home / "policies")
    unseen = plan.policy.other_problems(plan.watched + plan.problems, seed=_PROBLEM_SEED + plan.policy.seed)
    watched = tuple(unseen[: plan.watched])
    return ArithmeticWorld(
        plan=plan,
        start=start,
        problems=tuple(unseen[plan.watched :]),
        watched=watched,
        hard=_hardest(start, watched, plan, home),
        folder=home,
    )


def _hardest(start: Path, watched: Sequence[Problem], plan: WorldPlan, home: Path) -> Bool[Array, " problems"]:
    asked = [one.text for one in watched]
    how = Drawing(samples=plan.drawn, max_new_tokens=MAX_NEW_TOKENS, seed=_OWN_SEED)
    right = verify(draw_from(start, asked, how, folder=home), asked, is_correct).sum(axis=1)
    hard = np.zeros(len(watched), bool)
    hard[np.argsort(right, kind="stable")[: round(plan.hard * len(watched))]] = True
    return hard
