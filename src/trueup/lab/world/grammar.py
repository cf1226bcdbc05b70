"""A measured rate of grammatical text, for samples of policies that learned the world's text.

A sentence (or item of a list) becomes a skeleton: names, values, numbers and the like are replaced by what they are,
and an article that does not agree with the next word by a mark. It is grammatical if every three neighbours of its
skeleton are neighbours in the world's own text. A comma, a colon and "and" begin anew, as what follows them is
independent of what stands before, so that unseen but well-formed sentences pass. Truth does not count: "A kimono is
worn on the feet." is grammatical. Neither do capitals.

Measured on 400 prompts of another seed with four answers each: of the writers' own sentences 0.99 pass; with their
words shuffled 0.003, with one inner word deleted 0.03, with one foreign word inserted 0.004, with two neighbours
swapped 0.001.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from trueup.lab.world.comparisons import World
from trueup.lab.world.families.arithmetic import PEOPLE, THINGS
from trueup.lab.world.language import NUMBERS, article
from trueup.lab.world.ontology import Kind, load_ontology, plural
from trueup.lab.world.prompts import CORE_FAMILIES, FRESH_FAMILIES
from trueup.lab.world.writers import WRITERS

ORDER = 3
"""Neighbours that must occur together; with 2, three times as many sentences with a deleted word pass."""
ITEM = "- "
JOINTS = frozenset((",", ":", "and"))
TOKEN = re.compile(r"[a-z]+|[0-9]+|[^\sa-z0-9]")
BREAK = re.compile(r"(?<=[.!?:])\s+")
PREDICATIVE = frozenset(("is {v}", "sounds {v}", "tastes {v}"))
"""Patterns whose values are adjectives."""


@dataclass(frozen=True, slots=True)
class GrammarRates:
    """How grammatical a set of texts is.

    Args:
        sentences: Share of all sentences that are grammatical, 0 to 1; NaN if there are none.
        texts: Share of the texts in which all are; a text without any does not count as grammatical.
        counted: Number of sentences.
    """

    sentences: float
    texts: float
    counted: int


@dataclass(frozen=True)
class Grammar:
    """What may stand beside what.

    Args:
        sequences: Neighbours that occur, up to `ORDER` parts of a skeleton.
    """

    sequences: frozenset[tuple[str, ...]]

    @classmethod
    def of_world(cls, world: World, *, rows: int = 1000) -> "Grammar":
        """Learn from prompts and answers that the world makes; kept for the process.

        Args:
            world: Whose writers are read, all of them.
            rows: Prompts of the core families, with four answers each; a third as many of the fresh ones are added.
        """
        return _of_world(world, rows)

    @classmethod
    def of_texts(cls, texts: Sequence[str]) -> "Grammar":
        """Learn from texts."""
        return cls(frozenset(part for text in texts for one in sentences(text) for part in _sequences(skeleton(one))))

    def is_grammatical(self, sentence: str) -> bool:
        """Whether one sentence, or one item of a list with its dash, is well formed; false for an unfinished one."""
        return all(part in self.sequences for part in _sequences(skeleton(sentence)))

    def rate(self, texts: Sequence[str]) -> float:
        """Share of the texts' sentences that are grammatical, 0 to 1; NaN if there are none."""
        return self.rates(texts).sentences

    def rates(self, texts: Sequence[str]) -> GrammarRates:
        """Share of sentences, and of texts, that are grammatical."""
        judged = [[self.is_grammatical(sentence) for sentence in sentences(text)] for text in texts]
        counted = sum(map(len, judged))
        return GrammarRates(
            sentences=sum(map(sum, judged)) / counted if counted else float("nan"),
            texts=sum(bool(one) and all(one) for one in judged) / len(judged) if judged else float("nan"),
            counted=counted,
        )


@cache
def _of_world(world: World, rows: int) -> Grammar:
    prompts = [*world.prompts(rows, families=CORE_FAMILIES), *world.prompts(-(-rows // 3), families=FRESH_FAMILIES)]
    answers = [one.text for row in world.answer(prompts, writers=tuple(WRITERS)) for one in row.responses]
    return Grammar.of_texts([*(prompt.text for prompt in prompts), *answers])


def sentences(text: str) -> Iterator[str]:
    """Sentences and items of lists; a heading ends with its colon, an item with its line."""
    for line in text.split("\n"):
        if line.startswith(ITEM):
            yield line
        else:
            yield from (part for part in BREAK.split(line) if part.strip())


def skeleton(sentence: str) -> tuple[str, ...]:
    """The sentence with every word of the world replaced by its slot, between marks of begin and end.

    >>> skeleton("A fox is red.")
    ('<', 'a', 'NAME', 'is', 'ADJECTIVE', '.', '>')
    """
    item = sentence.startswith(ITEM)
    tokens = TOKEN.findall(sentence.removeprefix(ITEM).lower())
    inner = [_part(token, following) for token, following in zip(tokens, [*tokens[1:], ""], strict=True)]
    return ("<item", *inner, "item>") if item else ("<", *inner, ">")


def _part(token: str, following: str) -> str:
    if token in ("a", "an"):
        return "a" if article(following).split()[0] == token else "WRONG_ARTICLE"
    return "DIGITS" if token.isdigit() else _slots().get(token, token)


def _sequences(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    start = 0
    for place in range(1, len(parts)):
        yield parts[max(place + 1 - ORDER, start) : place + 1]
        if parts[place] in JOINTS:
            start = place


@cache
def _slots() -> dict[str, str]:
    """What each word of the world is; several things at once for a few."""
    ontology = load_ontology()
    roles: dict[str, set[str]] = {}
    pairs = [(person.lower(), "PERSON") for person in PEOPLE] + [(thing, "THINGS") for thing in THINGS]
    pairs += [(number, "NUMBER") for number in NUMBERS[2:]]
    for entity in ontology.entities.values():
        pairs += [(entity.name, "BARE" if entity.bare else "NAME"), (plural(entity.name), "NAMES")]
    for kind in ontology.kinds.values():
        pairs += _of_kind(kind)
    for word, role in pairs:
        roles.setdefault(word, set()).add(role)
    return {word: "|".join(sorted(found)) for word, found in roles.items()}


def _of_kind(kind: Kind) -> Iterator[tuple[str, str]]:
    yield kind.name, "KIND"
    yield kind.plural, "KINDS"
    for attribute in kind.attributes.values():
        yield attribute.name, "ATTRIBUTE"
        counted = "CLASS" if "{a_v}" in attribute.fact else "NOUN"
        role = "ADJECTIVE" if attribute.fact in PREDICATIVE else counted
        yield from ((value, role) for value in kind.values[attribute.name])
