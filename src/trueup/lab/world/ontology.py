"""All that is known in the world: entities, their attributes, and look-ups by word."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from trueup.lab.world.language import article
from trueup.lab.world.schema import Attribute, Entity, Table
from trueup.lab.world.tables_made import CONTAINERS, GARMENTS, INSTRUMENTS, TOOLS, VEHICLES
from trueup.lab.world.tables_nature import ANIMALS, FOODS, MINERALS, PLANTS
from trueup.lab.world.tables_people import GAMES, PLACES, WORKERS

TABLES: tuple[Table, ...] = (
    ANIMALS, FOODS, PLANTS, MINERALS, TOOLS, INSTRUMENTS, VEHICLES, GARMENTS, CONTAINERS, WORKERS, PLACES, GAMES,
)  # fmt: skip

SIZES = ("tiny", "small", "large", "huge")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entity.

    Args:
        name: Singular, the key everywhere.
        plural: As prompts name several.
        pronoun: What "it" reads as.
        attributes: By name, in order.
        members: Names of its entities, in order.
        values: Values in use of each attribute, in order of first use.
        meaning: The attribute that a value belongs to.
    """

    name: str
    plural: str
    pronoun: str
    attributes: Mapping[str, Attribute]
    members: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    meaning: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ontology:
    """The world's facts.

    Args:
        kinds: By singular name.
        entities: By name.
        names: Entity name by every word that names it, singular or plural.
        kind_words: Kind by singular and plural.
    """

    kinds: Mapping[str, Kind]
    entities: Mapping[str, Entity]
    names: Mapping[str, str]
    kind_words: Mapping[str, str]

    def kind_of(self, name: str) -> Kind:
        """Kind of a named entity."""
        return self.kinds[self.entities[name].kind]

    def value(self, name: str, attribute: str) -> str:
        """What is true of an entity; `kind` counts as an attribute."""
        entity = self.entities[name]
        return entity.kind if attribute == "kind" else entity.values[attribute]

    def some(self, name: str) -> str:
        """The entity as a text first names it: "a fox", "rice"."""
        return name if self.entities[name].bare else article(name)

    def the(self, name: str) -> str:
        """The entity as a text names it again: "the fox", "rice"."""
        return name if self.entities[name].bare else f"the {name}"

    def predicate(self, kind: str, attribute: str, value: str) -> str:
        """What one says of an entity that has the value: "lives in the forest"."""
        if attribute == "kind":
            return f"is {article(value)}"
        return self.kinds[kind].attributes[attribute].fact.format(v=value, a_v=article(value))

    def say(self, name: str, attribute: str, value: str) -> str:
        """The predicate that gives an entity a value, true or not."""
        return self.predicate(self.entities[name].kind, attribute, value)

    def fact(self, name: str, attribute: str) -> str:
        """The true predicate of an entity."""
        return self.say(name, attribute, self.value(name, attribute))

    def clause(self, kind: str, attribute: str, value: str) -> str:
        """What one says of several entities: "live in the forest"; empty where none reads well."""
        return self.kinds[kind].attributes[attribute].clause.format(v=value, a_v=article(value))

    def find(self, kind: str, text: str) -> tuple[str, str] | None:
        """Attribute and value of a predicate or clause about a kind, or None if it is neither."""
        for word in text.split():
            attribute = self.kinds[kind].meaning.get(word)
            if attribute and text in (self.predicate(kind, attribute, word), self.clause(kind, attribute, word)):
                return attribute, word
        return None

    def holders(self, kind: str, attribute: str, value: str) -> tuple[str, ...]:
        """Names of the entities of a kind that have a value."""
        return tuple(m for m in self.kinds[kind].members if self.entities[m].values[attribute] == value)


def _entities(table: Table) -> list[Entity]:
    names = [attribute.name for attribute in table.attributes]
    found = []
    for line in table.lines.split("\n"):
        if words := line.split():
            values = dict(zip(names, words[1:], strict=True))
            found.append(Entity(words[0].lstrip("~"), table.singular, values, words[0].startswith("~")))
    return found


def _kind(table: Table, entities: list[Entity]) -> Kind:
    values = {
        attribute.name: tuple(dict.fromkeys(entity.values[attribute.name] for entity in entities))
        for attribute in table.attributes
    }
    return Kind(
        name=table.singular,
        plural=table.plural,
        pronoun=table.pronoun,
        attributes={attribute.name: attribute for attribute in table.attributes},
        members=tuple(entity.name for entity in entities),
        values=values,
        meaning={value: name for name, options in values.items() for value in options},
    )


def plural(name: str) -> str:
    """Regular plural of an entity's name."""
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


@cache
def load_ontology() -> Ontology:
    """The world's facts, built once."""
    groups = [(table, _entities(table)) for table in TABLES]
    entities = {entity.name: entity for _, group in groups for entity in group}
    names = {plural(name): name for name in entities} | {name: name for name in entities}
    kinds = {table.singular: _kind(table, group) for table, group in groups}
    words = {word: kind.name for kind in kinds.values() for word in (kind.name, kind.plural)}
    return Ontology(kinds, entities, names, words)
