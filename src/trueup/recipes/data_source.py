"""What every training recipe says of its data: where rows come from, and how they become text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trueup.data.demonstrations import Which, select_demonstrations
from trueup.data.formats import read_rows
from trueup.data.noise import flip_labels
from trueup.data.rowfile import RowFile
from trueup.data.selection import Selection, select
from trueup.errors import DataError, RecipeError
from trueup.recipes.config import Recipe, check_range


@dataclass(frozen=True, kw_only=True)
class DataSource(Recipe):
    """Where rows come from.

    Args:
        train: File, folder or hub id to learn from.
        eval: File, folder or hub id to watch while training.
        format: Name of the data's format; told by the first record by default.
        train_split: Split of a folder or hub id to learn from.
        eval_split: Split of a folder or hub id to watch.
        limit: Use no more than this many rows.
        text_format: Whether turns are rendered by the chat template (chat) or text is taken as it is (plain).
        max_length: Longest sequence in tokens.
        too_long: Whether rows beyond that are dropped (and listed), or cut: prompts on the left, then responses.
        drop_duplicates: Drop rows that repeat an earlier row.
        cache: Folder of tokenised data sets; the user's cache folder by default.
    """

    train: str
    eval: str | None = None
    format: str = "auto"
    train_split: str | None = None
    eval_split: str | None = None
    limit: int | None = None
    text_format: Literal["auto", "chat", "plain"] = "auto"
    max_length: int = 2048
    too_long: Literal["drop", "truncate"] = "drop"
    drop_duplicates: bool = False
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise RecipeError(f"max_length must be at least 2 tokens, got {self.max_length}")
        check_range(self, "limit", low=1)

    def read(self, source: str, split: str | None) -> RowFile:
        """Read one source."""
        return read_rows(source, format=self.format, split=split, limit=self.limit)

    def select_demonstrations(self, file: RowFile, *, which: Which) -> Selection:
        """Keep responses that may be imitated, each by itself.

        Raises:
            DataError: No row is usable.
        """
        chosen = select_demonstrations(
            file.rows, problems=file.problems, which=which, drop_duplicates=self.drop_duplicates
        )
        return _some(chosen, file.source, expected="rows with a prompt and at least one response that is not empty")


@dataclass(frozen=True, kw_only=True)
class PreferenceSource(DataSource):
    """Where preferences come from.

    Args:
        drop_empty: Drop responses without text.
        drop_contradictory: Drop rows stated the other way round elsewhere.
        flip: Share of labels to flip, for experiments with noise.
    """

    drop_empty: bool = False
    drop_contradictory: bool = False
    flip: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "flip", low=0, high=1)

    def select(self, file: RowFile, *, seed: int, noisy: bool) -> Selection:
        """Keep usable rows; flip labels where that is asked for.

        Raises:
            DataError: No row is usable.
        """
        chosen = select(
            file.rows,
            problems=file.problems,
            drop_empty=self.drop_empty,
            drop_duplicates=self.drop_duplicates,
            drop_contradictory=self.drop_contradictory,
        )
        _some(chosen, file.source, expected="rows with at least two different responses and a preference between them")
        if self.flip and noisy:
            return Selection(tuple(flip_labels(chosen.kept, self.flip, seed)), chosen.dropped)
        return chosen


def _some(chosen: Selection, source: str, *, expected: str) -> Selection:
    """The selection, unless nothing is left."""
    if not chosen.kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in chosen.summary().items())
        raise DataError(f"zero usable rows ({reasons or 'no rows at all'})", file=source, expected=expected)
    return chosen
