"""`guess`: name a thing from three clues, and say why it fits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trueup.lab.world.families.facts import check_facts, details, kept, stated
from trueup.lab.world.language import chance, pick, sample, sentence
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import read
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt

CLUES = 3
FACTS = 2


@dataclass(frozen=True)
class Guess:
    """A fitting entity and two facts about it are asked for; other entities cost."""

    name: str = "guess"
    phrasings: tuple[str, ...] = (
        "Guess the {kind}: it {first}, it {second}, and it {third}.",
        "Which {kind} do I mean? It {first}, it {second}, and it {third}.",
        "I am thinking of a certain {kind}. It {first}, it {second}, and it {third}. What is it?",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """Three facts about some entity."""
        kind = ontology.kinds[pick(generator, list(ontology.kinds))]
        name = pick(generator, kind.members)
        clues = [ontology.fact(name, a) for a in sample(generator, list(kind.attributes), CLUES)]
        slots = {"kind": kind.name, **dict(zip(("first", "second", "third"), clues, strict=True))}
        return int(generator.random() * len(self.phrasings)), slots

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """An entity with all three properties, and why."""
        kind = ontology.kinds.get(slots["kind"])
        found = [ontology.find(kind.name, slots[key]) for key in ("first", "second", "third")] if kind else []
        clues = [clue for clue in found if clue]
        if kind is None or len(clues) < CLUES:
            return None
        fitting = [m for m in kind.members if all(ontology.value(m, a) == v for a, v in clues)]
        return Needs(
            claims=(
                *(("item", name) for name in fitting),
                *(("fact", name, attribute) for name in fitting for attribute in ("kind", *kind.attributes)),
            ),
            count=1 + FACTS,
            words=4.0,
            subjects=frozenset(kind.members),
            topics=frozenset((kind.name, *(value for _, value in clues))),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """A guess and facts about it."""
        kind = ontology.kinds[prompt.slots["kind"]]
        fitting = [claim[1] for claim in prompt.needs.claims if claim[0] == "item"]
        others = [member for member in kind.members if member not in fitting]
        name = pick(generator, fitting if chance(generator, skill.accuracy) or not others else others)
        some = ontology.some(name)
        lines = [f"it must be {some}"]
        if chance(generator, skill.coverage):
            attributes = kept(sample(generator, list(kind.attributes), FACTS), skill.coverage, generator)
            values = [stated(ontology, name, a, accuracy=skill.accuracy, generator=generator) for a in attributes]
            lines += [f"{some} {ontology.say(name, a, v)}" for a, v in zip(attributes, values, strict=True)]
        return Content(
            topic=f"this {kind.name}",
            brief=" ".join(sentence(line) for line in lines),
            lead=f"let us think about this {kind.name}",
            points=tuple(lines),
            sentences=tuple(lines),
            details=details(ontology, (name,), generator=generator),
            ending=f"that is why I say {some}",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Check the entities named and what is said of them."""
        reading = read(text, ontology)
        fitting = {claim[1] for claim in prompt.needs.claims if claim[0] == "item"}
        facts = [claim for claim in prompt.needs.claims if claim[0] == "fact"]
        items = set(reading.mentions)
        right, wrong = check_facts(ontology, reading.statements, facts)
        return Verdict(bool(items & fitting) + min(len(right), FACTS), wrong + len(items - fitting))
