"""Seed means, paired differences, checks and verdicts of `bsr_four_shifts.py`."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from four_shifts_plan import LAMBDAS, METHODS, MINILM, TRACE_EPOCHS, Plan, Run

from trueup.measure.bootstrap import Resampling, mean, paired_difference
from trueup.measure.scored import Estimate

RESAMPLING = Resampling(resamples=5000)
OUTSIDE = ("prompt_disjoint", "response_disjoint", "mutual_disjoint")
BASES = {"decoder": Run(), "minilm": MINILM}
TITLES = {"decoder": "Decoder", "minilm": "MiniLM"}
SHRINK = ("BT", *(f"BSR {value:g}" for value in LAMBDAS))
TOLERANCE = 0.03


@dataclass(frozen=True)
class Measure:
    """A number of a run: a metric, averaged over splits, after the last or the best epoch or after a given one."""

    metric: str
    splits: tuple[str, ...] = OUTSIDE
    when: str = "last"

    def of(self, result: Mapping[str, Any]) -> float:
        """The run's value; NaN where it was not measured."""
        if self.metric in ("size_of_mean", "size_of_spread"):
            return _over_training(result, self.metric)
        epochs = result["epochs"]
        table = result["best"] if self.when == "best" else epochs.get(self.when, {})
        if self.when == "last":
            table = epochs[max(epochs, key=int)]
        if self.metric == "best_epoch":
            return float(result["best_epoch"])
        if self.metric == "head_norm":
            return float(table.get("head_norm", np.nan))
        if self.metric in ("norm_shift", "rank_change"):
            return float(np.mean([_against_train(table, split, self.metric) for split in self.splits]))
        return float(np.mean([_one(table.get(split, {}), self.metric) for split in self.splits]))


def _over_training(result: Mapping[str, Any], metric: str) -> float:
    """Mean over the epochs from the second on of |mean reward| or of the reward's std, on validation prompts.

    A mean reward at the end of training is one draw of a quantity that swings; over the epochs it is a measurement.
    """
    values = result.get({"size_of_mean": "validation_mean", "size_of_spread": "validation_std"}[metric], [])[2:]
    return float(np.mean(np.abs(values))) if values else float("nan")


def _against_train(table: Mapping[str, Any], split: str, metric: str) -> float:
    """How far a split lies from the training split: shift of the mean norm in its std, or change of effective rank."""
    here, train = table.get(split, {}), table.get("train", {})
    if metric == "rank_change":
        return abs(_one(here, "effective_rank") - _one(train, "effective_rank"))
    return abs(_one(here, "norm_mean") - _one(train, "norm_mean")) / _one(train, "norm_std")


def _one(table: Mapping[str, float], metric: str) -> float:
    if metric == "abs_mean":
        return abs(table.get("reward_mean", np.nan))
    if metric in ("norm_cv", "raw_norm_cv"):
        name = metric.removesuffix("_cv")
        return table.get(f"{name}_std", np.nan) / table.get(f"{name}_mean", np.nan)
    return table.get(metric, np.nan)


@dataclass(frozen=True)
class Results:
    """All stored runs, and how many seeds each part of the plan has."""

    by_key: Mapping[str, Mapping[str, Any]]
    seeds: Mapping[str, int]

    def values(self, run: Run, measure: Measure, seeds: int) -> np.ndarray:
        """One value for each seed, NaN for runs that are not there."""
        runs = [self.by_key.get(replace(run, seed=seed).key) for seed in range(seeds)]
        return np.array([np.nan if result is None else measure.of(result) for result in runs])

    def level(self, run: Run, measure: Measure, seeds: int) -> Estimate:
        """Mean over seeds, with its interval."""
        return mean(self.values(run, measure, seeds), resampling=RESAMPLING)

    def gain(self, run: Run, against: Run, measure: Measure, seeds: int) -> Estimate:
        """Paired difference over seeds, `run` minus `against`."""
        return paired_difference(
            self.values(against, measure, seeds), self.values(run, measure, seeds), resampling=RESAMPLING
        )


def method_run(base: Run, name: str) -> Run:
    """The base run under a row of the main table."""
    return replace(base, **METHODS[name])


def shrink_checks(results: Results, plan: Plan) -> list[dict[str, Any]]:
    """Reward spread and size of the mean reward must fall as lambda rises, in the mean over seeds."""
    checks = []
    measures = {
        "reward std over training, validation prompts": Measure("size_of_spread"),
        "size of mean reward over training, validation prompts": Measure("size_of_mean"),
        "reward std at the end, training pairs": Measure("reward_std", ("train",)),
        "reward std at the end, in-domain": Measure("reward_std", ("in_domain",)),
        "reward std at the end, mutual-disjoint": Measure("reward_std", ("mutual_disjoint",)),
    }
    for model, base in BASES.items():
        if not plan.parts[model]:
            continue
        for words, measure in measures.items():
            rows = [results.values(method_run(base, name), measure, plan.seeds[model]) for name in SHRINK]
            named = dict(zip(("0", *map(str, LAMBDAS)), np.mean(rows, axis=1).tolist(), strict=True))
            checks.append({"name": f"{TITLES[model]}: {words}", "passed": shrinks(rows), "values": named})
    return checks


def shrinks(rows: Sequence[np.ndarray], *, tolerance: float = TOLERANCE) -> bool:
    """Whether a quantity falls from each strength to the next, and to less than half in all.

    A step may rise by `tolerance` of the first mean, or by more where the paired interval over seeds holds zero.

    Args:
        rows: One array of seeds for each strength, weakest first.
        tolerance: Share of the first mean.
    """
    means = np.mean(rows, axis=1)
    if not np.isfinite(means).all():
        return False
    for before, after in itertools.pairwise(rows):
        rise = paired_difference(before, after, resampling=RESAMPLING)
        if rise.value > tolerance * means[0] and not rise.low <= 0:
            return False
    return bool(means[-1] < 0.5 * means[0])


def at_spread(results: Results, base: Run, measure: Measure, *, spread: np.ndarray) -> np.ndarray:
    """What BSR would measure at a given in-domain reward std, one for each seed.

    Linear in the logarithm of the std between the strengths that were run, BT (lambda = 0) among them; NaN beyond.
    """
    std, value = (
        np.array([results.values(method_run(base, name), one, len(spread)) for name in SHRINK])
        for one in (Measure("reward_std", ("in_domain",)), measure)
    )
    found = []
    for seed, target in enumerate(spread):
        order = np.argsort(std[:, seed])
        x, y = np.log(std[order, seed]), value[order, seed]
        found.append(np.interp(np.log(target), x, y, left=np.nan, right=np.nan))
    return np.array(found)


def verdict(difference: Estimate, *, claimed: int) -> str:
    """What a paired difference says of a claim about its sign."""
    low, high = sorted((claimed * difference.low, claimed * difference.high))
    if not np.isfinite(low):
        return "not measured"
    return "reproduced" if low > 0 else "contradicted" if high < 0 else "not at this scale"


def trace_run(name: str) -> Run:
    """The long decoder run of a method."""
    return replace(Run(), trace=True, epochs=TRACE_EPOCHS[-1], **METHODS[name])


def as_list(estimate: Estimate, digits: int = 4) -> list[float | None]:
    """Value, low and high for JSON; None where undefined."""
    return [round(x, digits) if np.isfinite(x) else None for x in (estimate.value, estimate.low, estimate.high)]
