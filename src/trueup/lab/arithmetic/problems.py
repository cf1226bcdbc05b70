"""Sums and differences of small numbers, workings of them, and what counts as right."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trueup.data.rows import Origin, Response, Row
from trueup.errors import DataError

ALPHABET = "0123456789+-=,"
"""Every character that problems and workings are written with."""

_ASKED = re.compile(r"(\d+)([+-])(\d+)=")
_FINAL = re.compile(r"(?:^|[=,])(\d+)$")
_MISTAKES = (-1, 1)
_NUMBERS = range(10, 100)


Sign = Literal["+", "-"]


@dataclass(frozen=True)
class Problem:
    """One sum or difference.

    >>> Problem(47, "+", 38).text, Problem(47, "+", 38).answer
    ('47+38=', 85)
    """

    left: int
    sign: Sign
    right: int

    @property
    def text(self) -> str:
        """What a policy is asked."""
        return f"{self.left}{self.sign}{self.right}="

    @property
    def answer(self) -> int:
        """The result."""
        return self.left + self.right if self.sign == "+" else self.left - self.right


def read_problem(text: str) -> Problem:
    """The problem that a prompt asks.

    Raises:
        DataError: It asks none.
    """
    found = _ASKED.fullmatch(text)
    if not found:
        raise DataError(f"{text!r} is no problem", expected="two numbers, such as 47+38=")
    return Problem(int(found[1]), "+" if found[2] == "+" else "-", int(found[3]))


def is_correct(prompt: str, response: str) -> bool:
    """Whether the number that a response ends with is the result; its working is not looked at.

    >>> is_correct("47+38=", "7+8=15,4+3=7,85"), is_correct("47+38=", "85,"), is_correct("47+38=", "7+8=15,4+3=7,86")
    (True, False, False)
    """
    final = _FINAL.search(response)
    return final is not None and int(final[1]) == read_problem(prompt).answer


def every_problem() -> list[Problem]:
    """All problems of two numbers with two digits each whose result is not negative."""
    signs: tuple[Sign, ...] = ("+", "-")
    return [
        Problem(left, sign, right)
        for sign in signs
        for left in _NUMBERS
        for right in _NUMBERS
        if sign == "+" or right <= left
    ]


def draw_problems(count: int, *, seed: int, exclude: Collection[Problem] = frozenset()) -> list[Problem]:
    """Different problems, uniformly.

    Raises:
        DataError: There are not so many.
    """
    left = [one for one in every_problem() if one not in exclude]
    if count > len(left):
        raise DataError(f"{count} problems are asked for", expected=f"at most {len(left)}, which is all that are left")
    return [left[number] for number in np.random.default_rng(seed).permutation(len(left))[:count]]


WAYS = ("direct", "units first", "tens first", "whole tens")
"""Ways to work a problem: the answer alone, or from its digits, in either order or with the tens written out."""


def work(problem: Problem, way: str, *, slip: float, generator: np.random.Generator) -> str:
    """A working; a number that was got wrong is worked on with.

    >>> [work(Problem(47, "+", 38), way, slip=0.0, generator=np.random.default_rng(0)) for way in WAYS]
    ['85', '7+8=15,4+3=7,85', '4+3=7,7+8=15,85', '40+30=70,7+8=15,85']

    Args:
        problem: What is asked.
        way: One of `WAYS`.
        slip: Probability that a number is wrong, by one; only in its last digit, or in its tens.
        generator: Where chance comes from.
    """

    def mistake() -> int:
        return int(generator.choice(_MISTAKES)) if generator.random() < slip else 0

    if way == "direct":
        return str(max(problem.answer + mistake(), 0))
    (left_tens, left), (right_tens, right) = divmod(problem.left, 10), divmod(problem.right, 10)
    forward, sign = 1 if problem.sign == "+" else -1, problem.sign
    units = left + forward * right + mistake()
    tens = left_tens + forward * right_tens + mistake()
    by_units = f"{left}{sign}{right}={units}"
    by_tens = f"{left_tens}{sign}{right_tens}={tens}"
    if way == "whole tens":
        by_tens = f"{left_tens}0{sign}{right_tens}0={10 * tens}"
    steps = (by_units, by_tens) if way == "units first" else (by_tens, by_units)
    return ",".join((*steps, str(max(10 * tens + units + mistake(), 0))))


def demonstrations(problems: Sequence[Problem], *, responses: int, slip: float, seed: int) -> list[Row]:
    """Workings of problems, each way as often as any other.

    Args:
        problems: What is asked.
        responses: Workings of each.
        slip: Probability of a mistake in each number that is worked out.
        seed: Of ways and mistakes.
    """
    generator = np.random.default_rng(seed)
    rows = []
    for number, problem in enumerate(problems):
        taken = [WAYS[place] for place in generator.integers(len(WAYS), size=responses)]
        workings = [Response(text=work(problem, way, slip=slip, generator=generator), source=way) for way in taken]
        origin = Origin("arithmetic", number + 1)
        rows.append(Row(prompt=problem.text, responses=tuple(workings), id=problem.text, origin=origin))
    return rows
