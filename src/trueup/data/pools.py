"""A pool: the same number of samples of one policy for each of several prompts, and what rewards say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from trueup.data.rows import Prompt
from trueup.errors import DataError, RecipeError

Array = np.ndarray
Setting = str | int | float | bool | None
Settings = Mapping[str, Setting]
"""What decides which responses a policy gives: its name, temperature, length limit, seed."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Samples and their scores, prompts by samples, in the order in which they were drawn.

    Args:
        ids: Stable name of each prompt.
        prompts: The prompts.
        responses: Texts of each prompt's samples.
        tokens: Tokens drawn; characters where the policy does not say.
        finished: Whether the policy ended the response itself.
        logprob: Log-probability of the whole response under the distribution drawn from, nats; NaN where unknown.
        scores: By name: `NAME` is a reward, `NAME/0`, `NAME/1`, ... the members of an ensemble, `NAME/hidden_norm` and
            `NAME/before_norm` norms of what enters a model's head, after and before its final normalisation.
        settings: How the samples were drawn.
    """

    ids: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    responses: tuple[tuple[str, ...], ...]
    tokens: Int[Array, "prompts samples"]
    finished: Bool[Array, "prompts samples"]
    logprob: Float[Array, "prompts samples"]
    scores: Mapping[str, Float[Array, "prompts samples"]] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids or len(self.prompts) != len(self.ids) or len(self.responses) != len(self.ids):
            found = f"{len(self.ids)} ids, {len(self.prompts)} prompts and responses to {len(self.responses)}"
            raise DataError(found, expected="as many ids as prompts and groups of responses, at least one")
        counts = [len(group) for group in self.responses]
        if min(counts) != max(counts) or not counts[0]:
            few, many = self.ids[int(np.argmin(counts))], self.ids[int(np.argmax(counts))]
            found = f"prompt {few!r} has {min(counts)} samples and prompt {many!r} has {max(counts)}"
            raise DataError(found, expected="the same number of samples, at least one, for every prompt")
        known = {"tokens": self.tokens, "finished": self.finished, "logprob": self.logprob, **self.scores}
        for name, values in known.items():
            if values.shape != self.shape:
                raise DataError(f"has shape {values.shape}", field=name, expected=f"{self.shape}: prompts, samples")
        for name, values in self.scores.items():
            check_finite(values, name, ids=self.ids)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of prompts, number of samples for each."""
        return len(self.ids), len(self.responses[0])

    @property
    def rewards(self) -> tuple[str, ...]:
        """Names of the rewards, without members and norms."""
        return tuple(name for name in self.scores if "/" not in name)

    def score(self, name: str) -> Float[Array, "prompts samples"]:
        """Scores by name.

        Raises:
            DataError: The pool was not scored so.
        """
        if name not in self.scores:
            held = ", ".join(self.scores) or "none"
            raise DataError("the pool has no such scores", field=name, expected=f"one of: {held}", cure="score it")
        return self.scores[name]

    def members(self, name: str) -> Float[Array, "members prompts samples"] | None:
        """Scores of an ensemble's members; None where the reward is no ensemble."""
        found: list[np.ndarray] = []
        while f"{name}/{len(found)}" in self.scores:
            found.append(self.scores[f"{name}/{len(found)}"])
        return np.stack(found) if found else None

    def with_scores(self, scores: Mapping[str, Float[Array, "prompts samples"]]) -> "Pool":
        """The same samples with further scores."""
        return replace(self, scores={**self.scores, **scores})

    def first(self, samples: int) -> "Pool":
        """The first samples of each prompt.

        Raises:
            RecipeError: There are not as many.
        """
        if not 1 <= samples <= self.shape[1]:
            raise RecipeError(f"samples must lie between 1 and the pool's {self.shape[1]}, got {samples}")
        return replace(
            self,
            responses=tuple(group[:samples] for group in self.responses),
            tokens=self.tokens[:, :samples],
            finished=self.finished[:, :samples],
            logprob=self.logprob[:, :samples],
            scores={name: values[:, :samples] for name, values in self.scores.items()},
        )


def check_finite(
    values: Float[Array, "prompts samples"], name: str, *, ids: Sequence[str], first: int = 0, file: object = None
) -> None:
    """Stop where a reward is NaN or infinite: the response to be blamed would win every choice, or none.

    Raises:
        DataError: One is; the prompt and the sample, counted from 1, are named.
    """
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        prompt, sample = bad[0]
        raise DataError(
            f"{values[prompt, sample]} for sample {first + sample + 1} of prompt {ids[prompt]!r} ({len(bad)} in all)",
            file=None if file is None else str(file),
            field=name,
            expected="a finite reward for every response",
            cure="mend the reward, remove its folder from the pool and score again",
        )


def distinct(texts: Sequence[str]) -> tuple[list[str], Int[Array, " texts"]]:
    """Different texts in the order in which they first appear, and the place of each text among them."""
    places: dict[str, int] = {}
    index = np.asarray([places.setdefault(text, len(places)) for text in texts], int)
    return list(places), index
