"""What a verifier prefers among a policy's own workings."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from trueup.data.rows import Origin, Response, Row

Array = np.ndarray


def verified_pairs(
    prompts: Sequence[str],
    texts: Sequence[Sequence[str]],
    correct: Bool[Array, "prompts samples"],
    *,
    pairs: int,
    seed: int,
) -> list[Row]:
    """Correct workings, each preferred to a wrong one of the same problem.

    No sample is in two pairs; problems that all samples solve, or none does, give no pair.

    Args:
        prompts: The problems.
        texts: Samples to each.
        correct: Which are right.
        pairs: The most that one problem gives.
        seed: Of who meets whom.
    """
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for prompt, group, right in zip(prompts, texts, correct, strict=True):
        better, worse = (generator.permutation(np.flatnonzero(which)) for which in (right, ~right))
        for chosen, rejected in zip(better[:pairs], worse[:pairs], strict=False):
            responses = (Response(text=group[chosen], label=True), Response(text=group[rejected], label=False))
            origin = Origin("own workings", len(rows) + 1)
            rows.append(Row(prompt=prompt, responses=responses, id=f"{prompt}{len(rows)}", origin=origin))
    return rows
