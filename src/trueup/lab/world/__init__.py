"""The small language world: prompts, writers with habits, and a gold reward that is a program.

`World` is the way in. Everything is generated from facts and phrases written for it; nothing is downloaded.
"""

from trueup.lab.world.comparisons import World
from trueup.lab.world.gold import Features
from trueup.lab.world.prompts import CORE_FAMILIES, FRESH_FAMILIES, parse_prompt
from trueup.lab.world.records import WorldPrompt
from trueup.lab.world.writers import FRESH_WRITERS, TRAINING_WRITERS

__all__ = [
    "CORE_FAMILIES",
    "FRESH_FAMILIES",
    "FRESH_WRITERS",
    "TRAINING_WRITERS",
    "Features",
    "World",
    "WorldPrompt",
    "parse_prompt",
]
