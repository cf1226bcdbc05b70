import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trueup.measure.ranks import ranks_within, spearman_within, weighted_spearman

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)), min_size=2, max_size=40
)


@given(ROWS)
@settings(deadline=None)
def test_ranks_within_groups_equal_scipys(rows):
    group, values = np.array(rows)[:, 0], np.array(rows)[:, 1].astype(float)
    ours = ranks_within(values, group)
    for label in np.unique(group):
        assert ours[group == label].tolist() == stats.rankdata(values[group == label]).tolist()


@given(ROWS)
@settings(deadline=None)
def test_spearman_within_groups_equals_scipys(rows):
    group, a, b = np.array(rows)[:, 0], *np.array(rows)[:, 1:3].T.astype(float)
    ours = spearman_within(a, b, group)
    for label in np.unique(group):
        x, y = a[group == label], b[group == label]
        if len(set(x)) < 2 or len(set(y)) < 2:
            assert np.isnan(ours[label])
        else:
            assert ours[label] == pytest.approx(stats.spearmanr(x, y).statistic)


@given(ROWS)
@settings(deadline=None)
def test_weighted_spearman_equals_scipys_on_the_repeated_sample(rows):
    a, b, weight = np.array(rows)[:, 1:].T.astype(float)
    ours = weighted_spearman(a, b, weight[None])[0]
    x, y = (np.repeat(values, weight.astype(int)) for values in (a, b))
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic)


def test_empty_input_gives_empty_output():
    assert len(ranks_within(np.zeros(0), np.zeros(0, int))) == 0
    assert len(spearman_within(np.zeros(0), np.zeros(0), np.zeros(0, int))) == 0
