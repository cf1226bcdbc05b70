"""`trueup train modpo`: one policy for each weighting of several objectives, and the front that they make."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from trueup.recipes.modpo_front import measure_front, told, watched
from trueup.recipes.modpo_settings import ModpoWatch, TrainModpo
from trueup.recipes.places import fingerprint_of
from trueup.recipes.preference_settings import TrainPreference
from trueup.recipes.resume import open_whole
from trueup.recipes.train_preference import train_preference
from trueup.rewards.implicit import PREFIX, split_place
from trueup.rewards.kept_scores import keep_scores
from trueup.rewards.load import load_reward
from trueup.train.devices import join_processes

__all__ = ["ModpoWatch", "TrainModpo", "TrainedFront", "train_modpo"]

logger = logging.getLogger(__name__)

_SMALLEST = 0.05


@dataclass(frozen=True)
class TrainedFront:
    """What a sweep leaves behind.

    Args:
        models: Folder of each policy, by name.
        front: What `front.json` says; empty where nothing was watched.
    """

    models: Mapping[str, Path]
    front: Mapping[str, Any]

    def summary(self) -> str:
        """A line for each policy, and the hypervolume."""
        return "\n".join(told(self.models, self.front))


def train_modpo(recipe: TrainModpo, *, callbacks: Sequence[TrainerCallback] = ()) -> TrainedFront:
    """Train all policies that are missing, and measure them; stopped anywhere, the same command with --resume goes on.

    Raises:
        DataError: Preferences or watched prompts cannot be used.
        RecipeError: A reward cannot be used or has changed, or the recipe is not the one the sweep was begun with.
        CheckpointError: A model or a checkpoint to resume from cannot be used.
        OutputError: The folder cannot be written, or holds an earlier sweep and nothing says to go on with it.
        EndpointError: A reward's server failed for good.
        NonFiniteError: A loss became NaN, or a reward is not finite.
    """
    first = join_processes(batch_size=recipe.batch_size)
    open_whole(recipe, first, prepare=lambda: _check_early(recipe))
    for label, run in recipe.margin_runs.items():
        _train(run, f"margin model of {label}", callbacks=callbacks)
    first.does(lambda: _keep_scores(recipe))
    runs = recipe.runs
    for number, (name, run) in enumerate(runs.items(), 1):
        _train(run, f"{name} ({number} of {len(runs)})", callbacks=callbacks)
    models = {name: run.output / "model" for name, run in runs.items()}
    return TrainedFront(models, first.finds(lambda: measure_front(recipe, models)) if recipe.watch is not None else {})


def _keep_scores(recipe: TrainModpo) -> None:
    for label, place in recipe.places.items():
        keep_scores(recipe.scores_folder(label), place=place, identity=_identity(place))


def _check_early(recipe: TrainModpo) -> None:
    """Stop here, not after hours of training, where what is needed in the end cannot be used."""
    small = [vector for vector in recipe.weights if vector[0] < _SMALLEST]
    if small:
        logger.warning(
            "weights %s: margins are divided by the first weight and grow large; train on another objective's "
            "preferences there",
            small[0],
        )
    if recipe.watch is not None:
        watched(recipe)
        for place in recipe.evaluators.values():
            load_reward(place, token_budget=recipe.token_budget, trust_remote_code=recipe.trust_remote_code)


def _identity(place: str) -> str:
    """What tells a reward from another one at its place."""
    if not place.startswith(PREFIX):
        return fingerprint_of(place) or ""
    where, settings = split_place(place)
    parts = [fingerprint_of(one) or "" for one in (where, settings.reference) if one is not None]
    return " ".join(parts)


def _train(run: TrainPreference, words: str, *, callbacks: Sequence[TrainerCallback]) -> None:
    """Make a policy, unless it is there."""
    if (run.output / "model").is_dir():
        return
    logger.info("modpo: %s", words)
    train_preference(run, callbacks=callbacks)
