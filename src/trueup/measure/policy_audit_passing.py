"""pass@k of a policy at one or several temperatures, and beside the reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling, paired_difference
from trueup.measure.pass_at_k import best_temperature, mean_pass_at_k, pass_at_k
from trueup.measure.policy_audit_records import Drawn
from trueup.measure.scored import Array


def sizes(samples: int) -> list[int]:
    """Powers of two up to the number of samples, and that number.

    >>> sizes(12)
    [1, 2, 4, 8, 12]
    """
    powers = [2**power for power in range(samples.bit_length()) if 2**power <= samples]
    return sorted({*powers, samples})


def passing(drawn: Sequence[Drawn], reference: Sequence[Drawn] = (), *, resampling: Resampling) -> dict[str, Any]:
    """pass@k at each temperature; with several, also at the one that other problems say is best.

    `difference` is the change from the reference at the first temperature, each problem against itself.

    Args:
        drawn: A policy's responses with what a verifier says of them, by temperature.
        reference: The same of the reference.
        resampling: How intervals over problems are made.

    Raises:
        DataError: Nothing was verified.
    """
    tables = [one.correct for one in drawn if one.correct is not None]
    if not tables or len(tables) != len(drawn):
        raise DataError("no verifier says which responses are right")
    samples = drawn[0].samples
    ks = sizes(samples)
    correct = np.stack([table.sum(axis=1) for table in tables])
    temperatures = [one.temperature for one in drawn]
    each = [mean_pass_at_k(counts, samples, ks=ks, resampling=resampling) for counts in correct]
    best = None
    if len(drawn) > 1 and correct.shape[1] >= 4:
        found = best_temperature(correct, samples, temperatures=temperatures, ks=ks, resampling=resampling)
        best = {"rate": found.rate, "chosen": found.chosen}
    return {
        "k": ks,
        "problems": correct.shape[1],
        "temperatures": [{"temperature": t, "rate": one.rate} for t, one in zip(temperatures, each, strict=True)],
        "best": best,
        "difference": _difference(correct[0], reference, ks=ks, samples=samples, resampling=resampling),
    }


def _difference(
    correct: Int[Array, " problems"],
    reference: Sequence[Drawn],
    *,
    ks: Sequence[int],
    samples: int,
    resampling: Resampling,
) -> list[Any] | None:
    if not reference or reference[0].correct is None:
        return None
    ours = pass_at_k(correct, samples, ks)
    theirs = pass_at_k(reference[0].correct.sum(axis=1), reference[0].samples, ks)
    return [paired_difference(theirs[:, i], ours[:, i], resampling=resampling) for i in range(len(ks))]
