"""`trueup train inpo`: rounds of drawing, comparing and learning, each held to the policy of the round before."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback

from trueup.data.rows import Prompt
from trueup.data.templates import TextFormat
from trueup.endpoints.failure import EndpointError
from trueup.files import write_text
from trueup.merging.adapter import write_merged
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.models.side_files import read_side_file
from trueup.recipes.inpo_oracle import open_oracle
from trueup.recipes.inpo_pairs import Round, make_pairs, read_provenance
from trueup.recipes.inpo_prompts import Dealt, deal, watched_prompts, write_dealt
from trueup.recipes.inpo_settings import InpoWatch, TrainInpo
from trueup.recipes.inpo_watch import watch_round
from trueup.recipes.resume import open_whole
from trueup.recipes.train_preference import train_preference
from trueup.train.devices import First, failing_together, join_processes

__all__ = ["InpoWatch", "PlayedRounds", "TrainInpo", "train_inpo"]

logger = logging.getLogger(__name__)

ROUNDS = "rounds.json"


@dataclass(frozen=True)
class PlayedRounds:
    """What the rounds leave behind.

    Args:
        model: Folder of the last policy.
        rounds: What `rounds.json` says of each round.
    """

    model: Path
    rounds: Sequence[Mapping[str, Any]]

    def summary(self) -> str:
        """Some lines for each round, and where the last policy is."""
        return "\n".join([*(line for one in self.rounds for line in _told(one)), f"policy: {self.model}"])


def train_inpo(recipe: TrainInpo, *, callbacks: Sequence[TrainerCallback] = ()) -> PlayedRounds:
    """Play all rounds that are missing; stopped anywhere, the same command with --resume ends in the same weights.

    Raises:
        DataError: Prompts cannot be used or are fewer than the rounds need, or no prompt of a round gives a pair.
        RecipeError: The oracle cannot be used, or the recipe is not the one that the run was begun with.
        CheckpointError: A model or a checkpoint to resume from cannot be used.
        OutputError: The folder cannot be written, or holds an earlier run and nothing says to go on with it.
        EndpointError: The oracle's server failed for good; everything drawn, answered and trained until then is saved.
        NonFiniteError: The loss became NaN.
    """
    first = join_processes(batch_size=recipe.batch_size)
    with failing_together():
        form, dealt = _prepare(recipe)
        watched = watched_prompts(recipe, [dealt.file.prompts[i] for part in dealt.rounds for i in part])
    # an oracle that there is not stops the run here, not after hours of drawing
    open_whole(recipe, first, prepare=lambda: open_oracle(recipe))
    first.does(lambda: write_dealt(recipe, dealt))
    played: list[Mapping[str, Any]] = []
    for this in _rounds(recipe, dealt):
        try:
            _train(recipe, this, form=form, first=first, callbacks=callbacks)
            first.does(partial(_note, recipe, this, played, watched=watched))
        except EndpointError:
            logger.warning("stopped in round %d; the same command with --resume asks only what is missing", this.number)
            raise
    return PlayedRounds(_place(recipe, recipe.rounds), json.loads((recipe.output / ROUNDS).read_text("utf-8")))


def _prepare(recipe: TrainInpo) -> tuple[TextFormat, Dealt]:
    """How the start reads text, and what each round asks."""
    start = load_policy_checkpoint(recipe.model, trust_remote_code=recipe.trust_remote_code)
    return start.form, deal(recipe, tokenizer=start.tokenizer, form=start.form)


def _place(recipe: TrainInpo, number: int) -> Path:
    """Where the policy of a round is; that of round 0 is the start."""
    return recipe.output / f"round-{number}" / ("merged" if recipe.lora else "model") if number else Path(recipe.model)


def _rounds(recipe: TrainInpo, dealt: Dealt) -> list[Round]:
    return [
        Round(
            number=number,
            start=str(_place(recipe, number - 1)) if number > 1 else recipe.model,
            folder=recipe.output / f"round-{number}",
            policy=_place(recipe, number),
            ids=dealt.ids(number),
            prompts=dealt.prompts(number),
        )
        for number in range(1, recipe.rounds + 1)
    ]


def _train(
    recipe: TrainInpo, this: Round, *, form: TextFormat, first: First, callbacks: Sequence[TrainerCallback]
) -> None:
    """Make a round's policy, unless it is there."""
    if not this.model.is_dir():
        logger.info("round %d of %d: %d prompts", this.number, recipe.rounds, len(this.prompts))
        first.does(lambda: make_pairs(recipe, this))
        _learn(recipe, this, form=form, callbacks=callbacks)
    first.does(partial(_merge, recipe, this))


def _merge(recipe: TrainInpo, this: Round) -> None:
    """Work an adapter into the policy that it was trained on."""
    if not this.policy.is_dir():
        write_merged(this.model, this.policy, trust_remote_code=recipe.trust_remote_code)


def _learn(recipe: TrainInpo, this: Round, *, form: TextFormat, callbacks: Sequence[TrainerCallback]) -> None:
    """Train on a round's pairs."""
    # a model of others does not say how it reads text: it learns it as it was asked
    kind: Literal["auto", "chat", "plain"] = "auto" if read_side_file(Path(this.start)) else form.kind
    training = recipe.training(
        this.number, start=this.start, folder=this.folder, text_format=kind, max_length=form.max_length
    )
    train_preference(training, callbacks=callbacks)


def _note(recipe: TrainInpo, this: Round, played: list[Mapping[str, Any]], *, watched: Sequence[Prompt]) -> None:
    """Write down what has become of the rounds until now."""
    played.append(_measure(recipe, this, watched=watched))
    write_text(recipe.output / ROUNDS, json.dumps(played, indent=1, ensure_ascii=False) + "\n")


def _measure(recipe: TrainInpo, this: Round, *, watched: Sequence[Prompt]) -> dict[str, Any]:
    """What `rounds.json` says of a round."""
    known = read_provenance(this)
    names = ("round", "prompts", "pairs", "dropped", "comparisons", "unfinished")
    told = {name: known[name] for name in names} | {"model": str(this.policy)}
    told["dropped_in_training"] = read_side_file(this.model).get("dropped", {})
    if watched:
        places = [recipe.model, *(str(_place(recipe, number)) for number in range(1, this.number + 1))]
        told["watch"] = watch_round(recipe, this.number, places=places, prompts=watched)
    return told


def _told(one: Mapping[str, Any]) -> list[str]:
    reasons = ", ".join(f"{count} {reason}" for reason, count in one["dropped"].items())
    counts = f"{one['pairs']} pairs of {one['prompts']} prompts"
    lines = [f"round {one['round']}: {counts}" + (f" (no pair: {reasons})" if reasons else "")]
    for name, words in (("previous", "the round before"), ("start", "the start")):
        if "watch" in one:
            found = one["watch"][name]
            rate, kl = _interval(found["win_rate"]), _interval(found["kl"])
            lines.append(f"  against {words}: win rate {rate}, KL {kl} nats")
    return lines


def _interval(estimate: Mapping[str, Any]) -> str:
    ends = [estimate["low"], estimate["high"]]
    shown = "" if None in ends else f" [{ends[0]:.3g}, {ends[1]:.3g}]"
    return f"{estimate['value']:.3g}{shown}"
