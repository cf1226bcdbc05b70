"""How much of each model a merge takes: from settings alone, or from the angles between task vectors."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from trueup.functional.params import slerp_shares, task_products
from trueup.models.weight_files import WeightFiles

SLICE = 2**17
"""Numbers of each model that are in work at once: few enough for a processor's cache."""

Shares = Callable[[Sequence[WeightFiles]], Mapping[str, Sequence[float]]]
"""From the models to the share of each of them, by tensor."""


def same_shares(shares: Sequence[float]) -> Shares:
    """The same shares in all tensors."""
    return lambda sources: dict.fromkeys(sources[0].tensors, tuple(shares))


def spherical(*, share: float | None = None, groups: Literal["layer", "tensor"] = "layer") -> Shares:
    """Shares of a spherical merge of task vectors, each group of tensors with angles of its own; reads all files once.

    **Source** Ramé et al. 2024, "WARP", arXiv 2406.16768, section 3.2. **Deviations** none; the paper does not say how
    it treats what is outside of the layers: embeddings, head and last norm are groups of their own here.

    Args:
        share: Of the second of two models; by default the m-th model gets 1/m, in their order.
        groups: One angle for all tensors of a decoder layer, or for each tensor.

    Returns:
        A function that takes the start first, then the models.
    """
    group = group_of if groups == "layer" else str

    def shares(sources: Sequence[WeightFiles]) -> Mapping[str, Sequence[float]]:
        count = len(sources) - 1
        products: dict[str, Tensor] = {}
        for name, stored in sources[0].tensors.items():
            if stored.dtype.is_floating_point:
                total = products.setdefault(group(name), torch.zeros(count, count, dtype=torch.float64))
                for start, *tasks in slices(sources, name):
                    total += task_products(start, tasks)
        found = {name: slerp_shares(total, share=share) for name, total in products.items()}
        equal = [1.0, *[0.0] * count]
        return {name: found.get(group(name), equal) for name in sources[0].tensors}

    return shares


def group_of(name: str) -> str:
    """The layer that a tensor belongs to, by the first number in its name; else the module."""
    layer = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
    return layer.group() if layer else name.rpartition(".")[0] or name


def slices(sources: Sequence[WeightFiles], name: str) -> Iterator[list[Tensor]]:
    """The same slice of one tensor of all models, one slice after the other; what was read is given back."""
    flats = [source.flat(name) for source in sources]
    numbers = len(flats[0])
    for begin in range(0, numbers, SLICE):
        end = min(begin + SLICE, numbers)
        yield [flat[begin:end] for flat in flats]
        for source in sources:
            source.release(name, begin=begin, end=end)
