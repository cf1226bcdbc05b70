"""Fields that hold several choices from one table."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from trueup.recipes.config import Choice, choice


def choices(table: Mapping[str, type[Any]], *, default: str) -> Any:
    """Type of a field that holds a list of a table's classes; one stands for a list of it, "none" for an empty one."""
    return Annotated[list[choice(table, default=default)], BeforeValidator(_several), Choice(table)]  # type: ignore[misc]


def _several(value: Any) -> Any:
    if value is None or value == "none":
        return []
    return value if isinstance(value, list | tuple) else [value]
