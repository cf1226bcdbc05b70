"""`trueup merge adapter`: a whole model from an adapter and its base."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trueup.merging.adapter import MergedAdapter, adapter_folder, write_merged
from trueup.recipes.config import Recipe
from trueup.recipes.merge import DTYPES, check_place
from trueup.recipes.places import fingerprint_of
from trueup.recipes.provenance import versions


@dataclass(frozen=True, kw_only=True)
class MergeAdapter(Recipe):
    """Work an adapter into the base it was trained on: a whole model, which any verb trains on from.

    Args:
        model: Folder of a policy's or a reward model's adapter, or a run directory.
        output: Folder of the whole model.
        dtype: Type of its weights; sums are made in float32 and rounded once.
        overwrite: Replace an earlier merge of that name.
        trust_remote_code: Whether code that comes with the base may run.
    """

    model: str
    output: Path
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    overwrite: bool = False
    trust_remote_code: bool = False


def merge_adapter(recipe: MergeAdapter) -> MergedAdapter:
    """Write the whole model.

    Raises:
        CheckpointError: The adapter or its base is missing or damaged, or is neither policy nor reward model.
        OutputError: The folder cannot be written, or holds something else than an earlier merge.
    """
    folder = adapter_folder(Path(recipe.model).expanduser())
    check_place(recipe.output, [folder], overwrite=recipe.overwrite)
    record = {"method": "adapter", "fingerprint": fingerprint_of(str(folder)), "versions": versions()}
    return write_merged(
        folder,
        recipe.output,
        dtype=DTYPES[recipe.dtype],
        record=record,
        trust_remote_code=recipe.trust_remote_code,
    )
