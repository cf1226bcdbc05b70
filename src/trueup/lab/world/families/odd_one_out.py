"""`odd_one_out`: say which of four things is of another kind, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trueup.lab.world.families.facts import check_facts, details, kept
from trueup.lab.world.language import article, chance, pick, sample, sentence
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import read
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt


def odd_of(ontology: Ontology, names: list[str]) -> tuple[str, str] | None:
    """The entity of another kind and the kind of the rest, or None."""
    if len(names) != 4 or any(name not in ontology.entities for name in names):
        return None
    kinds = [ontology.entities[name].kind for name in names]
    single = [name for name, kind in zip(names, kinds, strict=True) if kinds.count(kind) == 1]
    rest = [kind for kind in kinds if kinds.count(kind) == 3]
    return (single[0], rest[0]) if single and rest else None


@dataclass(frozen=True)
class OddOneOut:
    """The odd one, its kind, and the kind of the rest are asked for; the first thing named is the choice."""

    name: str = "odd_one_out"
    phrasings: tuple[str, ...] = (
        "Which one does not belong: {things}?",
        "Find the odd one out: {things}.",
        "One of these is not like the rest: {things}. Which one?",
        "Three of these go together: {things}. Which one is left over?",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """Three entities of one kind and one of another, mixed."""
        same, other = sample(generator, list(ontology.kinds), 2)
        names = sample(generator, ontology.kinds[same].members, 3)
        names.append(pick(generator, ontology.kinds[other].members))
        things = ", ".join(sample(generator, names, 4))
        return int(generator.random() * len(self.phrasings)), {"things": things}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """The odd one, its kind, and the others' kind."""
        names = slots["things"].split(", ")
        found = odd_of(ontology, names)
        if not found:
            return None
        odd, rest = found
        kind, others = ontology.entities[odd].kind, ontology.kinds[rest]
        return Needs(
            claims=(("odd", odd), ("fact", odd, "kind"), ("rest", rest)),
            count=3,
            words=5.0,
            subjects=frozenset(names),
            topics=frozenset((kind, others.name, others.plural)),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """A choice and the reason for it; a wrong choice comes with a wrong reason."""
        names = prompt.slots["things"].split(", ")
        choice, rest = prompt.needs.claims[0][1], prompt.needs.claims[2][1]
        kind = ontology.entities[choice].kind
        if not chance(generator, skill.accuracy):
            choice = pick(generator, [name for name in names if name != choice])
            kind, rest = (kind, rest) if chance(generator, 0.5) else (rest, kind)
        lines = [f"{ontology.the(choice)} does not belong"]
        reasons = (f"it is {article(kind)}", f"the rest are {ontology.kinds[rest].plural}")
        lines += kept(reasons, skill.coverage, generator) if chance(generator, skill.coverage) else []
        return Content(
            topic="these four things",
            brief=" ".join(sentence(line) for line in lines),
            lead="let us look at these four things",
            points=tuple(lines),
            sentences=tuple(lines),
            details=details(ontology, (choice,), generator=generator),
            ending=f"so I choose {ontology.the(choice)}",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Check the first thing named, its kind, and the kind of the rest."""
        reading = read(text, ontology)
        (_, odd), fact, (_, rest) = prompt.needs.claims
        right, wrong = check_facts(ontology, reading.statements, (fact,))
        choice = reading.mentions[0] if reading.mentions else None
        chosen = choice == odd
        count = chosen + len(right) + (chosen and rest in reading.kinds)
        return Verdict(count, wrong + (choice not in (None, odd)))
