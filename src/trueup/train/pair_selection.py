"""Which two of a prompt's responses are learned from, as an oracle or a reward says.

All three ways are pure; nothing is asked but the oracle that is given. What gives no pair is listed with its reason.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from trueup.data.rows import Prompt
from trueup.errors import RecipeError
from trueup.rewards.oracle import Array, PreferenceOracle, checked_probabilities

EQUAL_TEXTS, TIE, CHECK_FAILED = "equal texts", "tie", "final check failed"

# Nearer to one half than this is rounding of the mean of both orders.
_TIE = 1e-12


class ChosenPair(NamedTuple):
    """Numbers of a prompt and of two of its responses, all counted from 0."""

    prompt: int
    chosen: int
    rejected: int


class LeftOut(NamedTuple):
    """A prompt, or two of its responses, of which no pair was made.

    Args:
        prompt: Number of the prompt, counted from 0.
        reason: Why; the same words for the same reason.
        detail: What was seen.
    """

    prompt: int
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class PairSelection:
    """Pairs to learn from, and an account of the rest.

    Args:
        pairs: The pairs, in the order of the prompts.
        left_out: What gives no pair, in that order.
        comparisons: Comparisons that the oracle was asked for; one that asks another oracle in both orders counts once.
    """

    pairs: tuple[ChosenPair, ...]
    left_out: tuple[LeftOut, ...]
    comparisons: int

    def summary(self) -> dict[str, int]:
        """How much each reason took, the largest first."""
        return dict(Counter(one.reason for one in self.left_out).most_common())


def iid(
    oracle: PreferenceOracle,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    *,
    generator: np.random.Generator,
) -> PairSelection:
    """Two independent samples, ordered by one draw from the oracle's probability that the first is preferred.

    K responses give K / 2 such pairs: samples 1 and 2, 3 and 4, and so on. This is the distribution of pairs for which
    the loss of INPO has the next policy of mirror descent as its minimiser. Equal texts are left out: their margin is 0
    whatever the policy, so that they teach nothing.

    **Source** Zhang et al., "Iterative Nash policy optimization" (arXiv 2407.00617), section 3.

    Args:
        oracle: What compares.
        prompts: The prompts.
        responses: As many of each prompt, an even number, drawn independently from the policy.
        generator: What orders pairs; as many numbers are drawn as there are pairs, whatever their texts.

    Raises:
        RecipeError: The number of responses is odd, or not the same for all prompts.
    """
    samples = _samples(prompts, responses)
    if samples % 2:
        raise RecipeError(f"independent pairs need an even number of samples, got {samples}")
    numbers = np.tile(np.arange(samples), (len(prompts), 1))
    first, second = numbers[:, 0::2], numbers[:, 1::2]
    asked = _Asked(oracle, prompts, responses)
    wins = generator.random(first.shape) < asked.prefer(first, second)
    chosen, rejected = np.where(wins, first, second), np.where(wins, second, first)
    pairs, left_out = [], []
    for prompt, place in np.ndindex(first.shape):
        a, b = int(first[prompt, place]), int(second[prompt, place])
        if responses[prompt][a] == responses[prompt][b]:
            left_out.append(LeftOut(prompt, EQUAL_TEXTS, f"samples {a + 1} and {b + 1}"))
        else:
            pairs.append(ChosenPair(prompt, int(chosen[prompt, place]), int(rejected[prompt, place])))
    return PairSelection(pairs=tuple(pairs), left_out=tuple(left_out), comparisons=asked.comparisons)


def tournament(
    oracle: PreferenceOracle, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
) -> PairSelection:
    """Best and worst of K responses by 3 K / 2 - 1 comparisons: 11 for K = 8.

    Neighbours meet (4 comparisons for K = 8); winners go on among winners to the best (2 + 1), losers among losers to
    the worst (2 + 1); at a tie the first wins. Then best and worst meet (1), and the prompt is left out unless the best
    is preferred: with general preferences it need not be.

    **Source** Zhang et al., "Iterative Nash policy optimization" (arXiv 2407.00617), section 4 and appendix.

    Args:
        oracle: What compares.
        prompts: The prompts.
        responses: As many of each prompt, a power of two.

    Raises:
        RecipeError: The number of responses is no power of two, or not the same for all prompts.
    """
    samples = _samples(prompts, responses)
    if samples & (samples - 1):
        raise RecipeError(f"a tournament needs 2, 4, 8, ... samples, got {samples}")
    asked = _Asked(oracle, prompts, responses)
    best, worst = asked.play(np.tile(np.arange(samples), (len(prompts), 1)))
    while best.shape[1] > 1:  # both brackets in one call
        width = best.shape[1] // 2
        winners, losers = asked.play(np.concatenate([best, worst], axis=1))
        best, worst = winners[:, :width], losers[:, width:]
    preferred = asked.prefer(best, worst)[:, 0]
    pairs, left_out = [], []
    for prompt, (chosen, rejected) in enumerate(zip(best[:, 0].tolist(), worst[:, 0].tolist(), strict=True)):
        reason = _unusable(responses[prompt][chosen], responses[prompt][rejected], float(preferred[prompt]))
        if reason is None:
            pairs.append(ChosenPair(prompt, chosen, rejected))
        else:
            detail = f"P(sample {chosen + 1}, the best > sample {rejected + 1}, the worst) = {preferred[prompt]:.3g}"
            left_out.append(LeftOut(prompt, reason, detail))
    return PairSelection(pairs=tuple(pairs), left_out=tuple(left_out), comparisons=asked.comparisons)


def _unusable(best: str, worst: str, preferred: float) -> str | None:
    if best == worst:
        return EQUAL_TEXTS
    if abs(preferred - 0.5) <= _TIE:
        return TIE
    return CHECK_FAILED if preferred < 0.5 else None


def best_worst(reward: Float[Array, "prompts samples"], responses: Sequence[Sequence[str]]) -> PairSelection:
    """The responses with the highest and the lowest reward, the earliest where several have it; no comparison is asked.

    **Source** Zhang et al., "Iterative Nash policy optimization" (arXiv 2407.00617), section 4.

    Args:
        reward: A finite reward of each response.
        responses: The responses to each prompt.

    Raises:
        RecipeError: There are fewer than two responses, or not the same number for all prompts.
    """
    samples = _samples(reward, responses)
    pairs, left_out = [], []
    if reward.shape != (len(responses), samples):
        raise RecipeError(f"{reward.shape} rewards for {samples} responses to each of {len(responses)} prompts")
    for prompt, (values, texts) in enumerate(zip(reward, responses, strict=True)):
        chosen, rejected = int(np.argmax(values)), int(np.argmin(values))
        if len(set(texts)) == 1:
            left_out.append(LeftOut(prompt, EQUAL_TEXTS, f"all {samples} responses"))
        elif values[chosen] == values[rejected]:
            left_out.append(LeftOut(prompt, TIE, f"all {samples} rewards are {values[chosen]:.6g}"))
        else:
            pairs.append(ChosenPair(prompt, chosen, rejected))
    return PairSelection(pairs=tuple(pairs), left_out=tuple(left_out), comparisons=0)


def _samples(prompts: Sequence[Prompt] | Array, responses: Sequence[Sequence[str]]) -> int:
    """How many responses each prompt has."""
    counts = {len(group) for group in responses}
    if len(prompts) != len(responses) or len(counts) != 1 or min(counts) < 2:
        raise RecipeError(
            f"{sorted(counts)} responses to each of {len(responses)} prompts; give each of {len(prompts)} the same "
            "number, at least 2"
        )
    return counts.pop()


class _Asked:
    """An oracle, what it is asked about, and how often it was asked."""

    def __init__(self, oracle: PreferenceOracle, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> None:
        self.oracle, self.prompts, self.responses = oracle, prompts, responses
        self.comparisons = 0

    def prefer(
        self, first: Int[Array, "prompts games"], second: Int[Array, "prompts games"]
    ) -> Float[Array, "prompts games"]:
        """P(first > second) of samples by their numbers, in one call."""
        prompts = [prompt for prompt in self.prompts for _ in range(first.shape[1])]
        told = self.oracle.prefer(prompts, self._texts(first), self._texts(second))
        self.comparisons += first.size
        return checked_probabilities(told, comparisons=first.size, name=self.oracle.name).reshape(first.shape)

    def _texts(self, numbers: Int[Array, "prompts games"]) -> list[str]:
        return [self.responses[prompt][number] for prompt, row in enumerate(numbers.tolist()) for number in row]

    def play(
        self, players: Int[Array, "prompts players"]
    ) -> tuple[Int[Array, "prompts games"], Int[Array, "prompts games"]]:
        """Winners and losers where neighbours meet."""
        first, second = players[:, 0::2], players[:, 1::2]
        won: Bool[Array, "prompts games"] = self.prefer(first, second) >= 0.5 - _TIE
        return np.where(won, first, second), np.where(won, second, first)
