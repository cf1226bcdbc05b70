"""`trueup merge soup | slerp | liti | ema`: one model from several, by their weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from trueup.errors import OutputError, RecipeError
from trueup.files import check_output
from trueup.functional.params import ema_shares, soup_shares
from trueup.merging.checks import model_folder
from trueup.merging.merge import RECORD, Merged, merge_checkpoints
from trueup.merging.shares import Shares, same_shares, spherical
from trueup.recipes.config import Recipe, check_range
from trueup.recipes.places import fingerprint_of
from trueup.recipes.provenance import versions

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SETTINGS = ("weights", "share", "groups", "eta", "decay", "dtype")
"""Of whichever recipe, what `merge.json` repeats; the models come with their fingerprints."""


@dataclass(frozen=True, kw_only=True)
class _Merge(Recipe):
    """What all merges share.

    Args:
        models: Folders of whole models with safetensors weights, or run directories.
        output: Folder of the merged model.
        dtype: Type of the merged weights; by default the models', which must agree.
        overwrite: Replace an earlier merge of that name.
    """

    models: list[str]
    output: Path
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if len(self.models) < 2:
            raise RecipeError(f"a merge needs two models or more, got {len(self.models)}")


@dataclass(frozen=True, kw_only=True)
class MergeSoup(_Merge):
    """Average models that were fine-tuned from one base.

    Args:
        weights: How much each model counts, in their order; all the same by default.
    """

    weights: list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.weights
        if weights is not None and len(weights) != len(self.models):
            raise RecipeError(f"weights must be one for each of {len(self.models)} models, got {len(weights)}")
        if weights is not None and not (all(0 <= weight < math.inf for weight in weights) and sum(weights) > 0):
            raise RecipeError(f"weights must be at least 0, finite and not all 0, got {weights}")


@dataclass(frozen=True, kw_only=True)
class MergeSlerp(_Merge):
    """Merge models spherically around the base they were trained from, as WARP does.

    Args:
        base: The model that all of them started from.
        share: Of the second of two models, from 0 to 1; by default the m-th model gets 1/m, in their order.
        groups: One angle for each layer, as in the paper, or for each tensor.
    """

    base: str
    share: float | None = None
    groups: Literal["layer", "tensor"] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "share", low=0, high=1)
        if self.share is not None and len(self.models) != 2:
            raise RecipeError(f"share belongs to two models, got {len(self.models)}; leave it out")


@dataclass(frozen=True, kw_only=True)
class MergeLiti(_Merge):
    """Go from a start, the first model, towards an end, the second.

    Args:
        eta: How far: 0 is the start, 1 the end, more than 1 beyond it.
    """

    eta: float = 0.3

    def __post_init__(self) -> None:
        if len(self.models) != 2:
            raise RecipeError(f"two models are needed, the start and the end, got {len(self.models)}")
        if not math.isfinite(self.eta):
            raise RecipeError(f"eta must be finite, got {self.eta}")


@dataclass(frozen=True, kw_only=True)
class MergeEma(_Merge):
    """Moving average over checkpoints of one run, the earliest first.

    Args:
        decay: What the average keeps of itself at each checkpoint, from 0 to 1.
    """

    decay: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "decay", low=0, high=1)


def merge_soup(recipe: MergeSoup) -> Merged:
    """Write the average; errors as in `merge_checkpoints`."""
    return _merge(recipe, recipe.models, same_shares(soup_shares(len(recipe.models), recipe.weights)))


def merge_slerp(recipe: MergeSlerp) -> Merged:
    """Write the spherical merge; errors as in `merge_checkpoints`."""
    shares = spherical(share=recipe.share, groups=recipe.groups)
    return _merge(recipe, [recipe.base, *recipe.models], shares, like=1)


def merge_liti(recipe: MergeLiti) -> Merged:
    """Write the interpolation, with the end's tokenizer and text format; errors as in `merge_checkpoints`."""
    return _merge(recipe, recipe.models, same_shares([1 - recipe.eta, recipe.eta]), like=1)


def merge_ema(recipe: MergeEma) -> Merged:
    """Write the moving average; errors as in `merge_checkpoints`."""
    return _merge(recipe, recipe.models, same_shares(ema_shares(len(recipe.models), decay=recipe.decay)))


def _merge(recipe: Any, models: Sequence[str], shares: Shares, *, like: int = 0) -> Merged:
    folders = [model_folder(str(Path(name).expanduser())) for name in models]
    check_place(recipe.output, folders, overwrite=recipe.overwrite)
    method = type(recipe).__name__.removeprefix("Merge").lower()
    settings = {name: getattr(recipe, name) for name in _SETTINGS if hasattr(recipe, name)}
    places = zip(models, folders, strict=True)
    inputs = [{"model": name, "fingerprint": fingerprint_of(str(folder))} for name, folder in places]
    record = {"method": method, "settings": settings, "models": inputs, "like": like, "versions": versions()}
    dtype = DTYPES[recipe.dtype] if recipe.dtype else None
    return merge_checkpoints(folders, recipe.output, shares=shares, like=like, dtype=dtype, record=record)


def check_place(output: Path, folders: Sequence[Path], *, overwrite: bool) -> None:
    """Nothing but an earlier merge is ever replaced, and never a model that is merged."""
    check_output(output, folder=True)
    place = output.resolve()
    for folder in folders:
        if folder.resolve().is_relative_to(place):
            raise OutputError(f"{output}: holds the model {folder} that is to be merged; name another place")
    if output.is_dir() and any(output.iterdir()) and not (overwrite and (output / RECORD).is_file()):
        raise OutputError(f"{output}: is not empty; choose another --output, or --overwrite an earlier merge")
