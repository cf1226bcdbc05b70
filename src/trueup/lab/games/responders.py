"""Policies whose responses can all be listed, and batches of them for the project's objectives.

Several policies, one for each prompt (or game, or seed), are kept in one module: what is learned of one does not touch
the others, and a step costs little more than that of one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from trueup.functional.params import combine
from trueup.types import PolicyBatch

TokenLogprobs = Float64[Tensor, "prompts k length"]
"""Log-probability of each token of each response to each prompt, nats; all responses are equally long."""


class Table(nn.Module):
    """One logit for each response, of one token.

    Args:
        logprob: Log-probabilities that it begins with.
    """

    def __init__(self, logprob: Float64[Tensor, "prompts k"]) -> None:
        super().__init__()
        self.logits = nn.Parameter(logprob.clone())

    def forward(self) -> TokenLogprobs:
        """Log-probabilities of all responses."""
        return self.logits.log_softmax(-1)[:, :, None]


class Tree(nn.Module):
    """Responses of two tokens: one logit for each first token, and for each second after each first.

    Args:
        prompts: Number of prompts.
        first: Number of first tokens.
        second: Number of second tokens.
    """

    def __init__(self, *, prompts: int, first: int, second: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(prompts, first, dtype=torch.float64))
        self.second = nn.Parameter(torch.zeros(prompts, first, second, dtype=torch.float64))

    def forward(self) -> TokenLogprobs:
        """Log-probabilities of all responses, those of one first token after one another."""
        first = self.first.log_softmax(-1)[:, :, None].expand_as(self.second)
        return torch.stack([first.flatten(1), self.second.log_softmax(-1).flatten(1)], 2)


class Speller(nn.Module):
    """Small networks that say what comes next after each beginning of a response.

    Responses are all sequences of `length` letters, in alphabetical order; one hidden layer reads the letters so far.

    Args:
        letters: Size of the alphabet.
        length: Letters of a response.
        width: Units of the hidden layer.
        seeds: Of the weights, one a prompt.
    """

    def __init__(self, *, letters: int, length: int, width: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.letters, self.length = letters, length
        inputs = (length - 1) * letters + length
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.first = _weights(inputs, width, generators)
        self.second = _weights(width, letters, generators)
        self.bias = nn.Parameter(torch.zeros(len(seeds), 1, width, dtype=torch.float64))
        seen = [_read(spellings(letters, k), letters=letters, length=length) for k in range(length)]
        self.seen = torch.cat(seen)

    def forward(self) -> TokenLogprobs:
        """Log-probabilities of all responses."""
        hidden = torch.tanh(self.seen @ self.first + self.bias)
        following = (hidden @ self.second).log_softmax(-1)
        count = self.letters**self.length
        levels = torch.split(following, [self.letters**k for k in range(self.length)], dim=1)
        return torch.stack(
            [level.flatten(1).repeat_interleave(count // level[0].numel(), dim=1) for level in levels], 2
        )


def _weights(inputs: int, outputs: int, generators: Sequence[torch.Generator]) -> nn.Parameter:
    drawn = [torch.randn(inputs, outputs, generator=one, dtype=torch.float64) for one in generators]
    return nn.Parameter(torch.stack(drawn) / inputs**0.5)


def spellings(letters: int, length: int) -> Int[Tensor, "k length"]:
    """All sequences of so many letters, in alphabetical order.

    >>> spellings(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    places = torch.tensor([letters ** (length - 1 - place) for place in range(length)], dtype=torch.long)
    return torch.arange(letters**length)[:, None] // places % letters


def _read(beginning: Int[Tensor, "k n"], *, letters: int, length: int) -> Float64[Tensor, "k inputs"]:
    """What the network sees of a beginning: its letters and how many they are."""
    count, known = beginning.shape
    spelled = torch.zeros(count, length - 1, letters, dtype=torch.float64)
    spelled[:, :known] = nn.functional.one_hot(beginning, letters).double()
    place = torch.zeros(count, length, dtype=torch.float64)
    place[:, known] = 1.0
    return torch.cat([spelled.flatten(1), place], 1)


def batch_of(
    tokens: Float64[Tensor, "branches length"],
    *,
    prompt: Int[Tensor, " branches"],
    pairs: Int[Tensor, "pairs 2"] | None = None,
    reference: Float64[Tensor, "branches length"] | None = None,
    previous: Float64[Tensor, "branches length"] | None = None,
    reward: Float64[Tensor, " branches"] | None = None,
    advantage: Float64[Tensor, " branches"] | None = None,
) -> PolicyBatch:
    """Responses as objectives see them.

    Args:
        tokens: The policy's log-probabilities.
        prompt: Prompt of each response.
        pairs: (chosen, rejected) as numbers of responses.
        reference: Log-probabilities of the same tokens under the reference.
        previous: The same under the policy of the round before.
        reward: Of each response.
        advantage: Of each response; all its tokens get it.
    """
    count, length = tokens.shape
    branch = torch.arange(count).repeat_interleave(length)
    return PolicyBatch(
        logprob=tokens.flatten(),
        branch=branch,
        prompt=prompt,
        reference=None if reference is None else reference.flatten(),
        pairs=pairs,
        previous=None if previous is None else previous.flatten(),
        reward=reward,
        advantage=None if advantage is None else advantage[branch],
    )


def now(policy: nn.Module) -> TokenLogprobs:
    """Log-probabilities as they are, without a gradient."""
    with torch.no_grad():
        tokens: TokenLogprobs = policy()
    return tokens


def whole(tokens: TokenLogprobs) -> Float64[Tensor, "prompts k"]:
    """Log-probability of each whole response."""
    return tokens.sum(2)


def soup(policies: Sequence[nn.Module], shares: Sequence[float], *, into: nn.Module) -> nn.Module:
    """Put the mean of several policies' weights into another of the same kind.

    Args:
        policies: Policies.
        shares: What each counts for; together 1.
        into: What is changed and returned.
    """
    states = [one.state_dict() for one in policies]
    into.load_state_dict({name: combine([state[name] for state in states], shares) for name in states[0]})
    return into
