"""`true_or_false`: say whether a statement is true, and what is."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trueup.lab.world.families.facts import check_facts, details, kept, stated
from trueup.lab.world.language import chance, pick, sentence
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import NEGATIONS, read
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt

VERDICTS = {"yes": "yes", "true": "yes", "correct": "yes", "no": "no", "false": "no", "wrong": "no"}


def stance(tokens: tuple[str, ...]) -> str | None:
    """The first "yes" or "no" of a text, in any of its words; None if it takes no side."""
    for at, token in enumerate(tokens):
        if (verdict := VERDICTS.get(token)) is not None:
            denied = verdict == "yes" and any(word in NEGATIONS for word in tokens[max(0, at - 2) : at])
            return "no" if denied else verdict
    return None


@dataclass(frozen=True)
class TrueOrFalse:
    """The verdict and the true fact are asked for."""

    name: str = "true_or_false"
    phrasings: tuple[str, ...] = (
        "Is it true that {a_thing} {statement}?",
        "A friend says that {a_thing} {statement}. Is that so?",
        "Yes or no: {a_thing} {statement}?",
        "Would you say that {a_thing} {statement}?",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """A statement that is true half of the time."""
        kind = ontology.kinds[pick(generator, list(ontology.kinds))]
        name, attribute = pick(generator, kind.members), pick(generator, list(kind.attributes))
        value = stated(ontology, name, attribute, accuracy=0.5, generator=generator)
        statement = ontology.say(name, attribute, value)
        return int(generator.random() * len(self.phrasings)), {"thing": name, "statement": statement}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """Yes or no, and the fact."""
        name = slots["thing"]
        if name not in ontology.entities:
            return None
        found = ontology.find(ontology.entities[name].kind, slots["statement"])
        if not found:
            return None
        attribute, value = found
        truth = ontology.value(name, attribute)
        return Needs(
            claims=(("verdict", "yes" if truth == value else "no"), ("fact", name, attribute)),
            count=2,
            words=4.0,
            subjects=frozenset((name,)),
            topics=frozenset((value, truth, *VERDICTS)),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """A verdict and the fact it rests on, both wrong together."""
        name = prompt.slots["thing"]
        (_, verdict), (*_, attribute) = prompt.needs.claims
        if chance(generator, skill.accuracy):
            value = ontology.value(name, attribute)
        else:
            verdict = "no" if verdict == "yes" else "yes"
            value = stated(ontology, name, attribute, accuracy=0.0, generator=generator)
        some = ontology.some(name)
        fact = f"{some} {ontology.say(name, attribute, value)}"
        lines = kept((verdict, fact), skill.coverage, generator)
        return Content(
            topic=some,
            brief=" ".join(sentence(line) for line in lines),
            lead=f"let us think about {some}",
            points=tuple(lines),
            sentences=tuple(f"the answer is {line}" if line == verdict else line for line in lines),
            details=details(ontology, (name,), avoid=(attribute,), generator=generator),
            ending=f"that is all one must know about {some} here",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Check the first verdict, and the facts."""
        reading = read(text, ontology, subject=prompt.slots["thing"])
        (_, verdict), fact = prompt.needs.claims
        right, wrong = check_facts(ontology, reading.statements, (fact,))
        taken = stance(reading.tokens)
        return Verdict(len(right) + (taken == verdict), wrong + (taken not in (None, verdict)))
