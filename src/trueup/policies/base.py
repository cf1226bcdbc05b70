"""Anything that answers prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trueup.data.rows import Prompt


@dataclass(frozen=True)
class Sample:
    """One response drawn from a policy.

    Args:
        text: The response, without the prompt and without special tokens.
        tokens: Tokens drawn, the end-of-sequence token included; characters where the policy does not say.
        finished: Whether the policy ended the response itself, rather than being cut at the length limit.
        logprob: Log-probability of the drawn tokens under the distribution they were drawn from, in nats, summed over
            the sequence; None where the policy does not say.
    """

    text: str
    tokens: int
    finished: bool = True
    logprob: float | None = None


@runtime_checkable
class Policy(Protocol):
    """Anything that draws responses to prompts."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def sample(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> list[list[Sample]]:
        """Draw `count` independent responses to each prompt; the same seed gives the same responses."""
        ...
