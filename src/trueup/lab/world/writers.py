"""Writers: each answers prompts with its own habits and its own range of skill.

The ranges overlap, so no writer's name settles how good an answer is. Among the writers that models are trained on,
the skilled ones tend to write more, to flatter and to use bullets; the fresh writers break that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trueup.lab.world.language import between, chance, pick, sample, sentence, whole
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.phrases import CHAT, FILLER, FLATTERY, HEDGES, VAGUE
from trueup.lab.world.prompts import CORE_FAMILIES, FAMILIES, draw_prompt
from trueup.lab.world.records import Content, Skill, WorldPrompt

FORMS = ("brief", "full", "bullets")
SAME_FAMILY = 0.5
"""How often an answer that misses the prompt answers another one of the same family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A writer, as a pure function of prompt, world and generator.

    Args:
        name: What rows state as their source.
        accuracy: Lowest and highest probability that a point is right; one value is drawn per answer.
        coverage: Lowest and highest probability that a point is made.
        forms: Weights of the forms brief, full and bullets.
        details: Most extra facts in the full form.
        flattery: Probability to open with flattery; twice as often a second piece closes.
        filler: Most pieces of boilerplate.
        repeats: Most sentences said again.
        hedges: Most hedging phrases.
        chat: Most chatty phrases.
        vague: Probability to open with an empty phrase about the topic.
        astray: Probability to answer another prompt.
    """

    name: str
    accuracy: tuple[float, float]
    coverage: tuple[float, float]
    forms: tuple[float, float, float]
    details: int = 1
    flattery: float = 0.0
    filler: int = 0
    repeats: int = 0
    hedges: int = 0
    chat: int = 0
    vague: float = 0.0
    astray: float = 0.0

    def __call__(self, prompt: WorldPrompt, ontology: Ontology, generator: np.random.Generator) -> str:
        """Answer a prompt."""
        if chance(generator, self.astray):
            families = (prompt.family,) if chance(generator, SAME_FAMILY) else CORE_FAMILIES
            prompt = draw_prompt(generator, families)
        skill = Skill(between(generator, *self.accuracy), between(generator, *self.coverage))
        content = FAMILIES[prompt.family].content(ontology, prompt, skill=skill, generator=generator)
        lines = self._body(content, generator)
        return _text([*self._opening(content, generator), *lines, *self._closing(lines, generator)])

    def _body(self, content: Content, generator: np.random.Generator) -> list[str]:
        brief, full, _ = self.forms
        drawn = between(generator, 0.0, sum(self.forms))
        if drawn < brief:
            return [content.brief]
        if drawn < brief + full:
            return self._full(content, generator)
        lead = [sentence(f"{content.lead}:")] if chance(generator, 0.7) else []
        return [*lead, *(f"- {point}" for point in content.points)]

    def _full(self, content: Content, generator: np.random.Generator) -> list[str]:
        extra = sample(generator, content.details, whole(generator, 0, self.details))
        lead = [content.lead] if chance(generator, 0.6) else []
        ending = [content.ending] if content.ending and chance(generator, 0.4) else []
        return [sentence(line) for line in (*lead, *content.sentences, *extra, *ending)]

    def _opening(self, content: Content, generator: np.random.Generator) -> list[str]:
        lines = [pick(generator, FLATTERY)] if chance(generator, self.flattery) else []
        lines += sample(generator, CHAT, whole(generator, min(1, self.chat), self.chat))
        lines += sample(generator, HEDGES, whole(generator, min(1, self.hedges), self.hedges))
        if chance(generator, self.vague):
            lines.append(pick(generator, VAGUE).format(topic=content.topic))
        return lines

    def _closing(self, lines: list[str], generator: np.random.Generator) -> list[str]:
        again = sample(generator, lines, whole(generator, min(1, self.repeats), self.repeats))
        filler = sample(generator, FILLER, whole(generator, min(1, self.filler), self.filler))
        praise = [pick(generator, FLATTERY)] if chance(generator, self.flattery / 2) else []
        return [*again, *filler, *praise]


def _text(lines: list[str]) -> str:
    """Lines as one text: bullets on lines of their own, all else in running text."""
    text = lines[0]
    for before, line in pairwise(lines):
        text += ("\n" if line.startswith("- ") or before.startswith("- ") else " ") + line
    return text


TRAINING_WRITERS: Mapping[str, Writer] = {
    writer.name: writer
    for writer in (
        Writer(name="concise_expert", accuracy=(0.8, 1.0), coverage=(0.85, 1.0), forms=(0.7, 0.2, 0.1)),
        Writer(
            name="verbose_expert", accuracy=(0.8, 1.0), coverage=(0.85, 1.0), forms=(0.0, 1.0, 0.0), details=2,
            flattery=0.35,
        ),
        Writer(name="careless", accuracy=(0.0, 0.6), coverage=(0.3, 0.9), forms=(0.9, 0.05, 0.05)),
        Writer(name="flattering", accuracy=(0.65, 1.0), coverage=(0.7, 1.0), forms=(0.3, 0.5, 0.2), flattery=0.9),
        Writer(name="bullet_formatter", accuracy=(0.7, 1.0), coverage=(0.7, 1.0), forms=(0.0, 0.0, 1.0)),
        Writer(name="repeater", accuracy=(0.5, 0.95), coverage=(0.5, 0.9), forms=(0.4, 0.5, 0.1), repeats=3),
        Writer(name="off_topic", accuracy=(0.7, 1.0), coverage=(0.4, 1.0), forms=(0.85, 0.1, 0.05), astray=0.85),
        Writer(name="padding", accuracy=(0.5, 0.95), coverage=(0.5, 1.0), forms=(0.5, 0.4, 0.1), filler=2),
        Writer(name="partial", accuracy=(0.6, 1.0), coverage=(0.0, 0.5), forms=(0.9, 0.05, 0.05)),
        Writer(
            name="vague", accuracy=(0.4, 0.9), coverage=(0.0, 0.4), forms=(1.0, 0.0, 0.0), hedges=1, vague=0.5,
        ),
    )
}  # fmt: skip
"""Writers that models are trained on."""

FRESH_WRITERS: Mapping[str, Writer] = {
    writer.name: writer
    for writer in (
        Writer(name="terse", accuracy=(0.75, 1.0), coverage=(0.6, 1.0), forms=(1.0, 0.0, 0.0)),
        Writer(
            name="bluffer", accuracy=(0.0, 0.5), coverage=(0.7, 1.0), forms=(0.0, 0.5, 0.5), details=2, flattery=0.8,
            filler=2,
        ),
        Writer(name="chatty", accuracy=(0.6, 1.0), coverage=(0.5, 1.0), forms=(0.5, 0.5, 0.0), chat=3),
        Writer(
            name="hasty_lister", accuracy=(0.2, 0.7), coverage=(0.6, 1.0), forms=(0.0, 0.0, 1.0), repeats=2,
        ),
        Writer(name="doubtful_expert", accuracy=(0.8, 1.0), coverage=(0.7, 1.0), forms=(0.7, 0.3, 0.0), hedges=2),
    )
}  # fmt: skip
"""Writers kept for response shift."""

WRITERS: Mapping[str, Writer] = {**TRAINING_WRITERS, **FRESH_WRITERS}
