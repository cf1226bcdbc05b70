"""One name for any reward: a directory, a run, a hub id, a Python function, a server, or a judge."""

from functools import partial
from pathlib import Path

import torch

from trueup.endpoints.settings import split_label
from trueup.errors import CheckpointError
from trueup.models.checkpoints import Checkpoint, load_reward_model
from trueup.models.kinds import members_of
from trueup.models.lora_checkpoints import KIND, load_lora_members, member_folders
from trueup.models.side_files import SIDE_FILE, read_side_file
from trueup.rewards.aggregates import Aggregate, aggregate_from
from trueup.rewards.base import Reward
from trueup.rewards.ensemble import Standardization
from trueup.rewards.function import import_function
from trueup.rewards.implicit import PREFIX as IMPLICIT
from trueup.rewards.implicit import load_implicit
from trueup.rewards.kept_scores import PREFIX as KEPT
from trueup.rewards.kept_scores import load_kept
from trueup.rewards.model import ModelReward
from trueup.rewards.saved_ensemble import FILE, is_ensemble, load_ensemble, read_ensemble, standardization_from
from trueup.rewards.servers import open_server

_MODEL_FILES = ("config.json", "adapter_config.json", FILE)


def load_reward(
    name: str,
    *,
    keep_hidden: bool = False,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    token_budget: int = 16_384,
    progress: bool = False,
    trust_remote_code: bool = False,
) -> Reward:
    """Load a reward.

    Args:
        name: `package.module:function`, a directory of a model or a saved ensemble, a run directory of ours (its
            `model` is taken), a hub id; `http://HOST/PATH` of a reward server or `judge:http://HOST` of a judge, their
            settings being the query (`?protocol=vllm`, `?model=NAME`); or a YAML or JSON file of settings whose `kind`
            is `http` or `judge`; `implicit:PLACE` of a policy trained by DPO (`?beta=0.1&reference=PLACE` where its
            training does not say them); `kept:FOLDER` of scores that a sweep keeps. `LABEL=` in front gives it a name
            for reports.
        keep_hidden: Whether models return hidden states and norms.
        device: Where models run; CUDA if there is one.
        dtype: Type of weights; as saved by default.
        token_budget: Token slots per forward pass.
        progress: Whether a progress bar is shown.
        trust_remote_code: Whether code that comes with a model may run.

    Raises:
        RecipeError: The function cannot be imported, or settings cannot be used.
        CheckpointError: There is no such model, or it is no reward model.
    """
    label, place = ("", name) if name.startswith(IMPLICIT) else split_label(name)
    load = partial(
        load_reward,
        device=device,
        dtype=dtype,
        token_budget=token_budget,
        progress=progress,
        trust_remote_code=trust_remote_code,
    )
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if place.startswith(KEPT):
        return load_kept(place, name=label, load=load)
    if place.startswith(IMPLICIT):
        return load_implicit(
            place,
            name=label,
            device=chosen,
            dtype=dtype,
            token_budget=token_budget,
            trust_remote_code=trust_remote_code,
        )
    server = open_server(place, label=label, progress=progress)
    if server is not None:
        return server
    if ":" in place and not Path(place).exists():
        reward = import_function(place)
        return type(reward)(reward.function, label or reward.name)
    inside = Path(place) / "model"
    source = str(inside) if any((inside / file).is_file() for file in _MODEL_FILES) else place
    named = label or Path(place).name
    if is_ensemble(source) and not _share_a_trunk(source):
        return load_ensemble(source, load=load, name=named)
    load_model = load_lora_members if is_ensemble(source) else load_reward_model
    checkpoint = load_model(source, dtype=dtype, device=chosen, trust_remote_code=trust_remote_code)
    aggregate, standardization = _combination(checkpoint, source)
    return ModelReward(
        checkpoint=checkpoint,
        name=named,
        token_budget=token_budget,
        keep_hidden=keep_hidden,
        progress=progress,
        aggregate=aggregate,
        standardization=standardization,
    )


def _share_a_trunk(source: str) -> bool:
    """Whether the members are adapters that were trained together, and are still those."""
    ensemble = read_side_file(Path(source)).get("ensemble", {})
    if ensemble.get("kind") != KIND:
        return False
    together = member_folders(source, members_of({"ensemble": ensemble}))
    return list(read_ensemble(source).members) == [str(folder) for folder in together]


def _combination(checkpoint: Checkpoint, source: str) -> tuple[Aggregate, Standardization | None]:
    """How the members of a model become one reward; the mean where its side file does not say."""
    if is_ensemble(source):
        saved = read_ensemble(source)
        return saved.aggregate, saved.standardization
    side = checkpoint.provenance.get("ensemble", {})
    try:
        constants = standardization_from(side.get("standardization"), members=checkpoint.model.members)
        return aggregate_from(side.get("aggregate", {"name": "mean"})), constants
    except ValueError as error:
        raise CheckpointError(f"{Path(source) / SIDE_FILE}: {error}") from error
