"""`trueup train warp`: runs from one start, merged, and again; then the front from the start to the last merge."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from trueup.anchors import ANCHORS
from trueup.anchors.ema import ExponentialAverage
from trueup.anchors.warp import MergePiece, RunPiece, Warp, carry_out, pending
from trueup.data.demonstrations import read_prompts
from trueup.data.rows import Prompt
from trueup.errors import RecipeError
from trueup.files import write_text
from trueup.merging.checks import model_folder
from trueup.policies.model import load_model_policy
from trueup.recipes.config import choice
from trueup.recipes.policy_settings import TrainPolicy
from trueup.recipes.resume import open_whole
from trueup.recipes.train_policy import load_rewards, train_policy
from trueup.rewards.base import Reward
from trueup.rewards.load import load_reward
from trueup.train.devices import join_processes
from trueup.train.policy_sampling import PolicySampler
from trueup.train.references import ModelReference

logger = logging.getLogger(__name__)

FRONT = "front.json"


@dataclass(frozen=True, kw_only=True)
class TrainWarp(TrainPolicy):
    """Optimise policies by WARP: an average of the run's own weights as anchor, spherical merges, and a way back.

    Everything but the following is what each run is made with; runs differ by their seed.

    Args:
        iterations: How often runs are trained and merged.
        runs: Policies of one iteration.
        eta: How far each next start goes from the last one towards the merge.
        front: How far the models at the end go from the start towards the last merge.
        kl_coefficient: Weight of the KL to the moving average, per nat.
    """

    iterations: int = 3
    runs: int = 2
    eta: float = 0.3
    front: list[float] = field(default_factory=lambda: [0.1, 0.3, 0.5, 0.8, 1.0])
    anchor: choice(ANCHORS, default="ema") = field(default_factory=ExponentialAverage)  # type: ignore[valid-type]
    kl_coefficient: float = 0.1
    temperature: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora is not None:
            raise RecipeError("warp merges whole models; leave out lora, or merge the adapters' models by trueup merge")
        _ = self.procedure

    @property
    def procedure(self) -> Warp:
        """What is made of what."""
        return Warp(iterations=self.iterations, runs=self.runs, eta=self.eta, front=tuple(self.front))

    def run(self, piece: RunPiece) -> TrainPolicy:
        """The recipe of one run."""
        own = {one.name: getattr(self, one.name) for one in fields(TrainPolicy)}
        place = piece.output
        begun = any(place.glob("checkpoint-*"))
        number = (piece.iteration - 1) * self.runs + piece.number - 1
        return TrainPolicy(
            **own | {"model": str(piece.start), "output": place, "seed": self.seed + number, "resume": begun}
        )


@dataclass(frozen=True)
class WarpedPolicies:
    """What the procedure leaves behind.

    Args:
        front: Folder of each model at the end, by how far it goes.
        measured: Reward, gold and KL to the start of each on the watched prompts; empty where none are watched.
    """

    front: Mapping[float, Path]
    measured: Mapping[float, Mapping[str, float]]

    def summary(self) -> str:
        """The front, a line each."""
        lines = []
        for eta, folder in self.front.items():
            found = self.measured.get(eta, {})
            words = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
            lines.append(f"eta {eta:g}: {folder}" + (f" ({words})" if words else ""))
        return "\n".join(lines)


def train_warp(recipe: TrainWarp, *, callbacks: Sequence[TrainerCallback] = ()) -> WarpedPolicies:
    """Make all runs and merges that are missing; stopped in the middle, the same command with --resume goes on.

    Raises:
        OutputError: The folder cannot be written, or holds an earlier run and nothing says to go on with it.
        CheckpointError, DataError, EndpointError, NonFiniteError: As `train_policy`.
    """
    first = join_processes(batch_size=recipe.batch_size)
    open_whole(recipe, first)
    pieces = recipe.procedure.pieces(Path(recipe.model), recipe.output)
    # looked at by one: others might see a merge that it has begun with since
    left = first.finds(lambda: pending(pieces, finished=lambda run: (run.output / "model").is_dir()))
    for number, piece in enumerate(left, 1):
        logger.info("warp: %s (%d of %d)", piece.output.relative_to(recipe.output), number, len(left))
        if isinstance(piece, RunPiece):
            train_policy(recipe.run(piece), callbacks=callbacks)
        else:
            first.does(partial(_merge, piece))
    front = {eta: recipe.output / "front" / f"eta-{eta:g}" for eta in recipe.front}
    measured = first.finds(lambda: _measured(recipe, front)) if recipe.watch is not None else {}
    return WarpedPolicies(front, measured)


def _merge(piece: MergePiece) -> None:
    """Carry out a merge, of the models that are in run directories."""
    models = tuple(model_folder(str(place)) for place in piece.models)
    carry_out(replace(piece, start=model_folder(str(piece.start)), models=models))


def _measured(recipe: TrainWarp, front: Mapping[float, Path]) -> dict[float, dict[str, float]]:
    """Each model of the front on the watched prompts, at its distance from the start; written down."""
    watch = recipe.watch
    assert watch is not None
    prompts = read_prompts(watch.prompts, split=watch.split, limit=watch.limit).prompts
    start = ModelReference(load_model_policy(recipe.model).checkpoint.model, token_budget=recipe.token_budget)
    judges = {"reward": load_rewards(recipe)}
    if watch.gold is not None:
        judges["gold"] = load_reward(watch.gold, trust_remote_code=recipe.trust_remote_code)
    found = {}
    for eta, folder in front.items():
        policy = load_model_policy(str(folder), max_new_tokens=recipe.max_new_tokens)
        found[eta] = _look(PolicySampler(policy=policy, start=start), prompts, judges, recipe=recipe)
    write_text(recipe.output / FRONT, json.dumps({f"{eta:g}": one for eta, one in found.items()}) + "\n")
    return found


def _look(
    sampler: PolicySampler, prompts: Sequence[Prompt], judges: Mapping[str, Reward], *, recipe: TrainWarp
) -> dict[str, float]:
    assert recipe.watch is not None
    samples: list[list[Any]] = list(sampler.sample(prompts, recipe.watch.samples, seed=recipe.seed))
    texts = [[one.text for one in group] for group in samples]
    scores = {name: float(judge.score(prompts, texts).reward.mean()) for name, judge in judges.items()}
    kl = [one.logprob - one.start_logprob for group in samples for one in group]
    return {"kl": float(np.mean(kl)), **scores}
