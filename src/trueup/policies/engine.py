"""What draws rollouts in place of our own drawing: another program with a copy of the policy's weights."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from trueup.data.rows import Prompt
from trueup.models.generation import Reply


@runtime_checkable
class RolloutEngine(Protocol):
    """Draws replies with weights that it is given before each rollout.

    Attributes:
        shared: Whether one engine serves all processes of a run, so that only the first of them renews it.
        tells_logprobs: Whether it says how likely its replies were.
    """

    shared: bool
    tells_logprobs: bool

    def renew(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take over the policy's weights, under the names that its checkpoints have.

        Raises:
            RecipeError: The engine cannot take them and may not go on with older ones.
        """
        ...

    def draw(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> tuple[list[list[int]], list[list[Reply]]]:
        """Token ids of each prompt, and of `count` replies to each.

        `policy_logprobs` of a reply are NaN where the engine does not know them; whoever learns from replies compares
        them with the policy's own and computes them again where they differ.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...
