"""Typed access to a raw record, with errors that say what was found and what was expected."""

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trueup.data.files import json_type
from trueup.data.rows import Message, Origin, Prompt
from trueup.errors import DataError


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one record, or of one object inside it.

    A null counts as absent, because Parquet writes absent fields as null.

    Args:
        origin: Where the record was read.
        values: Its fields.
        path: Where these fields lie within the record, such as `responses[2].`; empty at the top.
    """

    origin: Origin
    values: Mapping[str, Any]
    path: str = ""

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def first_of(self, *names: str) -> str | None:
        """The first of these fields that is there, or None."""
        return next((name for name in names if self.has(name)), None)

    def wrong(self, name: str, *, expected: str, cure: str | None = None) -> DataError:
        """An error that says what the field holds and what it should hold."""
        if self.values.get(name) is None:
            found = "the field is null" if name in self.values else "the field is missing"
        else:
            value = self.values[name]
            found = f"found {json_type(value)} {_excerpt(value)}"
        return self.error(found, name, expected=expected, cure=cure)

    def error(self, found: str, name: str, *, expected: str | None = None, cure: str | None = None) -> DataError:
        """An error at one field of this record."""
        file, row = self.origin.file, self.origin.row
        return DataError(found, file=file, row=row, field=self.path + name, expected=expected, cure=cure)

    def text(self, name: str) -> str:
        """A required string."""
        value = self.values.get(name)
        if isinstance(value, str):
            return value
        raise self.wrong(name, expected="a string")

    def optional_name(self, *names: str) -> str | None:
        """The first of these fields that is there, as a name; whole numbers become text."""
        name = self.first_of(*names)
        if name is None:
            return None
        value = self.values[name]
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return _digits(value) if isinstance(value, int) else value
        raise self.wrong(name, expected="a string or a whole number")

    def number(self, name: str) -> float:
        """A required finite number."""
        number = as_number(self.values.get(name))
        if number is None:
            raise self.wrong(name, expected="a finite number")
        return number

    def optional_number(self, *names: str) -> float | None:
        """The first of these fields that is there, as a finite number."""
        name = self.first_of(*names)
        return None if name is None else self.number(name)

    def flag(self, name: str) -> bool:
        """A required boolean; 0 and 1 count as such."""
        value = self.values.get(name)
        if isinstance(value, (bool, int, float)) and value in (0, 1):
            return bool(value)
        raise self.wrong(name, expected="true or false")

    def items(self, name: str) -> list[Any]:
        """A required list with at least one entry."""
        value = self.values.get(name)
        if isinstance(value, (list, tuple)) and value:
            return list(value)
        raise self.wrong(name, expected="a list with at least one entry")

    def texts(self, name: str) -> list[str]:
        """A required list of strings."""
        values = self.items(name)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise Fields(self.origin, {"": value}, f"{self.path}{name}[{index}]").wrong("", expected="a string")
        return values

    def objects(self, name: str) -> Iterator["Fields"]:
        """A required list of objects, each with access of its own."""
        for index, value in enumerate(self.items(name)):
            place = f"{self.path}{name}[{index}]"
            if not isinstance(value, Mapping):
                raise Fields(self.origin, {"": value}, place).wrong("", expected="an object")
            yield Fields(self.origin, value, f"{place}.")

    def messages(self, name: str) -> tuple[Message, ...]:
        """A required list of `{"role": ..., "content": ...}`."""
        return tuple(Message(turn.text("role"), turn.text("content")) for turn in self.objects(name))

    def prompt(self, name: str) -> Prompt:
        """A required prompt: a string or chat messages."""
        value = self.values.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, (list, tuple)):
            return self.messages(name)
        raise self.wrong(name, expected='a string or a list of {"role", "content"}')

    def numbers(self, name: str) -> dict[str, float]:
        """An optional object of finite numbers, empty where absent; nulls in it are left out."""
        value = self.values.get(name)
        if value is None:
            return {}
        named = _as_mapping(value)
        if named is None:
            raise self.wrong(name, expected="an object of numbers")
        inside = Fields(self.origin, named, f"{self.path}{name}.")
        return {key: inside.number(key) for key in named if inside.has(key)}


def as_number(value: object) -> float | None:
    """A finite float, or None where the value is no such thing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _as_mapping(value: object) -> Mapping[str, Any] | None:
    """An object, or the list of (key, value) that Parquet makes of one; None for anything else."""
    if isinstance(value, Mapping):
        return value if all(isinstance(key, str) for key in value) else None
    if isinstance(value, (list, tuple)):
        pairs = [pair for pair in value if isinstance(pair, (list, tuple)) and len(pair) == 2]
        if len(pairs) == len(value) and all(isinstance(key, str) for key, _ in pairs):
            return {key: number for key, number in pairs}
    return None


def _digits(value: int) -> str:
    """Decimal digits of a whole number, or hexadecimal ones where Python refuses so long a decimal."""
    try:
        return str(value)
    except ValueError:
        return hex(value)


def _excerpt(value: object) -> str:
    """A short rendering, safe for deep and long values."""
    try:
        text = reprlib.repr(value)
    except ValueError:
        return ""
    return text if len(text) <= 60 else text[:57] + "..."
