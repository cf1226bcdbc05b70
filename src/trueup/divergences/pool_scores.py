"""What functions of a pool demand of it: finite scores, prompts by samples, and an n that it can answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from trueup.errors import DataError, RecipeError

Array = np.ndarray

Ns = int | np.integer[Any] | Sequence[int] | Num[Array, " ns"]
"""Sizes of best-of-n."""


def checked_scores(
    scores: Num[Array, "prompts samples"], name: str, *, shape: tuple[int, int] | None = None
) -> Float[Array, "prompts samples"]:
    """The scores as floating-point numbers.

    Args:
        scores: One row for each prompt, one column for each sample.
        name: Whose scores they are, for the error message.
        shape: Shape that another reward's scores have, or None.

    Raises:
        DataError: Not two-dimensional, empty, not numbers, not finite, or of another shape than `shape`.
    """
    array = _as_numbers(scores, name)
    if array.ndim != 2:
        raise DataError(f"scores have shape {array.shape}", field=name, expected="two dimensions, prompts by samples")
    if not array.size:
        what = "prompts" if not len(array) else "samples"
        raise DataError(f"the pool has no {what}", field=name, expected="at least one prompt with one sample")
    if shape is not None and array.shape != shape:
        found = f"{array.shape[0]} prompts by {array.shape[1]} samples"
        raise DataError(found, field=name, expected=f"{shape[0]} by {shape[1]}, as the rewards of one pool have")
    _check_finite(array, name)
    return array


def _as_numbers(scores: Num[Array, "prompts samples"], name: str) -> Array:
    try:
        array = np.asarray(scores)
    except ValueError as error:
        cure = "cut every prompt's samples to the smallest number"
        raise DataError("prompts have different numbers of samples", field=name, cure=cure) from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"scores of type {array.dtype}", field=name, expected="numbers")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _check_finite(array: Float[Array, "prompts samples"], name: str) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    prompt, sample = np.argwhere(~finite)[0]
    count = array.size - np.count_nonzero(finite)
    raise DataError(
        f"{count} of {array.size} scores are missing or not finite, "
        f"the first ({array[prompt, sample]}) at prompt {prompt}, sample {sample}, counted from 0",
        field=name,
        cure="score these responses again, or leave their prompts out of the pool",
    )


def checked_n(n: Ns, *, samples: int) -> Int[Array, " ns"]:
    """The sizes as integers.

    Raises:
        RecipeError: None at all, not whole, below 1, or larger than the number of samples of each prompt.
    """
    sizes = np.atleast_1d(np.asarray(n))
    if sizes.ndim != 1 or not sizes.size:
        raise RecipeError(f"n must be one whole number or a list of them, got shape {sizes.shape}")
    if sizes.dtype.kind not in "iuf" or not np.all(sizes == np.floor(sizes)):
        raise RecipeError(f"n must be whole numbers, got {sizes.tolist()}")
    if sizes.min() < 1:
        raise RecipeError(f"n must be at least 1, got {sizes.min()}")
    if sizes.max() > samples:
        raise RecipeError(
            f"best-of-{int(sizes.max())} needs as many samples of each prompt, the pool has {samples}; "
            f"draw more, or ask for n up to {samples}"
        )
    return sizes.astype(np.int64)


def tied_groups(ascending: Float[Array, "prompts samples"]) -> tuple[Int[Array, " groups"], Int[Array, " groups"]]:
    """Flat positions [start, end) of every group of two or more equal scores of one prompt."""
    same = np.zeros(ascending.shape, bool)
    np.equal(ascending[:, 1:], ascending[:, :-1], out=same[:, :-1])
    pairs = np.flatnonzero(same)
    first = np.diff(pairs, prepend=-2) != 1
    last = np.diff(pairs, append=-2) != 1
    return pairs[first], pairs[last] + 2
