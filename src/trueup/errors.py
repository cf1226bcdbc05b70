"""Errors a user can act on: what is wrong, where, and what to do.

The command line turns every `TrueupError` into one message and exit code 2. Each class is also a built-in type, so
that library users may catch `ValueError` or `OSError` as usual.
"""

from pathlib import Path


class TrueupError(Exception):
    """Base of all errors that are the user's to mend, not ours."""


class DataError(TrueupError, ValueError):
    """A file of data cannot be used as it is.

    Args:
        found: What was found, in a few words.
        file: The file, directory or hub id that was read.
        row: Row number, counted from 1 as editors do.
        field: The column or key.
        expected: What was expected there.
        cure: What the user can do.
    """

    def __init__(
        self,
        found: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        field: str | None = None,
        expected: str | None = None,
        cure: str | None = None,
    ) -> None:
        self.found, self.file, self.row, self.field = found, file, row, field
        self.expected, self.cure = expected, cure
        place = ":".join(str(part) for part in (file, row) if part is not None)
        where = ", ".join(part for part in (place, f"field `{field}`" if field else "") if part)
        parts = [f"{where}: {found}" if where else found]
        if expected:
            parts.append(f"expected {expected}")
        if cure:
            parts.append(cure)
        super().__init__("; ".join(parts))


class RecipeError(TrueupError, ValueError):
    """A recipe, flag or hyper-parameter has a value that cannot be used."""


class CheckpointError(TrueupError, ValueError):
    """A model directory is missing, incomplete or not a reward model."""


class OutputError(TrueupError, OSError):
    """A result cannot be written: no room, no permission, or something is in the way."""


class MissingExtraError(TrueupError, ImportError):
    """An optional dependency is absent; the message names the extra to install."""


class NonFiniteError(TrueupError, FloatingPointError):
    """A loss or a reward became NaN or infinite; the offending rows have been saved."""


def first_line(error: BaseException) -> str:
    """First line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
