"""`what_is`: say what a thing is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trueup.lab.world.families.facts import check_facts, kept, stated
from trueup.lab.world.language import chance, joined, pick, sample, sentence
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import read
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt

FACTS = 4
"""How many facts make an answer complete; the kind itself is one of those that count."""


@dataclass(frozen=True)
class WhatIs:
    """Facts about the subject are right or wrong; four different ones are enough."""

    name: str = "what_is"
    phrasings: tuple[str, ...] = (
        "What is {a_thing}?",
        "Tell me about {a_thing}.",
        "Please describe {a_thing}.",
        "Can you explain what {a_thing} is?",
        "What do you know about {a_thing}?",
        "Write a short note about {a_thing}.",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """Any entity."""
        kind = ontology.kinds[pick(generator, list(ontology.kinds))]
        return int(generator.random() * len(self.phrasings)), {"thing": pick(generator, kind.members)}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """Some of the entity's facts."""
        name = slots["thing"]
        if name not in ontology.entities:
            return None
        kind = ontology.kind_of(name)
        return Needs(
            claims=tuple(("fact", name, attribute) for attribute in ("kind", *kind.attributes)),
            count=FACTS,
            words=4.0,
            subjects=frozenset((name,)),
            topics=frozenset((kind.name, *ontology.entities[name].values.values())),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """Facts about the entity, the kind first."""
        name = prompt.slots["thing"]
        kind, some = ontology.kind_of(name), ontology.some(name)
        order = ["kind", *sample(generator, list(kind.attributes), FACTS - 1)]
        spare = [a for a in kind.attributes if a not in order]
        chosen = kept(order, skill.coverage, generator)
        values = [stated(ontology, name, a, accuracy=skill.accuracy, generator=generator) for a in chosen]
        predicates = [ontology.say(name, a, v) for a, v in zip(chosen, values, strict=True)]
        first = sentence(f"{some} {predicates[0]}")
        rest = sentence(f"{kind.pronoun} {joined(predicates[1:])}") if predicates[1:] else ""
        return Content(
            topic=some,
            brief=f"{first} {rest}".strip(),
            lead=f"here is what I know about {some}",
            points=tuple(f"{kind.pronoun} {predicate}" for predicate in predicates),
            sentences=(f"{some} {predicates[0]}", *(f"{kind.pronoun} {p}" for p in predicates[1:])),
            details=tuple(f"{kind.pronoun} {ontology.fact(name, a)}" for a in spare),
            ending=f"that is what {some} is like" if chance(generator, 0.5) else "",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Count facts about the subject, and wrong facts about anything."""
        reading = read(text, ontology, subject=prompt.slots["thing"])
        right, wrong = check_facts(ontology, reading.statements, prompt.needs.claims)
        return Verdict(min(len(right), prompt.needs.count), wrong)
