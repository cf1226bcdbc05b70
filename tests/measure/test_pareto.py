"""Fronts against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trueup.errors import RecipeError
from trueup.measure.pareto import dominates, hypervolume

CELLS = st.integers(2, 4).flatmap(
    lambda k: st.integers(0, 6).flatmap(lambda n: arrays(np.int64, (n, k), elements=st.integers(-2, 5)))
)


@given(points=CELLS)
@settings(deadline=None)
def test_hypervolume_counts_the_cells_that_a_point_covers(points):
    """On whole numbers the volume is the number of unit cells below some point."""
    cells = itertools.product(range(5), repeat=points.shape[1])
    covered = sum(any((point > cell).all() for point in points) for cell in map(np.array, cells))
    assert hypervolume(points.astype(float), np.zeros(points.shape[1])) == pytest.approx(covered)


@given(points=CELLS, shift=st.floats(-3, 3), scale=st.floats(0.1, 5))
@settings(deadline=None)
def test_it_moves_with_its_reference_and_scales_with_each_unit(points, shift, scale):
    zero, values = np.zeros(points.shape[1]), points.astype(float)
    volume = hypervolume(values, zero)
    assert hypervolume(values + shift, zero + shift) == pytest.approx(volume, abs=1e-6)
    units = np.append(np.ones(points.shape[1] - 1), scale)
    assert hypervolume(values * units, zero) == pytest.approx(scale * volume)


def test_by_monte_carlo():
    generator = np.random.default_rng(0)
    points = generator.random((7, 3))
    darts = generator.random((200_000, 3))
    share = (points[:, None] > darts[None]).all(-1).any(0).mean()
    assert hypervolume(points, np.zeros(3)) == pytest.approx(share, abs=0.005)


@given(points=CELLS)
@settings(deadline=None)
def test_a_dominated_point_adds_nothing(points):
    values, begin = points.astype(float), np.full(points.shape[1], -3.0)
    beaten = dominates(values).any(axis=0)
    assert hypervolume(values[~beaten], begin) == pytest.approx(hypervolume(values, begin))
    for j, i in itertools.product(range(len(values)), repeat=2):
        said = all(values[j] >= values[i]) and any(values[j] > values[i])
        assert dominates(values)[j, i] == said


def test_one_objective_is_the_best_gain():
    assert hypervolume(np.array([[1.0], [3.0], [-1.0]]), np.array([0.5])) == 2.5


@pytest.mark.parametrize(("points", "reference"), [([[1.0, np.nan]], [0.0, 0.0]), ([[1.0, 2.0]], [0.0, np.inf])])
def test_what_has_no_volume_is_refused(points, reference):
    with pytest.raises(RecipeError, match="finite"):
        hypervolume(np.array(points), np.array(reference))
