"""Prompts of the world: drawn from families, and recovered from their text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache

import numpy as np

from trueup.errors import DataError, RecipeError
from trueup.lab.world.families.arithmetic import Arithmetic
from trueup.lab.world.families.compare import Compare
from trueup.lab.world.families.guess import Guess
from trueup.lab.world.families.how_to import HowTo
from trueup.lab.world.families.list_things import ListThings
from trueup.lab.world.families.odd_one_out import OddOneOut
from trueup.lab.world.families.ordering import Ordering
from trueup.lab.world.families.true_or_false import TrueOrFalse
from trueup.lab.world.families.what_is import WhatIs
from trueup.lab.world.language import pick
from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.records import Family, WorldPrompt

CORE_FAMILIES = ("list", "what_is", "compare", "arithmetic", "how_to")
"""Families that models are trained on."""

FRESH_FAMILIES = ("true_or_false", "odd_one_out", "guess", "ordering")
"""Families kept for prompt shift."""

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        ListThings(), WhatIs(), Compare(), Arithmetic(), HowTo(), TrueOrFalse(), OddOneOut(), Guess(), Ordering(),
    )
}  # fmt: skip

SLOT = re.compile(r"\{(a_)?([a-z]+)\}")


def known_families(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if they are all families.

    Raises:
        RecipeError: If one is not, or there are none.
    """
    unknown = [name for name in names if name not in FAMILIES]
    if unknown or not names:
        raise RecipeError(f"families must be some of {', '.join(FAMILIES)}; got {', '.join(unknown) or 'none'}")
    return tuple(names)


def compose(family: str, phrasing: int, slots: Mapping[str, str]) -> WorldPrompt | None:
    """The prompt that a phrasing and its slots make; None if the slots make no sense."""
    world = load_ontology()
    needs = FAMILIES[family].needs(world, phrasing, slots)
    if needs is None:
        return None
    text = SLOT.sub(
        lambda slot: world.some(slots[slot[2]]) if slot[1] else slots[slot[2]],
        FAMILIES[family].phrasings[phrasing],
    )
    return WorldPrompt(family, phrasing, dict(slots), text, needs)


def draw_prompt(generator: np.random.Generator, families: Sequence[str] = CORE_FAMILIES) -> WorldPrompt:
    """One prompt of a family chosen uniformly."""
    name = pick(generator, families)
    while True:
        prompt = compose(name, *FAMILIES[name].draw(load_ontology(), generator))
        if prompt is not None:
            return prompt


@lru_cache(maxsize=65536)
def parse_prompt(text: str) -> WorldPrompt:
    """Recover a prompt from its text.

    Raises:
        DataError: If the world cannot have asked this.
    """
    for family, phrasing, pattern in _patterns():
        if match := pattern.fullmatch(text):
            prompt = compose(family, phrasing, match.groupdict())
            if prompt is not None and prompt.text == text:
                return prompt
    raise DataError(
        f"prompt {text[:80]!r} is not one of the small language world",
        field="prompt",
        expected="a text made by `World.prompts`",
        cure="score other prompts with another reward",
    )


@cache
def _patterns() -> tuple[tuple[str, int, re.Pattern[str]], ...]:
    return tuple(
        (name, number, re.compile("".join(_pattern_parts(phrasing))))
        for name, family in FAMILIES.items()
        for number, phrasing in enumerate(family.phrasings)
    )


def _pattern_parts(phrasing: str) -> Iterator[str]:
    end, seen = 0, set[str]()
    for slot in SLOT.finditer(phrasing):
        yield re.escape(phrasing[end : slot.start()])
        name = slot[2]
        body = "[a-z]+" if slot[1] else "[A-Za-z0-9 ,]+?"
        optional = "(?:an? )?" if slot[1] else ""
        yield f"{optional}(?P={name})" if name in seen else f"{optional}(?P<{name}>{body})"
        seen.add(name)
        end = slot.end()
    yield re.escape(phrasing[end:])
