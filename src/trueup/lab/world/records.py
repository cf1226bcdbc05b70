"""Records that pass between prompts, writers and gold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from trueup.lab.world.ontology import Ontology

Claim = tuple[str, ...]
"""Something a text can say, as words: ("item", "fox"), ("fact", "fox", "home"), ("answer", "17")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a complete right answer must contain.

    Args:
        claims: Claims that count as right and asked for.
        count: How many of them make an answer complete.
        words: Words that a plain answer spends on one of them, with its share of the rest.
        subjects: Entities that the prompt is about.
        topics: Other words that belong to the topic.
    """

    claims: tuple[Claim, ...]
    count: int
    words: float
    subjects: frozenset[str]
    topics: frozenset[str]


@dataclass(frozen=True, slots=True)
class WorldPrompt:
    """A prompt and what it asks for.

    Args:
        family: Name of its family.
        phrasing: Which of the family's phrasings.
        slots: What fills the phrasing.
        text: What the user says.
        needs: What a complete right answer must contain.
    """

    family: str
    phrasing: int
    slots: Mapping[str, str]
    text: str
    needs: Needs


class Verdict(NamedTuple):
    """How a response's claims stand against a prompt's needs.

    Args:
        right: Asked-for claims made and right, without repeats.
        wrong: Cost of wrong claims, in claims.
    """

    right: int
    wrong: float


class Skill(NamedTuple):
    """How good one response's content is to be.

    Args:
        accuracy: Probability that a point is right.
        coverage: Probability that a point is made.
    """

    accuracy: float
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a writer has to say, in the pieces that forms are made from.

    Args:
        topic: What it is about, as a noun phrase.
        brief: The whole answer in few words.
        lead: How a longer answer begins, without stop.
        points: The points in few words each, for bullets.
        sentences: The points as sentences without stop.
        details: More that could be said, as sentences without stop.
        ending: How a longer answer ends, without stop; may be empty.
    """

    topic: str
    brief: str
    lead: str
    points: tuple[str, ...]
    sentences: tuple[str, ...]
    details: tuple[str, ...] = field(default=())
    ending: str = ""


@runtime_checkable
class Family(Protocol):
    """One family of prompts: how it asks, how it is answered, how an answer is checked."""

    @property
    def name(self) -> str:
        """Key of the family."""

    @property
    def phrasings(self) -> tuple[str, ...]:
        """Texts with slots in braces."""

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """A phrasing's number and what fills it."""

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """What is asked for; None if the slots make no sense."""

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """An answer's content of a given skill."""

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Check a response's claims."""
