"""How a result came about, as the foot of a page prints it."""

from collections.abc import Mapping

import yaml


def provenance(created_by: object, intervals: object) -> tuple[dict[str, str], str]:
    """Short facts, and the recipe as text.

    Args:
        created_by: What a measured mapping says of its making; `recipe` is YAML or a mapping.
        intervals: How its intervals were made.
    """
    facts: dict[str, str] = {}
    recipe = ""
    for key, value in created_by.items() if isinstance(created_by, Mapping) else ():
        if key == "recipe":
            recipe = value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        elif value is not None:
            facts[str(key).replace("_", " ")] = _fact(value)
    if isinstance(intervals, Mapping):
        facts["intervals"] = _fact(intervals)
    return facts, recipe


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items() if item is not None)
    return ", ".join(map(_fact, value)) if isinstance(value, list | tuple) else str(value)
