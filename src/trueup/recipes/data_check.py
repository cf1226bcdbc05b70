"""`trueup data check`: what preference data hold, and what is wrong with them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trueup.data.branches import shared_prefix
from trueup.data.checks import DataReport, check_rows
from trueup.data.formats import read_rows
from trueup.data.rows import Row
from trueup.data.templates import encode, infer_format, render_row
from trueup.errors import RecipeError
from trueup.files import check_output, write_text
from trueup.models.tokenizers import load_tokenizer
from trueup.recipes.config import Recipe, check_range


@dataclass(frozen=True, kw_only=True)
class DataCheck(Recipe):
    """Look at preference data before training on them.

    Args:
        files: The data; further files are compared with the first for prompts in common.
        tokenizer: Directory or hub id of a tokenizer or model, to count tokens; characters are counted without.
        max_length: Length that truncation is counted at.
        text_format: Whether turns are rendered by the chat template or text is taken as it is.
        format: Name of the data's format; told by the first record by default.
        split: Split of folders and hub ids.
        output: Also write the report as JSON here.
        strict: Turn problems into errors.
        trust_remote_code: Run code that comes with a tokenizer.
    """

    files: list[str]
    tokenizer: str | None = None
    max_length: int | None = None
    text_format: Literal["auto", "chat", "plain"] = "auto"
    format: str = "auto"
    split: str | None = None
    output: Path | None = None
    strict: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.files:
            raise RecipeError("no file is named; write `trueup data check FILE`")
        check_range(self, "max_length", low=1)


@dataclass(frozen=True)
class CheckedData:
    """Reports on one or several files."""

    reports: tuple[DataReport, ...]

    def summary(self) -> str:
        """All reports as text."""
        return "\n\n".join(report.render() for report in self.reports)


def data_check(recipe: DataCheck) -> CheckedData:
    """Report on each file; with `strict`, problems are errors.

    Raises:
        DataError: A file cannot be read, or `strict` is set and there are problems.
    """
    if recipe.output is not None:
        check_output(recipe.output, folder=False)
    files = [read_rows(name, format=recipe.format, split=recipe.split) for name in recipe.files]
    reports = []
    for number, file in enumerate(files):
        other = files[0] if number else None
        lengths = _TokenLengths(recipe, file.rows) if recipe.tokenizer else None
        reports.append(check_rows(file, other=other, lengths=lengths, max_length=recipe.max_length))
    if recipe.output is not None:
        write_text(recipe.output, json.dumps([report.to_dict() for report in reports], indent=1, default=str) + "\n")
    if recipe.strict:
        for report in reports:
            report.raise_if_strict()
    return CheckedData(tuple(reports))


class _TokenLengths:
    """Tokens of the shared prompt, then of each response beyond it, as training would count them."""

    def __init__(self, recipe: DataCheck, rows: tuple[Row, ...]) -> None:
        self.tokenizer = load_tokenizer(str(recipe.tokenizer), trust_remote_code=recipe.trust_remote_code)
        self.form = infer_format(rows, self.tokenizer, max_length=None, kind=recipe.text_format)

    def __call__(self, row: Row) -> list[int]:
        texts = render_row(row, tokenizer=self.tokenizer, form=self.form)
        encoded = encode(texts, tokenizer=self.tokenizer, form=self.form, truncate=False)
        shared = shared_prefix(encoded)
        return [shared, *(len(ids) - shared for ids in encoded)]
