"""`trueup score`: rewards for a file of prompts and responses."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trueup.data.formats import read_rows
from trueup.data.rows import Row
from trueup.data.writing import check_ending, write_rows
from trueup.files import check_output
from trueup.recipes.audit_reward import DTYPES
from trueup.recipes.config import Recipe, check_range
from trueup.recipes.scoring import check_device, require_rows
from trueup.rewards.base import Scores
from trueup.rewards.load import load_reward


@dataclass(frozen=True, kw_only=True)
class Score(Recipe):
    """Score every response of a file.

    Args:
        model: Directory, run directory, hub id or `package.module:function`.
        data: File, folder or hub id with prompts and responses, in any known format.
        output: Where to write the rows with their scores (.jsonl, .jsonl.gz or .parquet).
        format: Name of the data's format; told by the first record by default.
        split: Split of a folder or hub id.
        limit: Score no more than this many rows.
        token_budget: Token slots per forward pass.
        dtype: Type of weights; as saved by default.
        device: Where the model runs; CUDA if there is one.
        trust_remote_code: Run code that comes with a model.
    """

    model: str
    data: str
    output: Path
    format: str = "auto"
    split: str | None = None
    limit: int | None = None
    token_budget: int = 16_384
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    device: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_range(self, "limit", "token_budget", low=1)


@dataclass(frozen=True)
class Scored:
    """Rows with the model's reward in place of any score they had.

    Args:
        rows: The rows.
        output: Where they were written.
    """

    rows: tuple[Row, ...]
    output: Path

    def summary(self) -> str:
        """One line."""
        count = sum(len(row.responses) for row in self.rows)
        return f"{count} responses to {len(self.rows)} prompts scored: {self.output}"


def score(recipe: Score) -> Scored:
    """Score a file and write it with the rewards.

    Raises:
        DataError: The data cannot be used.
        CheckpointError: The model cannot be used.
        OutputError: The output cannot be written; nothing is half-written.
    """
    check_ending(recipe.output)
    check_output(recipe.output, folder=False)
    check_device(recipe.device)
    file = read_rows(recipe.data, format=recipe.format, split=recipe.split, limit=recipe.limit)
    require_rows(file.rows, recipe.data)
    reward = load_reward(
        recipe.model,
        device=recipe.device,
        dtype=DTYPES[recipe.dtype] if recipe.dtype else None,
        token_budget=recipe.token_budget,
        progress=True,
        trust_remote_code=recipe.trust_remote_code,
    )
    texts = [[response.text for response in row.responses] for row in file.rows]
    rows = tuple(_with_scores(file.rows, reward.score([row.prompt for row in file.rows], texts)))
    write_rows(rows, recipe.output)
    return Scored(rows, recipe.output)


def _with_scores(rows: tuple[Row, ...], scores: Scores) -> Iterator[Row]:
    for row, values in zip(rows, scores.grouped(), strict=True):
        scored = (replace(r, score=float(v)) for r, v in zip(row.responses, values, strict=True))
        yield replace(row, responses=tuple(scored))
