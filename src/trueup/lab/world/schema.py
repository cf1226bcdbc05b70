"""Shapes of the world's data: attributes, tables and entities."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that can be known of every entity of a kind.

    Args:
        name: The word prompts use for it.
        fact: Predicate about one entity; `{v}` is the value, `{a_v}` the value with its article.
        clause: Predicate about several entities, or empty where none reads well.
    """

    name: str
    fact: str
    clause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A kind and its entities, one line each: the name, then one value per attribute."""

    singular: str
    plural: str
    attributes: tuple[Attribute, ...]
    lines: str
    pronoun: str = "it"


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing of the world.

    Args:
        name: One lower-case word, unique in the world.
        kind: Singular name of its kind.
        values: Value of each attribute, in the kind's order.
        bare: True if the name takes no article.
    """

    name: str
    kind: str
    values: Mapping[str, str]
    bare: bool = False
