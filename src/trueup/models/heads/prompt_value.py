"""What reward a policy's response to a prompt is expected to earn, told from the prompt alone."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from trueup.functional.policy_batch import positive

_HEADS = 8


class PromptValueHead(nn.Module):
    """`V(x) = R_max sigmoid(w o(x) + b)`, o one learned query's attention over the states of the prompt's tokens.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718); sizes as in LoL-RL, the authors' code.
    **Deviations**: padding is masked.

    Args:
        width: Size of a state; the attention has 8 heads, or as many below that as divide it.
        reward_max: R_max, the largest reward there is; the smallest is 0.
        generator: Source of the weights.
        dropout: Of attention weights, while training.
        device: Where the weights are.
    """

    def __init__(
        self,
        width: int,
        *,
        reward_max: float,
        generator: torch.Generator,
        dropout: float = 0.1,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        positive("reward_max", reward_max)
        self.reward_max = reward_max
        heads = max(number for number in range(1, _HEADS + 1) if width % number == 0)
        with torch.random.fork_rng([]):  # nothing may be drawn from the global generator
            self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
            self.read = nn.Linear(width, 1)
        self.query = nn.Parameter(torch.randn(width, generator=generator))
        self._draw(generator)
        self.to(device)

    def _draw(self, generator: torch.Generator) -> None:
        for name, weight in (*self.attention.named_parameters(), *self.read.named_parameters()):
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            else:
                nn.init.xavier_uniform_(weight, generator=generator)

    def start_at(self, reward: float) -> None:
        """Say the same of every prompt, about this reward, until something is learned."""
        part = torch.tensor(reward / self.reward_max, dtype=torch.float64).clamp(1e-3, 1 - 1e-3)
        nn.init.zeros_(self.read.weight)
        nn.init.constant_(self.read.bias, float(torch.logit(part)))

    def forward(
        self, states: Float[Tensor, "prompts s d"], real: Bool[Tensor, "prompts s"]
    ) -> Float[Tensor, " prompts"]:
        """Value of each prompt, float32.

        Args:
            states: Last-layer states of the prompts' tokens, padded.
            real: Which of them are tokens; at least one of each prompt is.
        """
        # Rewards are regressed on, for which bfloat16 is too coarse.
        with torch.autocast(states.device.type, enabled=False):
            states = states.to(self.query.dtype)
            query = self.query.expand(len(states), 1, -1)
            found, _ = self.attention(query, states, states, key_padding_mask=~real, need_weights=False)
            scores: Tensor = self.read(found[:, 0])[:, 0]
            return self.reward_max * torch.sigmoid(scores)
