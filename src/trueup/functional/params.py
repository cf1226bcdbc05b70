"""Arithmetic on weights: every merge is a sum of tensors whose shares add up to one.

Sums run in float32, or in float64 where an input has it, and are returned so: the caller casts back. Integer and
boolean tensors, such as positions, cannot be averaged; they must be equal and are returned as they are.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

_NO_ANGLE = 1e-6
"""Below this sine of the angle, straight and spherical interpolation agree to 1e-12 (or no arc is the shortest)."""


def widest(tensors: Sequence[Tensor]) -> torch.dtype:
    """The type that sums of these tensors are computed in: float64 if one of them has it, else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def combine(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """`sum_i share_i tensor_i`, where the shares add up to one.

    It is computed as `p + sum_i share_i (tensor_i - p)` around the tensor p with the largest share, so that a share of
    one, and tensors that are all equal, give the very tensor back. A tensor whose share is zero is not looked at.

    Raises:
        ValueError: Shapes differ, integers differ, or the shares do not add up to one.
    """
    if len(tensors) != len(shares) or not tensors:
        raise ValueError(f"as many shares as tensors are needed, got {len(tensors)} tensors and {len(shares)} shares")
    if not math.isclose(sum(shares), 1.0, rel_tol=1e-6, abs_tol=1e-6 * max(1.0, *map(abs, shares))):
        raise ValueError(f"shares must add up to one, got {list(shares)}")
    for tensor in tensors[1:]:
        if tensor.shape != tensors[0].shape:
            raise ValueError(f"tensors must have one shape, got {tuple(tensors[0].shape)} and {tuple(tensor.shape)}")
    if not all(tensor.is_floating_point() for tensor in tensors):
        return _same(tensors)
    dtype = widest(tensors)
    largest = max(range(len(shares)), key=lambda i: abs(shares[i]))
    around = tensors[largest].to(dtype)
    total = around.clone()
    for i, (tensor, share) in enumerate(zip(tensors, shares, strict=True)):
        if i != largest and share:
            total.add_(tensor.to(dtype) - around, alpha=share)
    return total


def _same(tensors: Sequence[Tensor]) -> Tensor:
    if not all(torch.equal(tensors[0], tensor) for tensor in tensors[1:]):
        raise ValueError("tensors of integers cannot be averaged, and these differ")
    return tensors[0]


def lerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """`(1 - share) a + share b`; beyond one (or below zero) it extrapolates."""
    return combine([a, b], [1 - share, share])


def average(tensors: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Mean of tensors, `sum_i w_i tensor_i / sum_i w_i`; all weigh the same by default.

    **Source** Wortsman et al. 2022, "Model soups", arXiv 2203.05482 (uniform soup).
    """
    return combine(tensors, soup_shares(len(tensors), weights))


def soup_shares(count: int, weights: Sequence[float] | None = None) -> list[float]:
    """Weights scaled to add up to one.

    Raises:
        ValueError: Their number is wrong, or they cancel or are not finite.
    """
    weights = [1.0] * count if weights is None else list(weights)
    total = math.fsum(weights)
    if len(weights) != count or not math.isfinite(total) or total == 0:
        raise ValueError(f"{count} finite weights that do not cancel are needed, got {weights}")
    return [weight / total for weight in weights]


def ema(average: Tensor, new: Tensor, *, decay: float) -> Tensor:
    """One step of a moving average, `decay average + (1 - decay) new`; WARP's rate is `mu = 1 - decay`."""
    return combine([average, new], [decay, 1 - decay])


def ema_shares(count: int, *, decay: float) -> list[float]:
    """Shares of a sequence in its moving average, which begins at the first.

    `average_1 = theta_1`, then `average_m = decay average_(m-1) + (1 - decay) theta_m`; so theta_1 keeps
    `decay^(count - 1)`.
    """
    return [(1 - decay if i else 1.0) * decay ** (count - 1 - i) for i in range(count)]


def slerp(start: Tensor, a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation of the task vectors `a - start` and `b - start`, all of them as one vector.

    `start + sin((1 - share) O) / sin(O) (a - start) + sin(share O) / sin(O) (b - start)`, with O their angle. Straight
    interpolation where a task vector is zero, or the two point the same way or opposite ways.

    **Source** Ramé et al. 2024, "WARP", arXiv 2406.16768, section 3.2.
    """
    return slerp_all(start, [a, b], share=share)


def slerp_all(start: Tensor, tensors: Sequence[Tensor], *, share: float | None = None) -> Tensor:
    """Spherical merge of any number of tensors around `start`: two at a time, in their order, the m-th with 1/m.

    Args:
        start: Where all of them began.
        tensors: Of one layer, as one vector each.
        share: Of the second of two tensors; 1/2 by default.
    """
    return combine([start, *tensors], slerp_shares(task_products(start, tensors), share=share))


def task_products(start: Tensor, tensors: Sequence[Tensor]) -> Float64[Tensor, "models models"]:
    """Inner products of the task vectors `tensor - start`; those of several tensors of a layer add up."""
    dtype = widest([start, *tensors])
    wide = start.reshape(-1).to(dtype)
    tasks = torch.empty(len(tensors), wide.numel(), dtype=torch.float64, device=wide.device)
    for task, tensor in zip(tasks, tensors, strict=True):
        task.copy_(tensor.reshape(-1).to(dtype) - wide)
    return tasks @ tasks.T


def slerp_shares(products: Float64[Tensor, "models models"], *, share: float | None = None) -> list[float]:
    """Shares of the start and of each model in their spherical merge.

    A merge of the first m - 1 is a combination of their task vectors, so that its angle to the m-th follows from inner
    products alone, and no tensor is needed.

    Args:
        products: Inner products of the task vectors, of a whole layer.
        share: Of the second of two models; by default the m-th model gets 1/m.

    Returns:
        One share for the start, then one for each model; together they are one.
    """
    count = len(products)
    if share is not None and count != 2:
        raise ValueError(f"a share belongs to two models, got {count}")
    merged = torch.zeros(count, dtype=torch.float64)
    merged[0] = 1
    for m in range(1, count):
        along = products @ merged
        squares = float(merged @ along), float(products[m, m])
        first, second = _arc(squares, float(along[m]), 1 / (m + 1) if share is None else share)
        merged = merged * first
        merged[m] = second
    shares = merged.tolist()
    return [1 - math.fsum(shares), *shares]


def _arc(squares: tuple[float, float], product: float, share: float) -> tuple[float, float]:
    """Factors of two vectors, given their squared norms and inner product."""
    norms = math.sqrt(max(squares[0], 0.0) * max(squares[1], 0.0))
    angle = math.acos(max(-1.0, min(1.0, product / norms))) if norms else 0.0
    if math.sin(angle) < _NO_ANGLE:
        return 1 - share, share
    return math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle)
