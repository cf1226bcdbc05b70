"""`list`: name n things of a kind that share a property."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trueup.lab.world.families.facts import WRONG_DETAIL, details
from trueup.lab.world.language import NUMBERS, capital, chance, listing, pick, sample, whole
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import is_true, read
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt

MOST = 5
FEWEST_HOLDERS = 3


def parts(ontology: Ontology, wanted: str) -> tuple[str, str, str] | None:
    """Kind, attribute and value of a property such as "animals that live in the forest"."""
    plural, _, clause = wanted.partition(" that ")
    kind = ontology.kind_words.get(plural)
    found = ontology.find(kind, clause) if kind else None
    return (kind, *found) if kind and found else None


@dataclass(frozen=True)
class ListThings:
    """Items are right if they have the property; naming others costs, repeats and surplus items gain nothing."""

    name: str = "list"
    phrasings: tuple[str, ...] = (
        "List {number} {property}.",
        "Name {number} {property}.",
        "Give me {number} {property}.",
        "Can you name {number} {property}?",
        "What are {number} {property}?",
        "I am looking for {number} {property}.",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """A property that enough entities have, and how many to name."""
        while True:
            kind = ontology.kinds[pick(generator, list(ontology.kinds))]
            attribute = pick(generator, [a for a in kind.attributes.values() if a.clause])
            value = pick(generator, kind.values[attribute.name])
            holders = ontology.holders(kind.name, attribute.name, value)
            if len(holders) >= FEWEST_HOLDERS:
                break
        number = whole(generator, 2, min(MOST, len(holders)))
        wanted = f"{kind.plural} that {ontology.clause(kind.name, attribute.name, value)}"
        phrasing = int(generator.random() * len(self.phrasings))
        return phrasing, {"number": NUMBERS[number], "property": wanted}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """As many as asked of the entities that have the property."""
        found = parts(ontology, slots["property"])
        if not found or slots["number"] not in NUMBERS[1:]:
            return None
        kind = ontology.kinds[found[0]]
        holders = ontology.holders(*found)
        number = NUMBERS.index(slots["number"])
        return Needs(
            claims=tuple(("item", name) for name in holders),
            count=number,
            words=2.5 + 3.0 / number,
            subjects=frozenset(kind.members),
            topics=frozenset((kind.name, kind.plural, found[2])),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """Items with the property, some replaced by others of the kind."""
        kind, attribute, value = parts(ontology, prompt.slots["property"]) or ("", "", "")
        right = [claim[1] for claim in prompt.needs.claims]
        others = [name for name in ontology.kinds[kind].members if name not in right]
        count = max(1, sum(chance(generator, skill.coverage) for _ in range(prompt.needs.count)))
        slips = sum(not chance(generator, skill.accuracy) for _ in range(count))
        items = sample(generator, right, count - slips) + sample(generator, others, slips)
        items = sample(generator, items, count)
        named = [ontology.some(item) for item in items]
        verb = "is" if len(items) == 1 else "are"
        lead = f"{'here ' + verb} {NUMBERS[len(items)]} of the {prompt.slots['property']}"
        plain = f"{capital(listing(named))}."
        subject = f"{'One of the' if len(items) == 1 else 'Some'} {prompt.slots['property']}"
        return Content(
            topic=prompt.slots["property"],
            brief=plain if chance(generator, 0.5) else f"{subject} {verb} {listing(named)}.",
            lead=lead,
            points=tuple(named),
            sentences=tuple(f"{n} {ontology.say(i, attribute, value)}" for n, i in zip(named, items, strict=True)),
            details=details(ontology, items, avoid=(attribute,), generator=generator),
            ending=f"so you can choose {listing(named)}",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Count distinct items with and without the property, and wrong facts beside them."""
        reading = read(text, ontology)
        holders = {claim[1] for claim in prompt.needs.claims}
        items = set(reading.mentions)
        slips = {s for s in reading.statements if not is_true(s, ontology) and s.entity in holders}
        right = len(items & holders)
        return Verdict(min(right, prompt.needs.count), len(items - holders) + WRONG_DETAIL * len(slips))
