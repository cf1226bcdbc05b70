"""What an alarm is taught and judged by: runs of the laboratory, and where along them gold has fallen."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import stats

from trueup.errors import DataError, RecipeError
from trueup.measure.scored import Array
from trueup.measure.signals import KL, Signals

_FEWEST_PROMPTS = 4


@dataclass(frozen=True, kw_only=True)
class Run:
    """One optimisation whose gold is known.

    Args:
        name: What reports call it.
        group: What makes it dependent on other runs: those that share a world, a policy or a seed share a group.
        signals: What is seen without gold, `kl` among it.
        gold_by_prompt: Gold of what each prompt's optimised policy gives, at each size.
    """

    name: str
    group: str | int
    signals: Signals
    gold_by_prompt: Num[Array, "prompts ns"] = field(repr=False)

    def __post_init__(self) -> None:
        gold, sizes = np.asarray(self.gold_by_prompt), len(self.signals.n)
        if gold.shape[1] != sizes:
            raise DataError(f"{self.name}: gold at {gold.shape[1]} sizes", expected=f"{sizes}, as the signals have")
        if not np.all(np.isfinite(gold)):
            raise DataError(f"{self.name}: gold is missing or not finite at {np.sum(~np.isfinite(gold))} places")
        if KL not in self.signals.known or np.any(np.diff(self.signals.values[KL]) <= 0):
            raise DataError(f"{self.name}: no rising, finite KL", field=KL, expected="the KL at each size, in nats")


@dataclass(frozen=True)
class Labels:
    """Whether gold has fallen, along a run.

    Args:
        state: 1 where gold is below its best earlier value by more than noise, 0 where it is not below it, and -1 where
            that cannot be told. The first size, which has nothing earlier, is 0.
        fall: Cross-fitted fall of gold below its best earlier value; negative where it has risen above it.
    """

    state: Int[Array, " ns"]
    fall: Float[Array, " ns"]

    @property
    def told(self) -> Int[Array, " places"]:
        """Places after the first at which it can be told whether gold has fallen: what alarms learn from."""
        return np.flatnonzero(self.state[1:] != -1) + 1

    @property
    def ambiguous(self) -> int:
        """How many sizes cannot be told."""
        return int(np.count_nonzero(self.state == -1))

    @property
    def onset(self) -> int | None:
        """Place of the first size at which gold has fallen, or None."""
        fallen = np.flatnonzero(self.state == 1)
        return int(fallen[0]) if len(fallen) else None

    @property
    def before(self) -> Int[Array, " places"]:
        """Places at which gold has not fallen, before it does: where a warning is false."""
        end = len(self.state) if self.onset is None else self.onset
        return np.flatnonzero(self.state[:end] == 0)


def gold_has_fallen(gold_by_prompt: Num[Array, "prompts ns"], *, level: float = 0.95) -> Labels:
    """Say at each size whether gold is below its best earlier value by more than noise.

    The best of several noisy means is biased upwards. So prompts are halved (even and odd places); the best earlier
    size is chosen on one half and the fall from it measured on the other, each prompt against itself. A fall counts if
    its mean over prompts exceeds the one-sided normal quantile of `level` standard errors: on gold that is flat but for
    noise, 5 to 7 in 100 sizes are called fallen at level 0.95. Gold has not fallen where that mean is not positive and
    the mean of all prompts is less than one standard error below its best, which is the stricter as it is biased.

    Args:
        gold_by_prompt: Gold of each prompt at each size, prompts in no particular order.
        level: One-sided confidence that a fall needs.
    """
    gold = np.asarray(gold_by_prompt, np.float64)
    if not 0.5 <= level < 1:
        raise RecipeError(f"level must lie in [0.5, 1), got {level}")
    if len(gold) < _FEWEST_PROMPTS:
        raise DataError(f"gold of {len(gold)} prompts", expected=f"{_FEWEST_PROMPTS} or more, to tell falls from noise")
    apart = np.empty(gold.shape)
    for half in range(2):
        apart[half::2] = _falls(gold[half::2], gold[1 - half :: 2])
    fall, error = _mean_and_error(apart)
    biased, its_error = _mean_and_error(_falls(gold, gold))
    fallen, not_fallen = fall > stats.norm.ppf(level) * error, (fall <= 0) & (biased <= its_error)
    return Labels(np.where(fallen, 1, np.where(not_fallen, 0, -1)), fall)


def _falls(gold: Float[Array, "some ns"], chosen_by: Float[Array, "others ns"]) -> Float[Array, "some ns"]:
    """How far each prompt's gold is below its value at the best size so far, by the mean of `chosen_by`."""
    return gold[:, _best_so_far(chosen_by.mean(axis=0))] - gold


def _mean_and_error(values: Float[Array, "prompts ns"]) -> tuple[Float[Array, " ns"], Float[Array, " ns"]]:
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _best_so_far(curve: Float[Array, " ns"]) -> Int[Array, " ns"]:
    """Place of the highest value up to each place."""
    highest = np.maximum.accumulate(curve)
    fresh = np.r_[True, curve[1:] > highest[:-1]]
    return np.maximum.accumulate(np.where(fresh, np.arange(len(curve)), 0))


def checked_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs, if there are any and no two share a name."""
    names = [run.name for run in runs]
    if not names or len(set(names)) < len(names):
        raise DataError(f"runs named {', '.join(names) or 'nothing'}", field="name", expected="runs of different names")
    return list(runs)
