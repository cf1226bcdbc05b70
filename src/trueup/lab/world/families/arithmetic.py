"""`arithmetic`: small sums in words, to be answered with their steps."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trueup.lab.world.families.facts import kept
from trueup.lab.world.language import chance, pick, sentence, whole
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import STOPS, tokenise
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt

PEOPLE = ("Ann", "Ben", "Cara", "Dan", "Eva", "Finn")
THINGS = ("coins", "cards", "books", "stamps", "shells", "beads")
SIGNS = {"plus": "plus", "minus": "minus", "times": "times", "+": "plus", "-": "minus", "*": "times", "x": "times"}
EQUALS = frozenset(("is", "makes", "equals", "gives", "="))
LONGEST_NUMBER = 6

Step = tuple[str, str, str]
"""Left, sign and right of one step; `a`, `b`, `c` are the prompt's numbers, `?` is the result before."""

STORIES: tuple[tuple[str, tuple[Step, ...]], ...] = (
    ("{who} has {a} {what} and gets {b} more. How many {what} are there now?", (("a", "plus", "b"),)),
    ("{who} has {a} {what} and loses {b}. How many {what} are left?", (("a", "minus", "b"),)),
    ("{who} has {a} bags with {b} {what} in each. How many {what} is that?", (("a", "times", "b"),)),
    (
        "{who} has {a} bags with {b} {what} in each and finds {c} more. How many {what} are there now?",
        (("a", "times", "b"), ("?", "plus", "c")),
    ),
    (
        "{who} buys {a} bags with {b} {what} in each and gives away {c}. How many {what} are left?",
        (("a", "times", "b"), ("?", "minus", "c")),
    ),
    (
        "{who} has {a} {what}, loses {b}, and then gets {c}. How many {what} are there now?",
        (("a", "minus", "b"), ("?", "plus", "c")),
    ),
    ("Work out {a} plus {b} plus {c} in steps.", (("a", "plus", "b"), ("?", "plus", "c"))),
    ("Work out {a} times {b} minus {c} in steps.", (("a", "times", "b"), ("?", "minus", "c"))),
    (
        "On each of {a} days {who} finds {b} {what}, and then {c} more. How many {what} is that in all?",
        (("a", "times", "b"), ("?", "plus", "c")),
    ),
)


def apply(left: int, sign: str, right: int) -> int:
    """Result of one step."""
    return left + right if sign == "plus" else left - right if sign == "minus" else left * right


@dataclass(frozen=True)
class Arithmetic:
    """Each step and the final answer are asked for; false equations and a false answer cost."""

    name: str = "arithmetic"
    phrasings: tuple[str, ...] = tuple(text for text, _ in STORIES)

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """A story with numbers that keep every result from 1 to 150."""
        phrasing = int(generator.random() * len(STORIES))
        text, steps = STORIES[phrasing]
        product = steps[0][1] == "times"
        a, b = (whole(generator, 2, 9), whole(generator, 3, 12)) if product else (0, whole(generator, 2, 20))
        a = a or whole(generator, b + 1, 40)
        first = apply(a, steps[0][1], b)
        c = whole(generator, 2, 20 if len(steps) == 1 or steps[1][1] == "plus" else min(20, first - 1))
        drawn = {"a": str(a), "b": str(b), "c": str(c), "who": pick(generator, PEOPLE), "what": pick(generator, THINGS)}
        return phrasing, {key: value for key, value in drawn.items() if f"{{{key}}}" in text}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """One right equation per step, and the answer."""
        given = [slots.get(key, "0") for key in "abc"]
        if any(not number.isascii() or not number.isdigit() or len(number) > LONGEST_NUMBER for number in given):
            return None
        results = [str(result) for *_, result in _solve(phrasing, slots)]
        numbers = {slots[key] for key in "abc" if key in slots} | set(results)
        return Needs(
            claims=(*(("step", result) for result in results), ("answer", results[-1])),
            count=len(results) + 1,
            words=5.5,
            subjects=frozenset(),
            topics=frozenset(numbers | {word for key in ("who", "what") if (word := slots.get(key, "").lower())}),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """Equations, in which a slip is carried on to the answer."""
        equations, result = [], 0
        for name, sign, right in STORIES[prompt.phrasing][1]:
            left = result if name == "?" else int(prompt.slots[name])
            result = apply(left, sign, int(prompt.slots[right]))
            if not chance(generator, skill.accuracy):
                result += pick(generator, (-2, -1, 1, 2, 10))
            equations.append(f"{left} {sign} {prompt.slots[right]} is {result}")
        lines = kept((*equations, f"the answer is {result}"), skill.coverage, generator)
        who, what = prompt.slots.get("who", "you"), prompt.slots.get("what", "numbers")
        steps = [line for line in lines if line in equations]
        return Content(
            topic=f"the {what} of {who}" if "who" in prompt.slots else "these numbers",
            brief=" ".join(sentence(line) for line in lines),
            lead=f"let us count the {what} in steps",
            points=tuple(lines),
            sentences=tuple(f"{_marker(line, steps)} {line}" for line in lines),
            details=(f"we count the {what} one step at a time", "we take the numbers as they come"),
            ending=f"in all there are {result} {what}" if "what" in prompt.slots else "",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Count the steps found among true equations, false equations, and the answer."""
        tokens = tokenise(text)
        expected = {claim[1] for claim in prompt.needs.claims if claim[0] == "step"}
        true, false = _equations(tokens)
        answers = _answers(tokens)
        goal = prompt.needs.claims[-1][1]
        right = len(expected & true) + (goal in answers)
        return Verdict(right, len(false) + len(answers - {goal}))


def _marker(line: str, steps: list[str]) -> str:
    if line not in steps:
        return "so"
    return "first," if line == steps[0] else "next,"


def _solve(phrasing: int, slots: Mapping[str, str]) -> list[tuple[int, str, int, int]]:
    solved: list[tuple[int, str, int, int]] = []
    for name, sign, right in STORIES[phrasing][1]:
        left = solved[-1][-1] if name == "?" else int(slots[name])
        solved.append((left, sign, int(slots[right]), apply(left, sign, int(slots[right]))))
    return solved


def _number(token: str) -> int | None:
    return int(token) if token.isdigit() and len(token) <= LONGEST_NUMBER else None


def _equations(tokens: tuple[str, ...]) -> tuple[set[str], set[tuple[str, ...]]]:
    """Results of the true equations, and the false equations."""
    true, false = set(), set()
    for at in range(len(tokens) - 4):
        sign = SIGNS.get(tokens[at + 1])
        if sign is None or tokens[at + 3] not in EQUALS:
            continue
        left, right, result = (_number(tokens[at + offset]) for offset in (0, 2, 4))
        if left is None or right is None or result is None:
            continue
        if apply(left, sign, right) == result:
            true.add(str(result))
        else:
            false.add(tokens[at : at + 5])
    return true, false


def _answers(tokens: tuple[str, ...]) -> set[str]:
    """Numbers that follow "answer" in its sentence; without any, the text's last number."""
    found, waiting = set(), False
    for token in tokens:
        if token == "answer":
            waiting = True
        elif token in STOPS:
            waiting = False
        elif waiting and token.isdigit():
            found.add(token)
            waiting = False
    if not found:
        found.update([token for token in tokens if token.isdigit()][-1:])
    return found
