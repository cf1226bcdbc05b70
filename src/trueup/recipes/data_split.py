"""`trueup data split`: the four distribution-shift splits of rows with several named sources."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trueup.data.formats import read_rows
from trueup.data.selection import Selection
from trueup.data.shifts import Shifts, four_shifts
from trueup.data.writing import write_rows
from trueup.files import check_output, write_text, written_together
from trueup.recipes.config import Recipe


@dataclass(frozen=True, kw_only=True)
class DataSplit(Recipe):
    """Cut scored responses of named sources into training data and four tests.

    Args:
        data: Rows whose responses have a score and a source.
        output: Folder of the five files.
        held_out_prompts: Share of prompts to hold out.
        held_out_sources: Names of sources to hold out, or how many.
        responses_per_prompt: Use no more than this many responses of each side's sources for a prompt.
        coinciding: Where two responses coincide, remove the row (as the paper does) or the later response.
        format: Name of the data's format; told by the first record by default.
        split: Split of a folder or hub id.
        seed: Chooses prompts, sources and pairs.
    """

    data: str
    output: Path
    held_out_prompts: float = 0.2
    held_out_sources: int | list[str] = 4
    responses_per_prompt: int | None = None
    coinciding: Literal["row", "response"] = "row"
    format: str = "auto"
    split: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class SplitData:
    """The five splits on disk.

    Args:
        shifts: The rows and what was removed.
        files: Path of each split.
    """

    shifts: Shifts
    files: Mapping[str, Path]

    def summary(self) -> str:
        """Sizes and files."""
        sizes = self.shifts.sizes()
        head = f"{'split':<18}{'prompts':>9}{'responses':>11}{'pairs':>9}"
        lines = [
            f"{name:<18}{size['prompts']:>9}{size['responses']:>11}{size['pairs']:>9}  {self.files[name]}"
            for name, size in sizes.items()
        ]
        removed = ", ".join(f"{count} {reason}" for reason, count in self.shifts.removed_counts().items())
        sources = f"held-out sources: {', '.join(self.shifts.held_out_sources)}"
        return "\n".join([head, *lines, sources, f"removed: {removed or 'nothing'}"])


def data_split(recipe: DataSplit) -> SplitData:
    """Write train, in-domain, prompt-, response- and mutual-disjoint files, what was removed, and the sizes.

    Raises:
        DataError: Scores or sources are missing, or a split would be empty.
        OutputError: The folder cannot be written.
    """
    check_output(recipe.output, folder=True)
    file = read_rows(recipe.data, format=recipe.format, split=recipe.split)
    shifts = four_shifts(
        file.rows,
        held_out_prompts=recipe.held_out_prompts,
        held_out_sources=recipe.held_out_sources,
        responses_per_prompt=recipe.responses_per_prompt,
        coinciding=recipe.coinciding,
        seed=recipe.seed,
    )
    files = {name: recipe.output / f"{name}.jsonl.gz" for name in shifts.splits()}
    facts: dict[str, object]
    facts = {"source": file.source, "fingerprint": file.fingerprint, "seed": recipe.seed, "sizes": shifts.sizes()}
    facts |= {"train_sources": shifts.train_sources, "held_out_sources": shifts.held_out_sources}
    with written_together(recipe.output) as place:
        for name, rows in shifts.splits().items():
            write_rows(rows, place / files[name].name)
        Selection((), shifts.removed).write(place / "removed.jsonl")
        write_text(place / "split.json", json.dumps(facts, indent=1) + "\n")
    return SplitData(shifts, files)
