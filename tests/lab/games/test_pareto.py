"""Fronts of two rewards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trueup.lab.games.pareto import along, hypervolume


@given(arrays(float, (6, 2), elements=st.integers(-3, 9).map(float)))
@settings(deadline=None, max_examples=60)
def test_area_against_counting_cells(points):
    """On whole numbers the area is the number of unit cells that lie below a point."""
    cells = [(x, y) for x in range(9) for y in range(9)]
    counted = sum(any(px >= x + 1 and py >= y + 1 for px, py in points) for x, y in cells)
    assert hypervolume(points, np.zeros(2)) == pytest.approx(counted)
    assert hypervolume(points[::-1], np.zeros(2)) == hypervolume(points, np.zeros(2))


def test_area_by_hand():
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 2.0], [4.0, 0.5]]), np.zeros(2)) == pytest.approx(6.0)
    assert hypervolume(np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([1.0, 1.0])) == pytest.approx(1.0)
    assert hypervolume(np.array([[-1.0, 3.0]]), np.zeros(2)) == 0.0


def test_reading_a_path_where_it_first_gets_so_far():
    path = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, -1.0], [1.0, 9.0, 9.0], [4.0, 3.0, 1.0]])
    assert along(path, 0.0).tolist() == [0.0, 0.0]
    assert along(path, 1.0).tolist() == pytest.approx([0.5, -0.5])
    assert along(path, 2.0).tolist() == [1.0, -1.0]
    assert along(path, 4.0).tolist() == [3.0, 1.0]
    assert np.isnan(along(path, 4.1)).all()
