"""Sums of weights against the formulas, worked by hand or in float64 numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trueup.functional.params import (
    average,
    combine,
    ema,
    ema_shares,
    lerp,
    slerp,
    slerp_all,
    slerp_shares,
    soup_shares,
    task_products,
)

FINITE = st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3 or x == 0)
SEEDS = st.integers(0, 10_000)


def draw(count: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def warp_slerp(start: np.ndarray, a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """The formula of the paper as it is printed."""
    first, second = a - start, b - start
    angle = np.arccos(np.sum(first * second) / np.linalg.norm(first) / np.linalg.norm(second))
    factors = np.sin((1 - share) * angle) / np.sin(angle), np.sin(share * angle) / np.sin(angle)
    return start + factors[0] * first + factors[1] * second


@given(seed=SEEDS, share=FINITE)
def test_lerp_is_its_formula_and_exact_at_its_ends(seed: int, share: float) -> None:
    a, b = draw(2, 3, 4, seed=seed)
    assert torch.allclose(lerp(a, b, share), (1 - share) * a + share * b, rtol=1e-12, atol=1e-12)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        narrow_a, narrow_b = a.to(dtype), b.to(dtype)
        assert torch.equal(lerp(narrow_a, narrow_b, 0), narrow_a.float())
        assert torch.equal(lerp(narrow_a, narrow_b, 1), narrow_b.float())
        assert torch.equal(lerp(narrow_a, narrow_a, share), narrow_a.float())


@given(seed=SEEDS, weights=st.lists(st.floats(0, 5), min_size=1, max_size=5).filter(lambda w: sum(w) > 0.01))
def test_averages_are_numpys(seed: int, weights: list[float]) -> None:
    tensors = draw(len(weights), 7, seed=seed)
    expected = np.average([tensor.numpy() for tensor in tensors], axis=0, weights=weights)
    assert average(tensors, weights).numpy() == pytest.approx(expected, abs=1e-12)
    assert average(tensors).numpy() == pytest.approx(np.mean([t.numpy() for t in tensors], axis=0), abs=1e-12)
    for i, tensor in enumerate(tensors):
        assert torch.equal(average(tensors, [float(i == j) for j in range(len(tensors))]), tensor)


def test_half_precision_is_summed_in_float32() -> None:
    tensors = [torch.full((5,), value, dtype=torch.bfloat16) for value in (256.0, 1.0, 1.0)]
    assert average(tensors).dtype == torch.float32
    assert average(tensors).tolist() == pytest.approx([86.0] * 5)
    assert average(tensors).bfloat16()[0] != sum(tensors)[0] / 3  # 256 + 1 is 256 in bfloat16
    assert average([tensors[0], tensors[1].double()]).dtype == torch.float64


def test_inputs_are_left_alone() -> None:
    a, b = draw(2, 4)
    before = a.clone(), b.clone()
    result = lerp(a, b, 0.2)
    result.zero_()
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def test_a_share_of_zero_is_not_looked_at() -> None:
    broken = torch.tensor([math.inf, math.nan])
    assert lerp(torch.ones(2), broken, 0).tolist() == [1, 1]


@given(seed=SEEDS, decay=st.floats(0, 1), steps=st.integers(0, 30))
def test_moving_average_of_a_constant(seed: int, decay: float, steps: int) -> None:
    start, constant = draw(2, 5, seed=seed)
    moving = start
    for _ in range(steps):
        moving = ema(moving, constant, decay=decay)
    expected = decay**steps * (start - constant)
    assert torch.allclose(moving - constant, expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(ema(start, constant, decay=0), constant)
    assert torch.equal(ema(start, constant, decay=1), start)


@given(seed=SEEDS, decay=st.floats(0, 1), count=st.integers(1, 6))
def test_shares_of_a_moving_average_are_its_steps(seed: int, decay: float, count: int) -> None:
    tensors = draw(count, 5, seed=seed)
    moving = tensors[0]
    for tensor in tensors[1:]:
        moving = ema(moving, tensor, decay=decay)
    assert torch.allclose(combine(tensors, ema_shares(count, decay=decay)), moving, rtol=1e-10, atol=1e-12)


@given(seed=SEEDS, share=st.floats(0, 1))
def test_slerp_is_the_papers_formula(seed: int, share: float) -> None:
    start, a, b = draw(3, 4, 5, seed=seed)
    expected = warp_slerp(start.numpy(), a.numpy(), b.numpy(), share)
    assert slerp(start, a, b, share).numpy() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(slerp(start, a, b, 0), a)
    assert torch.equal(slerp(start, a, b, 1), b)


@given(angle=st.floats(1e-9, math.pi - 0.05), share=st.floats(0, 1), norm=st.floats(0.01, 100))
def test_slerp_keeps_the_norm_of_task_vectors(angle: float, share: float, norm: float) -> None:
    start = torch.tensor([0.3, -0.2], dtype=torch.float64)
    a = start + norm * torch.tensor([1.0, 0.0], dtype=torch.float64)
    b = start + norm * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    merged = slerp(start, a, b, share) - start
    assert float(merged.norm()) == pytest.approx(norm, rel=1e-12, abs=1e-13)
    straight = float((lerp(a, b, share) - start).norm())
    shrunk = math.sqrt(max(0, 1 - 2 * (1 - math.cos(angle)) * (share - share**2)))
    assert straight == pytest.approx(norm * shrunk, rel=1e-9, abs=1e-12)


def test_orthogonal_task_vectors() -> None:
    start, a, b = (torch.tensor(x, dtype=torch.float64) for x in ([1.0, 1, 1], [3.0, 1, 1], [1.0, 3, 1]))
    root = math.sqrt(2)
    assert slerp(start, a, b, 0.5).tolist() == pytest.approx([1 + root, 1 + root, 1], abs=1e-15)


@pytest.mark.parametrize(
    ("a", "b"),
    [([2.0, 1], [2.0, 1]), ([1.0, 1], [2.0, 5]), ([2.0, 5], [1.0, 1]), ([1.0, 1], [1.0, 1]), ([2.0, 3], [0.0, -1])],
    ids=["same", "first is the start", "second is the start", "both are the start", "opposite"],
)
def test_without_an_angle_slerp_is_lerp(a: list[float], b: list[float]) -> None:
    start, first, second = (torch.tensor(x, dtype=torch.float64) for x in ([1.0, 1.0], a, b))
    merged = slerp(start, first, second, 0.3)
    assert torch.allclose(merged, lerp(first, second, 0.3), rtol=0, atol=1e-12)


def test_small_angles_join_smoothly() -> None:
    start = torch.zeros(2, dtype=torch.float64)
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for angle in (0.99e-6, 1.01e-6):
        b = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        exact = [math.cos(0.3 * angle), math.sin(0.3 * angle)]
        assert slerp(start, a, b, 0.3).tolist() == pytest.approx(exact, abs=1e-12)


@given(seed=SEEDS)
def test_three_models_take_a_half_and_then_a_third(seed: int) -> None:
    start, a, b, c = draw(4, 6, seed=seed)
    two = warp_slerp(start.numpy(), a.numpy(), b.numpy(), 1 / 2)
    three = warp_slerp(start.numpy(), two, c.numpy(), 1 / 3)
    assert slerp_all(start, [a, b, c]).numpy() == pytest.approx(three, abs=1e-11)
    assert torch.equal(slerp_all(start, [a]), a)


def test_a_layers_products_add_up() -> None:
    start, a, b = draw(3, 10)
    whole = slerp_shares(task_products(start, [a, b]))
    parts = sum(task_products(start[cut], [a[cut], b[cut]]) for cut in (slice(0, 4), slice(4, 10)))
    assert slerp_shares(parts) == pytest.approx(whole, abs=1e-14)
    assert sum(whole) == pytest.approx(1)


@given(seed=SEEDS, share=st.floats(-0.5, 1.5))
def test_on_logits_interpolation_is_the_geometric_mixture(seed: int, share: float) -> None:
    a, b = draw(2, 6, seed=seed)
    mixture = a.softmax(0) ** (1 - share) * b.softmax(0) ** share
    assert torch.allclose(lerp(a, b, share).softmax(0), mixture / mixture.sum(), rtol=1e-10, atol=1e-14)


def test_integers_must_be_equal() -> None:
    positions = torch.arange(4)
    assert torch.equal(lerp(positions, positions.clone(), 0.3), positions)
    with pytest.raises(ValueError, match="integers cannot be averaged"):
        lerp(positions, positions + 1, 0.3)
    with pytest.raises(ValueError, match="integers cannot be averaged"):
        average([torch.tensor([True]), torch.tensor([False])])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(1,\)"):
        lerp(torch.ones(2), torch.ones(1), 0.5)
    with pytest.raises(ValueError, match="add up to one"):
        combine([torch.ones(2), torch.ones(2)], [0.5, 0.6])
    with pytest.raises(ValueError, match="as many shares as tensors"):
        combine([], [])
    with pytest.raises(ValueError, match="do not cancel"):
        soup_shares(2, [1, -1])
    with pytest.raises(ValueError, match="do not cancel"):
        soup_shares(2, [1])
    with pytest.raises(ValueError, match="belongs to two models"):
        slerp_shares(torch.eye(3, dtype=torch.float64), share=0.5)
