"""`ordering`: put three things in order of size."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trueup.lab.world.families.facts import WRONG_DETAIL
from trueup.lab.world.language import chance, listing, pick, sample, sentence
from trueup.lab.world.ontology import SIZES, Ontology
from trueup.lab.world.reading import is_true, read
from trueup.lab.world.records import Content, Needs, Skill, Verdict, WorldPrompt


def ranked(ontology: Ontology, names: list[str]) -> list[str] | None:
    """Three entities from small to large, or None if their sizes do not differ."""
    if len(names) != 3 or any("size" not in ontology.kind_of(n).attributes for n in names if n in ontology.entities):
        return None
    if any(name not in ontology.entities for name in names):
        return None
    sizes = [SIZES.index(ontology.value(name, "size")) for name in names]
    return sorted(names, key=lambda name: sizes[names.index(name)]) if len(set(sizes)) == 3 else None


@dataclass(frozen=True)
class Ordering:
    """Every pair in the right order counts, every pair in the wrong order costs; the first mention places a thing."""

    name: str = "ordering"
    phrasings: tuple[str, ...] = (
        "Put these in order of size, the least first: {things}.",
        "Sort these by size, the least first: {things}.",
        "Which of these comes first by size, which second, which last: {things}?",
    )

    def draw(self, ontology: Ontology, generator: np.random.Generator, /) -> tuple[int, dict[str, str]]:
        """Three entities of a kind with three sizes."""
        sized = [k for k in ontology.kinds.values() if len(k.values.get("size", ())) >= 3]
        kind = pick(generator, sized)
        groups = [ontology.holders(kind.name, "size", size) for size in kind.values["size"]]
        names = [pick(generator, group) for group in sample(generator, groups, 3)]
        return int(generator.random() * len(self.phrasings)), {"things": ", ".join(names)}

    def needs(self, ontology: Ontology, phrasing: int, slots: Mapping[str, str], /) -> Needs | None:
        """All three pairs in order."""
        order = ranked(ontology, slots["things"].split(", "))
        if not order:
            return None
        return Needs(
            claims=tuple(("before", *pair) for pair in combinations(order, 2)),
            count=3,
            words=4.0,
            subjects=frozenset(order),
            topics=frozenset(("size", *(ontology.value(name, "size") for name in order))),
        )

    def content(
        self, ontology: Ontology, prompt: WorldPrompt, /, *, skill: Skill, generator: np.random.Generator
    ) -> Content:
        """The entities, in order or with two of them exchanged; some may be left out."""
        order = ranked(ontology, prompt.slots["things"].split(", ")) or []
        if not chance(generator, skill.accuracy):
            one, two = sample(generator, range(3), 2)
            order[one], order[two] = order[two], order[one]
        if not chance(generator, skill.coverage):
            order.pop(int(generator.random() * 3))
        named = [ontology.some(name) for name in order]
        places = ("first", "next", "last")
        return Content(
            topic="the size of these things",
            brief=sentence(listing(named)),
            lead="here they are by size",
            points=tuple(named),
            sentences=tuple(f"{places[at]} comes {name}" for at, name in enumerate(named)),
            details=tuple(f"{n} {ontology.fact(o, 'size')}" for n, o in zip(named, order, strict=True)),
            ending=f"so the last of all is {named[-1]}",
        )

    def judge(self, ontology: Ontology, prompt: WorldPrompt, text: str, /) -> Verdict:
        """Check the order of first mentions, wrong sizes, and entities nobody asked about."""
        reading = read(text, ontology)
        seen = list(dict.fromkeys(reading.mentions))
        wanted = prompt.needs.subjects
        pairs = list(combinations([name for name in seen if name in wanted], 2))
        right = sum(("before", *pair) in prompt.needs.claims for pair in pairs)
        slips = {s for s in reading.statements if not is_true(s, ontology)}
        strangers = len([name for name in seen if name not in wanted])
        return Verdict(right, len(pairs) - right + strangers + WRONG_DETAIL * len(slips))
