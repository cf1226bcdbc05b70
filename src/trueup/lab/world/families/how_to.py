"""`how_to`: the steps of a procedure, in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from trueup.lab.world.families.facts import kept
from trueup.lab.world.language import article, chance, listing, pick, sample, sentence
from trueup.lab.world.ontology import Ontology, load_ontology
from trueup.lab.world.phrases import stock_words
from trueup.lab.world.procedures import PROCEDURES, Procedure
from trueup.lab.world.reading import STOPS, tokenise
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt

DISORDER = 0.5
"""Cost of a step that comes before one it should follow, in claims."""
SLOT = "#"
SMALL_WORDS = frozenset(("the", "a", "it", "in", "with", "for", "to", "at", "of", "and", "up", "as", "by", "on", "out"))
ORDER = ("first", "then", "next", "after that", "last")


def fill(pattern: str, name: str) -> str:
    """A task or step about an entity."""
    some = name if load_ontology().entities[name].bare else article(name)
    return pattern.format(x=name, a_x=some)


@cache
def tasks() -> Mapping[str, tuple[Procedure, str]]:
    """Procedure and entity behind every task."""
    return {fill(procedure.task, item): (procedure, item) for procedure in PROCEDURES for item in procedure.items}


@cache
def step_index() -> Mapping[str, tuple[tuple[str, ...], ...]]:
    """Every step of every procedure as words, `#` for the entity, by its first word; longest first."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for procedure in PROCEDURES:
        for step in procedure.steps:
            words = _pattern(step)
            found.setdefault(words[0], set()).add(words)
    return {word: tuple(sorted(group, key=lambda words: (-len(words), words))) for word, group in found.items()}


def _pattern(step: str) -> tuple[str, ...]:
    return tuple(step.format(x=SLOT, a_x=f"a {SLOT}").split())


@dataclass(frozen=True)
class HowTo:
    """Steps are right if they belong to the procedure and name its entity; other steps and disorder cost."""

    name: str = "how_to"
    phrasings: tuple[str, ...] = (
        "How do I {task}?",
        "How can I {task}?",
        "Tell me how to {task}.",
        "What is the best way to {task}?",
        "I want to {task}. What should I do?",
        "Give me the steps to {task}.",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """A procedure, and an entity it can be done with."""
        procedure = pick(generator, PROCEDURES)
        task = fill(procedure.task, pick(generator, procedure.items))
        return int(generator.random() * len(self.phrasings)), {"task": task}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """All steps."""
        if slots["task"] not in tasks():
            return None
        procedure, item = tasks()[slots["task"]]
        words = {word for step in procedure.steps for word in fill(step, item).split()} | set(slots["task"].split())
        return Needs(
            claims=tuple(("step", fill(step, item)) for step in procedure.steps),
            count=len(procedure.steps),
            words=4.5,
            subjects=frozenset((item,)),
            topics=frozenset(words - SMALL_WORDS - stock_words()),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """The steps, some replaced by steps of other procedures or out of order."""
        task = prompt.slots["task"]
        item = tasks()[task][1]
        steps = kept([claim[1] for claim in prompt.needs.claims], skill.coverage, generator)
        for at in range(len(steps)):
            if not chance(generator, skill.accuracy):
                steps[at] = fill(pick(generator, pick(generator, PROCEDURES).steps), item)
        if len(steps) > 1 and not chance(generator, skill.accuracy):
            one, two = sample(generator, range(len(steps)), 2)
            steps[one], steps[two] = steps[two], steps[one]
        marked = [f"{_marker(at, len(steps))}, {step}" for at, step in enumerate(steps)]
        half = (len(steps) + 1) // 2
        return Content(
            topic=f"how to {task}",
            brief=" ".join(sentence(listing(part)) for part in (steps[:half], steps[half:]) if part),
            lead=f"here is how to {task}",
            points=tuple(steps),
            sentences=tuple(marked),
            details=("take your time with each step", "have all you need ready before you start"),
            ending=f"now you know how to {task}",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Count the procedure's steps, steps that are not its own, and disorder."""
        item = tasks()[prompt.slots["task"]][1]
        place = {_pattern_of(claim[1], item): at for at, claim in enumerate(prompt.needs.claims)}
        seen: list[int] = []
        wrong: set[tuple[str, ...]] = set()
        for pattern, name in _steps(tokenise(text), ontology):
            if pattern not in place or name not in (None, item):
                wrong.add((*pattern, name or ""))
            elif place[pattern] not in seen:
                seen.append(place[pattern])
        disorder = sum(later < earlier for earlier, later in pairwise(seen))
        return Verdict(len(seen), len(wrong) + DISORDER * disorder)


def _marker(at: int, count: int) -> str:
    if at == count - 1 and count > 1:
        return ORDER[-1]
    return ORDER[min(at, len(ORDER) - 2)]


def _pattern_of(step: str, item: str) -> tuple[str, ...]:
    """The step's words with its entity, and the article before it, made general."""
    words = ["a" if word == "an" else word for word in step.split()]
    return tuple(SLOT if word == item else word for word in words)


def _steps(tokens: tuple[str, ...], ontology: Ontology) -> list[tuple[tuple[str, ...], str | None]]:
    """Steps in a text, in order, each with the entity it names; those in questions are left out."""
    index, found, kept_until = step_index(), [], 0
    at, longest = 0, max(len(pattern) for group in index.values() for pattern in group)
    while at < len(tokens):
        match = _match(tokens[at : at + longest], index.get(tokens[at], ()), ontology)
        if match:
            found.append(match)
            at += len(match[0])
            continue
        if tokens[at] == "?":
            del found[kept_until:]
        if tokens[at] in STOPS:
            kept_until = len(found)
        at += 1
    return found


def _match(
    tokens: tuple[str, ...], patterns: tuple[tuple[str, ...], ...], ontology: Ontology
) -> tuple[tuple[str, ...], str | None] | None:
    for pattern in patterns:
        name = None
        span = tokens[: len(pattern)]
        if len(span) < len(pattern):
            continue
        for word, wanted in zip(span, pattern, strict=True):
            if wanted == SLOT:
                name = ontology.names.get(word)
                if name is None:
                    break
            elif word != wanted and not (word == "an" and wanted == "a"):
                break
        else:
            return pattern, name
    return None
