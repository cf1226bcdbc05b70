"""What an audit of policies reads: responses that were drawn, comparisons that were asked, pairs that were scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Num

from trueup.errors import DataError
from trueup.measure.scored import Array

Texts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Responses to all prompts at one temperature, equally many to each.

    Args:
        temperature: At which they were drawn.
        texts: By prompt.
        tokens: Length of each, its end included; characters where the policy does not count tokens.
        finished: 1 where the policy ended the response itself, 0 where it was cut.
        logprob: Log-probability of each under the distribution it was drawn from, nats; None where it is not known.
        reference_logprob: Log-probability of the same tokens under the reference at temperature 1, nats.
        correct: 1 where a verifier accepts the response, 0 where it does not.
    """

    temperature: float
    texts: Texts
    tokens: Num[Array, "prompts samples"]
    finished: Num[Array, "prompts samples"]
    logprob: Float[Array, "prompts samples"] | None = None
    reference_logprob: Float[Array, "prompts samples"] | None = None
    correct: Int[Array, "prompts samples"] | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.tokens)
        if {len(group) for group in self.texts} - {shape[1]} or len(self.texts) != shape[0]:
            raise DataError("prompts have different numbers of responses", field="texts", expected="equally many")

    @property
    def samples(self) -> int:
        """Responses to each prompt."""
        return int(np.shape(self.tokens)[1])


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A policy's responses against the reference's, each asked in both orders.

    Args:
        forward: P(policy > reference), the policy's response standing first.
        backward: P(reference > policy), the reference's standing first.
        decided: Whether only the side that is preferred counts: a reward's scale says nothing of how surely.
    """

    forward: Float[Array, "prompts comparisons"]
    backward: Float[Array, "prompts comparisons"]
    decided: bool = False


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """A policy and its reference on held-out pairs of given responses.

    Args:
        reward: Reward of each response that the policy implies.
        policy: Log-probability of each response, nats.
        reference: The same under the reference.
        prompt: Prompt of each response, 0..prompts-1, non-decreasing.
        pairs: (chosen, rejected) as numbers of responses.
        length: Tokens of each response.
        formula: What the reward is, in words.
    """

    reward: Float[Array, " branches"]
    policy: Float[Array, " branches"]
    reference: Float[Array, " branches"]
    prompt: Int[Array, " branches"]
    pairs: Int[Array, "pairs 2"]
    length: Num[Array, " branches"]
    formula: str


@dataclass(frozen=True, kw_only=True)
class PolicyRecord:
    """All that is known of one policy, or of the reference.

    Args:
        source: Where it was loaded from.
        trained: How it was trained, in words; empty where that is not known.
        drawn: Its responses, one entry for each temperature; the first is the one that is judged.
        rewards: Rewards of the responses of that first entry, by the reward's name.
        judged: Comparisons with the reference, by the judge's name.
        pairs: Held-out pairs.
        notes: What a reader should know of the numbers.
        absent: Why a part is not measured, by its name.
    """

    source: str
    trained: str = ""
    drawn: Sequence[Drawn] = ()
    rewards: Mapping[str, Float[Array, "prompts samples"]] = field(default_factory=dict)
    judged: Mapping[str, Judged] = field(default_factory=dict)
    pairs: PairScores | None = None
    notes: Sequence[str] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    def at_own_temperature(self) -> Drawn | None:
        """What was drawn at temperature 1, where the policy is itself; None where nothing was."""
        return next((one for one in self.drawn if one.temperature == 1.0), None)
