"""Which prompts each round of INPO asks: fresh ones, in an order that the seed alone decides."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from trueup.data.demonstrations import PromptFile, read_prompts
from trueup.data.replies import encode_prompts
from trueup.data.rows import Prompt, prompt_text
from trueup.data.templates import TextFormat
from trueup.errors import DataError
from trueup.files import write_text
from trueup.recipes.inpo_settings import TrainInpo
from trueup.recipes.policy_prompts import refuse_trained_on

logger = logging.getLogger(__name__)

PROMPTS, LONG = "prompts.json", "dropped-prompts.jsonl"


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """Prompts dealt out to rounds.

    Args:
        file: All prompts.
        rounds: Numbers of each round's prompts in the file; no number occurs twice.
        long: Numbers of prompts that are too long for any.
    """

    file: PromptFile
    rounds: tuple[tuple[int, ...], ...]
    long: tuple[int, ...]

    def ids(self, number: int) -> tuple[str, ...]:
        """Names of the prompts of a round, counted from 1."""
        return tuple(self.file.ids[i] for i in self.rounds[number - 1])

    def prompts(self, number: int) -> tuple[Prompt, ...]:
        """The prompts of a round, counted from 1."""
        return tuple(self.file.prompts[i] for i in self.rounds[number - 1])


def deal(recipe: TrainInpo, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat) -> Dealt:
    """Read the prompts, leave out those that are too long, and deal the others out.

    Raises:
        DataError: There are no prompts, or fewer than the rounds need.
    """
    file = read_prompts(recipe.data.train, split=recipe.data.split, limit=recipe.data.limit)
    if file.problems:
        reasons = ", ".join(sorted({problem.reason for problem in file.problems}))
        logger.warning("%s: %d records cannot be used: %s", file.source, len(file.problems), reasons)
    room = recipe.max_length if form.max_length is None else min(recipe.max_length, form.max_length)
    limit = min(recipe.data.max_prompt_tokens, room - recipe.max_new_tokens)
    lengths = np.asarray([len(ids) for ids in encode_prompts(file.prompts, tokenizer=tokenizer, form=form)])
    order = np.random.default_rng(recipe.seed).permutation(len(lengths))
    usable = order[lengths[order] <= limit]
    size = recipe.prompts_per_round or len(usable) // recipe.rounds
    if not size or size * recipe.rounds > len(usable):
        others = len(lengths) - len(usable)
        long = f" ({others} others have more than {limit} tokens)" if others else ""
        raise DataError(
            f"{len(usable)} different prompts{long} are too few for {recipe.rounds} rounds of {max(size, 1)}",
            file=file.source,
            expected="prompts for each round that no round before it had",
            cure=f"give {max(size, 1) * recipe.rounds} prompts, or lower rounds or prompts_per_round",
        )
    parts = np.split(usable[: size * recipe.rounds], recipe.rounds)
    return Dealt(
        file=file,
        rounds=tuple(tuple(part.tolist()) for part in parts),
        long=tuple(np.flatnonzero(lengths > limit).tolist()),
    )


def write_dealt(recipe: TrainInpo, dealt: Dealt) -> None:
    """Write which round asks what; a run that goes on must find the prompts that it was begun with.

    Raises:
        DataError: They are others.
    """
    file, path = dealt.file, recipe.output / PROMPTS
    names = [list(dealt.ids(number)) for number in range(1, recipe.rounds + 1)]
    text = json.dumps({"source": file.source, "fingerprint": file.fingerprint, "rounds": names}, ensure_ascii=False)
    if path.is_file():
        if path.read_text(encoding="utf-8") != text + "\n":
            found = "the prompts have changed since this run was begun"
            raise DataError(found, file=file.source, cure="restore the file, or begin a new run in another output")
        return
    if dealt.long:
        records = [
            {"row": str(file.origins[i]), "reason": "too long", "prompt": prompt_text(file.prompts[i])}
            for i in dealt.long
        ]
        write_text(recipe.output / LONG, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records))
        logger.warning("%d prompts are too long (listed in %s)", len(dealt.long), recipe.output / LONG)
    used = sum(map(len, dealt.rounds))
    logger.info("%d rounds of %d prompts; %d are not asked", recipe.rounds, len(names[0]), len(file.ids) - used)
    write_text(path, text + "\n")


def watched_prompts(recipe: TrainInpo, asked: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Prompts to watch; none where the recipe names none.

    Raises:
        DataError: One of them is trained on.
    """
    if recipe.watch is None:
        return ()
    file = read_prompts(recipe.watch.prompts, split=recipe.watch.split, limit=recipe.watch.limit)
    refuse_trained_on(file, asked)
    return file.prompts
