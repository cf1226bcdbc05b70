"""Reads a text of any quality for what it says about the world, in one pass and without ever failing."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from trueup.lab.world.ontology import Ontology

TOKEN = re.compile(r"[a-z]+|[0-9]+|[.!?\n,+*/=-]")
WORD = re.compile(r"[^\W_]+")
STOPS = frozenset(".!?\n")
NEGATIONS = frozenset(("not", "never"))
OTHERS = frozenset(("rest", "others"))
NEGATION_REACH = 4
"""How many words before a value a "not" still concerns it."""


class Statement(NamedTuple):
    """That an entity has a value, as a text says; `negated` if the text denies it."""

    entity: str
    attribute: str
    value: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says.

    Args:
        tokens: Lower-case words, numbers and signs.
        mentions: Names of entities outside questions, in order, repeats kept.
        statements: What is said of entities outside questions, in order.
        kinds: Kinds named outside questions.
    """

    tokens: tuple[str, ...]
    mentions: tuple[str, ...]
    statements: tuple[Statement, ...]
    kinds: tuple[str, ...]


class _Scan:
    """State of one pass: who is spoken of, and what the unfinished sentence has said."""

    def __init__(self, ontology: Ontology, subject: str | None, pair: tuple[str, ...]) -> None:
        self.ontology, self.pair = ontology, pair
        self.subjects: tuple[str, ...] = (subject,) if subject else ()
        self.denied = -NEGATION_REACH - 1
        self.mentions: list[str] = []
        self.statements: list[Statement] = []
        self.kinds: list[str] = []
        self.kept = (0, 0, 0)

    def stop(self, token: str) -> None:
        """End a sentence; what a question said is forgotten."""
        if token == "?":
            mentions, statements, kinds = self.kept
            del self.mentions[mentions:], self.statements[statements:], self.kinds[kinds:]
        self.kept = (len(self.mentions), len(self.statements), len(self.kinds))
        self.denied = -NEGATION_REACH - 1

    def word(self, token: str, position: int) -> None:
        """Take one word in: a name, a kind, a value, or one of the few words that steer reading."""
        if (name := self.ontology.names.get(token)) is not None:
            self.mentions.append(name)
            self.subjects = (name,)
            return
        if token in NEGATIONS:
            self.denied = position
        elif token in OTHERS:
            self.subjects = ()
        elif token == "both":
            self.subjects = self.pair
        elif (kind := self.ontology.kind_words.get(token)) is not None:
            self.kinds.append(kind)
            self._say("kind", kind, position)
        else:
            self._value(token, position)

    def _value(self, token: str, position: int) -> None:
        if self.subjects:
            attribute = self.ontology.kind_of(self.subjects[0]).meaning.get(token)
            if attribute is not None:
                self._say(attribute, token, position)

    def _say(self, attribute: str, value: str, position: int) -> None:
        negated = position - self.denied <= NEGATION_REACH
        self.statements += [Statement(name, attribute, value, negated) for name in self.subjects]


def tokenise(text: str) -> tuple[str, ...]:
    """Lower-case words, numbers and the signs that matter."""
    return tuple(TOKEN.findall(text.lower()))


def read(text: str, ontology: Ontology, *, subject: str | None = None, pair: tuple[str, ...] = ()) -> Reading:
    """Read a text.

    A value is said of the entity named last; a kind's pronoun needs no resolving. Sentences that end in "?" say
    nothing. Linear in the text's length.

    Args:
        text: Anything.
        ontology: The world's facts.
        subject: Who is spoken of before the first name.
        pair: Whom "both" means.
    """
    tokens = tokenise(text)
    scan = _Scan(ontology, subject, pair)
    for position, token in enumerate(tokens):
        if token in STOPS:
            scan.stop(token)
        else:
            scan.word(token, position)
    return Reading(tokens, tuple(scan.mentions), tuple(scan.statements), tuple(scan.kinds))


def is_true(statement: Statement, ontology: Ontology) -> bool:
    """Whether the world agrees with a statement."""
    return (ontology.value(statement.entity, statement.attribute) == statement.value) != statement.negated
