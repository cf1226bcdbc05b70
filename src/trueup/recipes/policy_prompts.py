"""Which prompts a policy is trained on, and which it is watched on."""

import json
import logging
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from trueup.data.demonstrations import PromptFile, read_prompts
from trueup.data.replies import encode_prompts
from trueup.data.rows import Prompt, prompt_text
from trueup.data.templates import TextFormat
from trueup.errors import DataError
from trueup.files import write_text
from trueup.recipes.policy_settings import TrainPolicy

logger = logging.getLogger(__name__)


def usable_prompts(
    recipe: TrainPolicy, file: PromptFile, tokenizer: PreTrainedTokenizerBase, form: TextFormat
) -> list[Prompt]:
    """Prompts that are short enough.

    Raises:
        DataError: They are fewer than one rollout asks.
    """
    kept = _short_enough(recipe, file, tokenizer, form)
    wanted = recipe.rhythm.prompts
    if len(kept) < wanted:
        raise DataError(
            f"{len(kept)} different prompts that are short enough are fewer than the {wanted} of one rollout",
            file=file.source,
            cure=f"give more prompts, or lower batch_size ({recipe.batch_size}) or minibatches ({recipe.minibatches})",
        )
    return kept


def watched_prompts(
    recipe: TrainPolicy, prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, form: TextFormat
) -> list[Prompt]:
    """Prompts to watch.

    Raises:
        DataError: One of them is trained on.
    """
    if recipe.watch is None:
        return []
    file = read_prompts(recipe.watch.prompts, split=recipe.watch.split, limit=recipe.watch.limit)
    refuse_trained_on(file, prompts)
    kept = _short_enough(recipe, file, tokenizer, form)
    if len(kept) < len(file.prompts):
        logger.warning("%d of %d watched prompts are too long", len(file.prompts) - len(kept), len(file.prompts))
    return kept


def _short_enough(
    recipe: TrainPolicy, file: PromptFile, tokenizer: PreTrainedTokenizerBase, form: TextFormat
) -> list[Prompt]:
    limit = recipe.data.max_prompt_tokens
    if form.max_length is not None:
        limit = min(limit, form.max_length - recipe.max_new_tokens)
    lengths = [len(ids) for ids in encode_prompts(file.prompts, tokenizer=tokenizer, form=form)]
    kept = [prompt for prompt, length in zip(file.prompts, lengths, strict=True) if length <= limit]
    if not kept:
        raise DataError(
            f"all {len(lengths)} prompts have more than {limit} tokens",
            file=file.source,
            cure=f"raise data.max_prompt_tokens, or lower max_new_tokens ({recipe.max_new_tokens}) if the policy's "
            f"length ({form.max_length}) is what limits them",
        )
    return kept


def list_long(recipe: TrainPolicy, file: PromptFile, kept: Sequence[Prompt]) -> int:
    """List what is too long beside the run; returns how many there are."""
    known = set(kept)
    long = [(origin, prompt) for origin, prompt in zip(file.origins, file.prompts, strict=True) if prompt not in known]
    if long:
        path = recipe.output / "dropped-train.jsonl"
        lines = [{"row": str(origin), "reason": "too long", "prompt": prompt_text(prompt)} for origin, prompt in long]
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
        logger.warning("%d prompts used; %d are too long (listed in %s)", len(kept), len(long), path)
    return len(long)


def refuse_trained_on(file: PromptFile, prompts: Sequence[Prompt]) -> None:
    """Stop if a prompt to watch is among those that are trained on.

    Raises:
        DataError: One is.
    """
    known = set(prompts)
    shared = [origin for origin, prompt in zip(file.origins, file.prompts, strict=True) if prompt in known]
    if shared:
        raise DataError(
            f"{len(shared)} of {len(file.prompts)} watched prompts are trained on",
            file=shared[0].file,
            row=shared[0].row,
            expected="prompts that are held out",
            cure="take them out of data.train, or watch others",
        )
