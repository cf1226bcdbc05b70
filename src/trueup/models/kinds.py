"""What kind of model a checkpoint was saved as."""

from collections.abc import Mapping
from typing import Any

from trueup.errors import CheckpointError


def members_of(side: Mapping[str, Any]) -> int:
    """Heads of the model that a side file describes."""
    return int(side["ensemble"]["size"]) if "ensemble" in side else 1


def refuse_other_kinds(name: str, missing: set[str], unexpected: set[str]) -> None:
    """A head of another shape loads too, without what does not fit; its scores would be wrong."""
    if missing:
        raise CheckpointError(
            f"{name}: the checkpoint lacks {', '.join(sorted(missing)[:3])}, which would be drawn at random; "
            "it was saved as another kind of model: train it with `trueup train reward` first"
        )
    heads = sorted(key for key in unexpected if key.split(".")[0] in ("score", "classifier"))
    if heads:
        raise CheckpointError(
            f"{name}: the checkpoint's head has {', '.join(heads[:3])}, which a sequence classifier would leave out; "
            "it was saved as another kind of model"
        )
