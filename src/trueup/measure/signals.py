"""What a practitioner can see along best-of-n without gold, in units that no reward's scale and no world enters.

All signals are means over prompts of what best-of-n selects, at each n; `sigma` of a reward is the mean over prompts of
its standard deviation within a prompt, under the base policy. A signal whose input is missing is absent.

- `kl`: nominal KL from the base policy, nats.
- `proxy_slope`: slope of the proxy's mean against what a Gaussian would reach, divided by the same slope at the start:
  1 for a Gaussian, above for heavier tails, below for lighter ones. (`sqrt(KL)` as common axis cancels.)
- `proxy_tail`: proxy's gain over n = 1, in sigma of the proxy, divided by the Gaussian's expected maximum; likewise 1.
- `disagreement`: standard deviation between members of a response's scores, each member first centred within the
  prompt and in units of its own sigma: a reward model is only determined up to a shift for each prompt.
- `disagreement_ratio`: the same divided by its value at n = 1.
- `member_gap`: gain of the member that selects minus the mean gain of the others, each in its own sigma: the
  regression to the mean that shows when another member judges.
- `member_transfer`: slope of the others' gain against the selecting member's; the correlation of members for
  Gaussians, and below zero where the others' scores fall.
- `norm_drift`: mean of |z| with z the hidden norm standardised by the reward model's training data, minus that at
  n = 1.
- `length_drift`: mean tokens minus those at n = 1, in sigma of the tokens.
- `repetition_drift`: share of repeated word sequences minus that at n = 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num
from scipy import special

from trueup.divergences.best_of_n import nominal_kl
from trueup.divergences.pool_scores import Ns, checked_n, checked_scores
from trueup.errors import DataError, RecipeError
from trueup.measure.best_of_n import best_of_n_many, n_grid
from trueup.measure.repetition import repetition
from trueup.measure.scored import Array

KL = "kl"

# The expected maximum is integrated over this many standard deviations either side; beyond lies less than rounding.
_REACH = 14.0
_NODES = 2801


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One pool as it is seen without gold.

    Args:
        proxy: Scores that select, prompts by samples.
        members: Scores of two or more reward models of the same responses, or None.
        selector: Which member the proxy is; None if it is their aggregate or none of them. Then each member in turn
            selects for the signals between members.
        norms: Hidden norm of each response, or None.
        training_norms: Mean and standard deviation of the norms on the reward model's training data.
        tokens: Length of each response, or None.
        repetition: Share of repeated sequences of each response, or None; see `repetitions`.
    """

    proxy: Num[Array, "_ _"]
    members: Num[Array, "_ _ _"] | None = None
    selector: int | None = None
    norms: Num[Array, "_ _"] | None = None
    training_norms: tuple[float, float] | None = None
    tokens: Num[Array, "_ _"] | None = None
    repetition: Num[Array, "_ _"] | None = None


@dataclass(frozen=True)
class Signals:
    """Named signals along optimisation.

    Args:
        n: Sizes, ascending, from 1.
        values: One value at each size; signals that could not be measured are absent.
    """

    n: Int[Array, " ns"]
    values: Mapping[str, Num[Array, " _"]]

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if np.shape(value) != np.shape(self.n):
                raise DataError(f"{len(value)} values", field=name, expected=f"one at each of {len(self.n)} sizes")

    @property
    def known(self) -> frozenset[str]:
        """Names of the signals that are finite at every size."""
        return frozenset(name for name, value in self.values.items() if np.all(np.isfinite(value)))


def signals(observed: Observed, n: Ns | None = None) -> Signals:
    """Measure every signal whose input is there.

    Args:
        observed: The pool.
        n: Sizes; `n_grid` when None. 1 is always among them.

    Raises:
        DataError: A value is missing or not finite, shapes differ, or a reward gives all responses of each prompt
            equal scores.
        RecipeError: An n that the pool cannot answer, or a `selector` that is no member.
    """
    proxy = checked_scores(observed.proxy, "proxy").astype(np.float64)
    sizes = np.unique(np.r_[1, n_grid(proxy.shape[1]) if n is None else checked_n(n, samples=proxy.shape[1])])
    inputs = {"proxy": _standardized(proxy, "proxy"), **_drifting(observed, proxy.shape)}
    members = _members(observed, proxy.shape)
    if members is not None:
        inputs["disagreement"] = members.std(axis=0, ddof=1)
    table = best_of_n_many(proxy, list(inputs.values()), sizes).mean(axis=1)
    selected = dict(zip(inputs, table, strict=True))
    values = {KL: nominal_kl(sizes), **_of_proxy(selected.pop("proxy"), sizes)}
    if members is not None:
        values |= _of_members(selected.pop("disagreement"), members, observed.selector, n=sizes)
    return Signals(sizes, values | {name: value - value[0] for name, value in selected.items()})


def repetitions(texts: Sequence[Sequence[str]]) -> Float[Array, "prompts samples"]:
    """Share of repeated word sequences of each prompt's responses."""
    return np.array([[repetition(text) for text in row] for row in texts], np.float64)


def expected_max(n: Num[Array, " ns"]) -> Float[Array, " ns"]:
    """Expected largest of n standard Gaussians, `n * integral of x phi(x) Phi(x)^(n - 1)`.

    >>> expected_max(np.array([1, 2, 3])).round(6).tolist()
    [0.0, 0.56419, 0.846284]
    """
    x = np.linspace(-_REACH, _REACH, _NODES)
    sizes = np.asarray(n, np.float64)[:, None]
    log_density = np.log(sizes) - x**2 / 2 - np.log(2 * np.pi) / 2 + (sizes - 1) * special.log_ndtr(x)
    largest = (np.exp(log_density) @ x) * (x[1] - x[0])
    return np.where(sizes[:, 0] == 1, 0.0, largest)


def _standardized(scores: Float[Array, "prompts samples"], name: str) -> Float[Array, "prompts samples"]:
    """Centred within prompts, in units of sigma."""
    sigma = _sigma(scores)
    if not sigma > 0:
        cure = "leave this reward out: nothing is selected by it"
        raise DataError("all responses of each prompt have equal scores", field=name, cure=cure)
    return (scores - scores.mean(axis=1, keepdims=True)) / sigma


def _sigma(values: Float[Array, "prompts samples"]) -> float:
    if values.shape[1] < 2:
        raise RecipeError(f"signals need at least 2 samples of each prompt, got {values.shape[1]}; draw more")
    return float(values.std(axis=1, ddof=1).mean())


def _drifting(observed: Observed, shape: tuple[int, int]) -> dict[str, Float[Array, "prompts samples"]]:
    """Inputs of the drifts, in their units."""
    found: dict[str, Float[Array, "prompts samples"]] = {}
    if observed.norms is not None and observed.training_norms is not None:
        mean, std = observed.training_norms
        if not (np.isfinite(mean) and 0 < std < np.inf):
            raise DataError(
                f"training norms have mean {mean} and std {std}", field="training_norms", expected="std > 0"
            )
        found["norm_drift"] = np.abs(checked_scores(observed.norms, "norms", shape=shape) - mean) / std
    if observed.tokens is not None:
        tokens = checked_scores(observed.tokens, "tokens", shape=shape)
        # without any spread the length is fixed and cannot drift
        if (sigma := _sigma(tokens)) > 0:
            found["length_drift"] = tokens / sigma
    if observed.repetition is not None:
        found["repetition_drift"] = checked_scores(observed.repetition, "repetition", shape=shape)
    return found


def _members(observed: Observed, shape: tuple[int, int]) -> Float[Array, "members prompts samples"] | None:
    if observed.members is None:
        return None
    count = len(observed.members)
    if count < 2:
        raise DataError(f"{count} member", field="members", expected="two or more, or None")
    if observed.selector is not None and not 0 <= observed.selector < count:
        raise RecipeError(f"selector must lie between 0 and {count - 1}, got {observed.selector}")
    names = [f"members[{k}]" for k in range(count)]
    checked = [
        checked_scores(one, name, shape=shape).astype(np.float64)
        for one, name in zip(observed.members, names, strict=True)
    ]
    return np.stack([_standardized(one, name) for one, name in zip(checked, names, strict=True)])


def _of_proxy(gain: Float[Array, " ns"], n: Int[Array, " ns"]) -> dict[str, Float[Array, " ns"]]:
    """Slope and tail of the proxy against a Gaussian's; nothing if there is only n = 1, where both are limits."""
    if len(n) < 2:
        return {}
    gaussian = expected_max(n)
    slope, tail = np.diff(gain) / np.diff(gaussian), gain[1:] / gaussian[1:]
    relative = slope / slope[0] if slope[0] > 0 else np.full_like(slope, np.nan)
    return {"proxy_slope": _from_first(relative), "proxy_tail": _from_first(tail)}


def _of_members(
    disagreement: Float[Array, " ns"],
    members: Float[Array, "members prompts samples"],
    selector: int | None,
    *,
    n: Int[Array, " ns"],
) -> dict[str, Float[Array, " ns"]]:
    found = {"disagreement": disagreement}
    if disagreement[0] > 0:
        found["disagreement_ratio"] = disagreement / disagreement[0]
    chosen = range(len(members)) if selector is None else (selector,)
    total = members.sum(axis=0)
    gains = np.zeros((2, len(n)))
    for k in chosen:
        others = (total - members[k]) / (len(members) - 1)
        gains += best_of_n_many(members[k], [members[k], others], n).mean(axis=1) / len(chosen)
    own, other = gains
    found["member_gap"] = own - other
    if len(n) > 1:
        steps = np.diff(own)
        slopes = np.divide(np.diff(other), steps, out=np.full_like(steps, np.nan), where=steps > 0)
        found["member_transfer"] = _from_first(slopes)
    return found


def _from_first(later: Float[Array, " later"]) -> Float[Array, " ns"]:
    """Values from the second size on, the first of them standing for n = 1 as well."""
    return np.r_[later[:1], later]
