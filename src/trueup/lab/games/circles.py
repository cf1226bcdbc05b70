"""Short sequences of three kinds that beat one another in a circle, as rock, paper and scissors do.

A response is a sequence of letters a, b, c, d. Its kind is the letter of a, b, c that it has most of (the first of
equals; a where it has none), its quality the share of d. A response is preferred

    P(y > y') = base(kind, kind') + 0.1 (quality - quality'),    base = 0.9 or 0.1 between kinds, 0.5 within one

where b beats a, c beats b and a beats c: no reward says who wins, and all kinds gain by quality alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from trueup.lab.games.descent import Descent, descend
from trueup.lab.games.matrix import Games
from trueup.lab.games.responders import Speller, batch_of, now, spellings, whole
from trueup.objectives.supervised.sft import NegativeLogLikelihood

LETTERS, KINDS = 4, 3
_BEATS, _QUALITY = 0.9, 0.1


@dataclass(frozen=True, kw_only=True)
class CircleWorld:
    """Sequences and what a policy of them first learns.

    Args:
        length: Letters of a sequence.
        width: Units of the policy's hidden layer.
        demonstrations: Sequences that the reference learns from.
        descent: How it learns.
        tau: Strength of the KL in the game.
    """

    length: int = 4
    width: int = 24
    demonstrations: int = 2_000
    descent: Descent = field(default_factory=lambda: Descent(steps=300, learning_rate=0.03))
    tau: float = 0.1


def kinds_of(sequences: Int[Tensor, "k length"]) -> Int[Tensor, " k"]:
    """Kind of each sequence.

    >>> kinds_of(torch.tensor([[3, 1, 1, 0], [2, 0, 3, 3], [3, 3, 3, 3]])).tolist()
    [1, 2, 0]
    """
    length = sequences.shape[1]
    each = torch.stack([sequences == kind for kind in range(KINDS)], 2)
    first = torch.where(each.any(1), each.long().argmax(1), length)
    return (each.sum(1) * (length + 1) - first).argmax(1)


def preferences(length: int) -> Float64[Tensor, "k k"]:
    """P(row > column) of all sequences, in alphabetical order."""
    sequences = spellings(LETTERS, length)
    kind, quality = kinds_of(sequences), (sequences == LETTERS - 1).double().mean(1)
    ahead = (kind[:, None] - kind) % KINDS
    base = torch.tensor([0.5, _BEATS, 1 - _BEATS], dtype=torch.float64)[ahead]
    # 0.1 - 0.1 is not quite 0
    return (base + _QUALITY * (quality[:, None] - quality)).clamp(0, 1)


def circle_games(world: CircleWorld, seeds: Sequence[int]) -> tuple[Games, Speller]:
    """The game of each seed, and policies that have learned some text and are its reference.

    Letters of a seed's text are drawn independently, each letter as often as the seed says.
    """
    speller = Speller(letters=LETTERS, length=world.length, width=world.width, seeds=seeds)
    texts = np.stack([_text(world, seed) for seed in seeds])
    share = torch.from_numpy(texts / texts.sum(axis=1, keepdims=True))[:, :, None].expand(-1, -1, world.length)
    prompt = torch.arange(len(seeds)).repeat_interleave(texts.shape[1])

    def loss(_: int) -> Tensor:
        batch = batch_of(speller().flatten(0, 1), prompt=prompt)
        return (share.flatten() * NegativeLogLikelihood()(batch, {}).values).sum()

    descend(speller, loss, how=world.descent)
    preferred = preferences(world.length).expand(len(seeds), -1, -1)
    return Games(preferred=preferred, reference=whole(now(speller)), tau=world.tau), speller


def _text(world: CircleWorld, seed: int) -> Float64[np.ndarray, " k"]:
    """How often each sequence stands in a seed's text."""
    generator = np.random.default_rng([seed, 3])
    often = generator.dirichlet(np.full(LETTERS, 4.0))
    drawn = generator.choice(LETTERS, size=(world.demonstrations, world.length), p=often)
    places = LETTERS ** np.arange(world.length - 1, -1, -1)
    return np.bincount(drawn @ places, minlength=LETTERS**world.length).astype(np.float64)


def shares_of_kinds(policy: Float64[Tensor, "games k"], length: int) -> Float64[Tensor, "games kinds"]:
    """Probability of each kind under policies of all sequences."""
    kind = torch.nn.functional.one_hot(kinds_of(spellings(LETTERS, length)), KINDS).double()
    return policy.exp() @ kind
