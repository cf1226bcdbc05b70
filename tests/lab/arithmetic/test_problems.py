"""Problems, workings and what counts as right."""

import re

import numpy as np
import pytest

from trueup.errors import DataError
from trueup.lab.arithmetic.problems import (
    ALPHABET,
    WAYS,
    Problem,
    demonstrations,
    draw_problems,
    every_problem,
    is_correct,
    read_problem,
    work,
)


def fair() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_problem_is_asked_once_and_has_an_answer_python_gives():
    problems = every_problem()
    assert len(problems) == 90 * 90 + 90 * 91 // 2
    assert len(set(problems)) == len(problems)
    for problem in problems[::97]:
        assert problem.answer == eval(problem.text.removesuffix("=")) >= 0
        assert read_problem(problem.text) == problem


@pytest.mark.parametrize("way", WAYS)
def test_a_working_without_mistakes_is_right_in_every_step(way):
    for problem in every_problem()[::53]:
        text = work(problem, way, slip=0.0, generator=fair())
        assert is_correct(problem.text, text)
        assert set(text) <= set(ALPHABET)
        for step in text.split(",")[:-1]:
            said, result = step.split("=")
            one, sign, other = re.fullmatch(r"(\d+)([+-])(\d+)", said).groups()
            assert int(result) == (int(one) + int(other) if sign == "+" else int(one) - int(other))


def test_a_borrow_is_worked_out():
    worked = work(Problem(62, "-", 38), "units first", slip=0.0, generator=fair())
    assert worked == "2-8=-6,6-3=3,24"


def test_mistakes_are_as_frequent_as_asked_and_worked_on_with():
    """Of the answer alone a share `slip` is wrong; of three numbers, all but (1 - slip)^3, less what cancels."""
    problem, generator, count = Problem(47, "+", 38), np.random.default_rng(1), 4000
    wrong = np.mean(
        [not is_correct(problem.text, work(problem, "direct", slip=0.3, generator=generator)) for _ in range(count)]
    )
    assert wrong == pytest.approx(0.3, abs=0.03)
    worked = [work(problem, "tens first", slip=0.3, generator=generator) for _ in range(count)]
    clean = np.mean([text == "4+3=7,7+8=15,85" for text in worked])
    assert clean == pytest.approx(0.7**3, abs=0.03)
    # tens off by one and nothing else: the result is off by ten.
    assert "4+3=8,7+8=15,95" in worked


def test_a_result_below_zero_is_written_as_none():
    texts = {work(Problem(10, "-", 10), way, slip=1.0, generator=np.random.default_rng(k))
             for way in WAYS for k in range(20)}  # fmt: skip
    assert all(int(text.split(",")[-1]) >= 0 for text in texts)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("85", True), ("085", True), ("4+3=8,85", True), ("=85", True), ("85,", False), ("86", False), ("", False),
        ("-85", False), ("85=", False), ("8 5", False), ("4+81", False),
    ],
)  # fmt: skip
def test_only_the_number_at_the_end_counts(response, right):
    assert is_correct("47+38=", response) is right


@pytest.mark.parametrize("text", ["47+38", "47*38=", "x", "", "47+38=85"])
def test_what_is_no_problem_is_said(text):
    with pytest.raises(DataError, match="is no problem"):
        read_problem(text)


def test_problems_drawn_are_others_than_those_left_out():
    first = draw_problems(500, seed=3)
    assert first == draw_problems(500, seed=3) != draw_problems(500, seed=4)
    assert len(set(first)) == 500
    assert not set(draw_problems(len(every_problem()) - 500, seed=5, exclude=frozenset(first))) & set(first)
    with pytest.raises(DataError, match="at most"):
        draw_problems(len(every_problem()) + 1, seed=0)


def test_demonstrations_take_each_way_alike():
    rows = demonstrations(draw_problems(300, seed=0), responses=4, slip=0.1, seed=1)
    ways = [one.source for row in rows for one in row.responses]
    assert len(rows) == 300
    assert {way: ways.count(way) / len(ways) for way in WAYS} == pytest.approx(dict.fromkeys(WAYS, 0.25), abs=0.05)
    assert rows == demonstrations(draw_problems(300, seed=0), responses=4, slip=0.1, seed=1)
    assert rows != demonstrations(draw_problems(300, seed=0), responses=4, slip=0.1, seed=2)
