"""Two rewards along a path."""

import numpy as np
import pytest

from trueup.lab.games.pareto import along


def test_reading_a_path_where_it_first_gets_so_far():
    path = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, -1.0], [1.0, 9.0, 9.0], [4.0, 3.0, 1.0]])
    assert along(path, 0.0).tolist() == [0.0, 0.0]
    assert along(path, 1.0).tolist() == pytest.approx([0.5, -0.5])
    assert along(path, 2.0).tolist() == [1.0, -1.0]
    assert along(path, 4.0).tolist() == [3.0, 1.0]
    assert np.isnan(along(path, 4.1)).all()
