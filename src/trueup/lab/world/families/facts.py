"""What several families share: saying facts, true or false, and checking them."""

from collections.abc import Iterable, Sequence

import numpy as np

from trueup.lab.world.language import chance, pick, sample
from trueup.lab.world.ontology import Ontology
from trueup.lab.world.reading import Statement, is_true
from trueup.lab.world.records import Claim

WRONG_DETAIL = 0.5
"""Cost of a wrong fact nobody asked for, in claims."""


def stated(ontology: Ontology, name: str, attribute: str, *, accuracy: float, generator: np.random.Generator) -> str:
    """A value to state of an entity: the true one with probability `accuracy`, else another of the kind's."""
    true = ontology.value(name, attribute)
    if attribute == "kind" or chance(generator, accuracy):
        return true
    return pick(generator, [v for v in ontology.kind_of(name).values[attribute] if v != true])


def details(
    ontology: Ontology, names: Sequence[str], *, avoid: Iterable[str] = (), generator: np.random.Generator
) -> tuple[str, ...]:
    """One more true fact about each of some entities, as sentences without stop."""
    shunned = set(avoid)
    found = []
    for name in names:
        known = [a for a in ontology.kind_of(name).attributes if a not in shunned]
        found.append(f"{ontology.some(name)} {ontology.fact(name, pick(generator, known))}")
    return tuple(found)


def kept(points: Sequence[str], coverage: float, generator: np.random.Generator) -> list[str]:
    """Points that a writer makes: each with probability `coverage`, in order, at least one."""
    made = [point for point in points if chance(generator, coverage)]
    return made or sample(generator, points, 1)


def check_facts(
    ontology: Ontology, statements: Iterable[Statement], wanted: Iterable[Claim]
) -> tuple[set[Claim], float]:
    """Wanted facts that were stated, and the cost of wrong ones.

    A wrong value of a wanted fact costs one claim, any other wrong fact `WRONG_DETAIL`; each is counted once.
    A denial that is true is worth nothing, so that denying everything else gains nothing.
    """
    asked = frozenset(wanted)
    right: set[Claim] = set()
    wrong: dict[Statement, float] = {}
    for statement in statements:
        claim = ("fact", statement.entity, statement.attribute)
        if not is_true(statement, ontology):
            wrong[statement] = 1.0 if claim in asked else WRONG_DETAIL
        elif claim in asked and not statement.negated:
            right.add(claim)
    return right, sum(wrong.values())
