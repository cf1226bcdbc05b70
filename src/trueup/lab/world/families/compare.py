"""`compare`: set two things of a kind side by side in two aspects."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trueup.lab.world.families.facts import check_facts, details, kept, stated
from trueup.lab.world.language import chance, pick, sample, sentence
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import read
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt


@dataclass(frozen=True)
class Compare:
    """Four facts are asked for: each of two aspects of each of two entities."""

    name: str = "compare"
    phrasings: tuple[str, ...] = (
        "Compare {a_one} and {a_two} by {aspect} and {other}.",
        "How do {a_one} and {a_two} differ in {aspect} and {other}?",
        "What about {aspect} and {other} sets {a_one} apart from {a_two}?",
        "Put {a_one} beside {a_two}: compare {aspect} and {other}.",
        "I want to compare {a_one} with {a_two} by {aspect} and {other}.",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """Two entities of a kind and two of its attributes."""
        kind = ontology.kinds[pick(generator, list(ontology.kinds))]
        one, two = sample(generator, kind.members, 2)
        aspect, other = sample(generator, list(kind.attributes), 2)
        phrasing = int(generator.random() * len(self.phrasings))
        return phrasing, {"one": one, "two": two, "aspect": aspect, "other": other}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """Both aspects of both entities."""
        pair, aspects = (slots["one"], slots["two"]), (slots["aspect"], slots["other"])
        if any(name not in ontology.entities for name in pair):
            return None
        kinds = {ontology.kind_of(name).name for name in pair}
        known = ontology.kind_of(pair[0]).attributes
        if len(kinds) > 1 or any(aspect not in known for aspect in aspects):
            return None
        values = [ontology.value(name, aspect) for name in pair for aspect in aspects]
        return Needs(
            claims=tuple(("fact", name, aspect) for aspect in aspects for name in pair),
            count=4,
            words=4.5,
            subjects=frozenset(pair),
            topics=frozenset(("both", *aspects, *values)),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """One comparison for each aspect."""
        slots = prompt.slots
        pair = (slots["one"], slots["two"])
        one, two = (ontology.some(name) for name in pair)
        chosen = kept((slots["aspect"], slots["other"]), skill.coverage, generator)
        whole = [chance(generator, 0.5 + skill.coverage / 2) for _ in chosen]
        lines = [
            _line(ontology, pair[: 1 + both], aspect, skill=skill, generator=generator)
            for aspect, both in zip(chosen, whole, strict=True)
        ]
        return Content(
            topic=f"{one} and {two}",
            brief=" ".join(sentence(line) for line in lines),
            lead=f"let us compare {one} and {two}",
            points=tuple(f"{a}: {line}" for a, line in zip(chosen, lines, strict=True)),
            sentences=tuple(
                line if line.startswith("both") else f"when it comes to {a}, {line}"
                for a, line in zip(chosen, lines, strict=True)
            ),
            details=details(ontology, pair, avoid=chosen, generator=generator),
            ending=f"now you can tell {one} from {two}",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Count the asked facts, and wrong facts about anything."""
        reading = read(text, ontology, pair=(prompt.slots["one"], prompt.slots["two"]))
        right, wrong = check_facts(ontology, reading.statements, prompt.needs.claims)
        return Verdict(len(right), wrong)


def _line(
    ontology: Ontology, names: tuple[str, ...], aspect: str, *, skill: Skill, generator: np.random.Generator
) -> str:
    values = [stated(ontology, n, aspect, accuracy=skill.accuracy, generator=generator) for n in names]
    kind = ontology.kind_of(names[0]).name
    if len(set(values)) < len(values) and (clause := ontology.clause(kind, aspect, values[0])):
        return f"both {clause}"
    link = ", and " if len(set(values)) < len(values) else ", but "
    return link.join(f"{ontology.some(n)} {ontology.say(n, aspect, v)}" for n, v in zip(names, values, strict=True))
