"""Rows drawn in proportion to their priorities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from trueup.errors import DataError
from trueup.train.priority import PrioritySampler, priority_rows

PRIORITIES = [0.5, -1.0, 0.0, 2.0, 0.1, 1.4]


def test_frequencies_are_the_shares_of_positive_priorities():
    drawn = np.bincount(priority_rows(PRIORITIES, step=0, count=20_000, seed=1), minlength=6)
    assert drawn[1] == drawn[2] == 0
    positive = [0, 3, 4, 5]
    weights = np.array(PRIORITIES)[positive]
    assert chisquare(drawn[positive], 20_000 * weights / weights.sum()).pvalue > 0.01
    assert chisquare(drawn[positive], 20_000 * weights**2 / (weights**2).sum()).pvalue < 1e-6


def test_draws_over_steps_have_the_same_shares():
    drawn = np.bincount([row for k in range(2000) for row in priority_rows(PRIORITIES, step=k, count=4, seed=0)])
    weights = np.maximum(PRIORITIES, 0)
    kept = weights > 0
    assert chisquare(drawn[kept], 8000 * weights[kept] / weights.sum()).pvalue > 0.01


def test_a_step_is_a_function_of_seed_and_number():
    same = [priority_rows(PRIORITIES, step=7, count=16, seed=3) for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != priority_rows(PRIORITIES, step=8, count=16, seed=3)
    assert same[0] != priority_rows(PRIORITIES, step=7, count=16, seed=4)
    assert all(type(row) is int for row in same[0])


@given(
    priorities=st.lists(st.floats(-1, 1), min_size=1, max_size=30).filter(lambda rows: max(rows) > 0),
    step_rows=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_an_epoch_is_as_long_as_there_are_rows_to_learn_from(priorities, step_rows, seed):
    sampler = PrioritySampler(priorities, step_rows=step_rows, seed=seed)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == sum(one > 0 for one in priorities)
    assert sampler.steps == math.ceil(len(sampler) / step_rows)
    assert all(priorities[row] > 0 for row in drawn)


def test_a_resumed_run_draws_what_the_whole_one_would_have():
    """Steps go on from one epoch to the next, and any of them can be drawn on its own."""
    priorities = [0.1 * (i % 5) for i in range(50)]
    sampler = PrioritySampler(priorities, step_rows=8, seed=2)
    whole = [list(sampler) for _ in range(3)]
    assert whole[0] != whole[1] != whole[2]
    resumed = PrioritySampler(priorities, step_rows=8, seed=2)
    resumed.set_epoch(2)
    assert list(resumed) == whole[2]
    assert sampler.steps == 5
    for epoch in range(3):
        for number in range(5):
            alone = priority_rows(priorities, step=epoch * 5 + number, count=8, seed=2)
            assert alone == whole[epoch][8 * number : 8 * number + 8]


@given(scale=st.sampled_from([1e-300, 1e-5, 1.0, 1e300]))
def test_only_proportions_count(scale):
    priorities = [scale * one for one in (1.0, 0.5, 0.25)]
    assert priority_rows(priorities, step=0, count=9, seed=0) == priority_rows([4, 2, 1], step=0, count=9, seed=0)


@pytest.mark.parametrize("priorities", [[0.0, -0.5], [-1.0], []])
def test_nothing_to_learn_from_is_said(priorities):
    for make in (
        lambda: PrioritySampler(priorities, step_rows=2, seed=0),
        lambda: priority_rows(priorities, step=0, count=2, seed=0),
    ):
        with pytest.raises(DataError, match=f"none of {len(priorities)} rows has a positive advantage or reward"):
            make()


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_priority_must_be_finite(wrong):
    with pytest.raises(DataError, match=f"row 2 has priority {wrong}"):
        PrioritySampler([1.0, wrong], step_rows=2, seed=0)
