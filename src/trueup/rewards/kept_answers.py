"""What an oracle or a reward has said before, so that it is not asked again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from trueup.data.fingerprint import prompt_record
from trueup.data.rows import Prompt
from trueup.endpoints.cache import AnswerCache, answer_key
from trueup.rewards.base import Scores
from trueup.rewards.flat import flatten, scores_of
from trueup.rewards.oracle import Array, PreferenceOracle, checked_probabilities


@dataclass(frozen=True, kw_only=True)
class KeptOracle:
    """Asks an oracle about each comparison, in each order, once; answers are kept in a folder as they come.

    Args:
        oracle: What is asked.
        folder: Where answers are kept, by the oracle's name and identity, the prompt and both texts.
        identity: What tells the oracle from another one of its name, such as a hash of its files.
        at_a_time: Comparisons that are asked between two saves.
    """

    oracle: PreferenceOracle
    folder: Path
    identity: str = ""
    at_a_time: int = 1024

    @property
    def name(self) -> str:
        """That of the oracle."""
        return self.oracle.name

    def prefer(
        self, prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]
    ) -> Float[Array, " comparisons"]:
        """As the oracle says, or has said.

        Raises:
            RecipeError: The oracle returns anything but one probability for each comparison.
            OutputError: Answers cannot be kept.
        """
        comparisons = list(zip(prompts, first, second, strict=True))
        keys = [_key(f"{self.name} {self.identity}", one) for one in comparisons]
        asked = dict(zip(keys, comparisons, strict=True))
        with AnswerCache(self.folder) as cache:
            found = {key: answer for key, answer in cache.find(keys).items() if _is_probability(answer)}
            missing = [key for key in asked if key not in found]
            for start in range(0, len(missing), self.at_a_time):
                part = missing[start : start + self.at_a_time]
                for key, value in zip(part, self._ask([asked[key] for key in part]), strict=True):
                    cache.put(key, value)
                    found[key] = value
        return np.asarray([found[key] for key in keys], np.float64)

    def _ask(self, comparisons: Sequence[tuple[Prompt, str, str]]) -> list[float]:
        prompts, first, second = (list(column) for column in zip(*comparisons, strict=True))
        told = self.oracle.prefer(prompts, first, second)
        values: list[float] = checked_probabilities(told, comparisons=len(prompts), name=self.name).tolist()
        return values


def _key(asked: str, comparison: tuple[Prompt, str, str]) -> str:
    prompt, first, second = comparison
    return answer_key(asked, json.dumps([prompt_record(prompt), first, second]))


def _is_probability(answer: Any) -> bool:
    return isinstance(answer, int | float) and 0 <= answer <= 1


@dataclass(frozen=True)
class KnownReward:
    """A reward that only says what is known already.

    Args:
        known: Reward of each response, by prompt and text.
        name: What reports call it.
    """

    known: Mapping[tuple[Prompt, str], float]
    name: str

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Look rewards up; a response of which none is known is a KeyError."""
        flat = flatten(prompts, responses)
        return scores_of(np.asarray([self.known[one.prompt, one.response] for one in flat], np.float64), flat)
