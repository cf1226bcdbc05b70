"""What responses weigh, found once before the first step: rewards, values of prompts, advantages."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from trueup.data.demonstrations import read_prompts
from trueup.data.fingerprint import content_hash
from trueup.data.replies import encode_prompts
from trueup.data.rows import Origin, Prompt
from trueup.data.templates import TextFormat
from trueup.errors import DataError, NonFiniteError
from trueup.models.generation import Sampling
from trueup.models.policy import PolicyModel
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.model import ModelPolicy
from trueup.recipes.advantage_rows import (
    Found,
    check_positive,
    key_of,
    load_found,
    priorities_of,
    save_found,
    summary_of,
    texts_of,
    with_weights,
)
from trueup.recipes.preference_settings import TrainPreference
from trueup.recipes.runs import weighted_rewards
from trueup.rewards.base import Reward
from trueup.train.dataset import BranchDataset
from trueup.train.prepare import Prepared
from trueup.train.prompt_values import fit_prompt_values, prompt_ids, prompt_values
from trueup.train.reference_cache import pass_budget

logger = logging.getLogger(__name__)

Array = np.ndarray
ReferenceModel = Callable[[], AbstractContextManager[PolicyModel]]
"""Opens the reference, in evaluation mode and where it computes."""


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Rows that know what their responses weigh.

    Args:
        prepared: The rows by split; those to learn from are without responses whose advantage is not positive.
        priorities: What each row to learn from is drawn in proportion to; None where rows are shuffled.
        facts: Plain values that say what was found.
    """

    prepared: Mapping[str, Prepared]
    priorities: tuple[float, ...] | None
    facts: Mapping[str, Any]


def weigh(
    recipe: TrainPreference,
    prepared: Mapping[str, Prepared],
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    reference: ReferenceModel,
    kept: bool,
) -> Weighed:
    """Score all responses, subtract what the reference's own would earn, and leave out what is not better.

    What was found is written into the run's folder.

    Args:
        recipe: What to do.
        prepared: Tokenised rows by split; shared prefixes are whole prompts.
        tokenizer: The policy's.
        form: How text becomes tokens.
        reference: Opens the reference; called only where values are fitted.
        kept: Whether what the run's folder says of the same rows is taken.

    Raises:
        DataError: A reward lies outside [0, R_max], or no response has a positive weight.
        NonFiniteError: A reward is NaN or an infinity.
    """
    datasets = {name: one.dataset for name, one in prepared.items()}
    if not all(map(len, datasets.values())):
        return Weighed(prepared=prepared, priorities=None, facts={})
    key = key_of(datasets)
    found = load_found(recipe.output, datasets, key=key) if kept else None
    if found is None:
        found = _find(recipe, datasets, tokenizer=tokenizer, form=form, reference=reference)
        save_found(recipe.output, datasets, found, key=key)
    facts = summary_of(recipe, found)
    check_positive(recipe, found)
    known = {name: with_weights(recipe, one, found, split=name) for name, one in prepared.items()}
    logger.info("%(positive)d of %(responses)d responses have a positive weight", facts)
    return Weighed(prepared=known, priorities=priorities_of(recipe, known["train"].dataset), facts=facts)


# Finding


def _find(
    recipe: TrainPreference,
    datasets: Mapping[str, BranchDataset],
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    reference: ReferenceModel,
) -> Found:
    reward = weighted_rewards(recipe, recipe.rewards, recipe.weights)
    rewards = {}
    for name, dataset in datasets.items():
        rows = texts_of(dataset)
        texts = [[one.text for one in row.responses] for row in rows]
        rewards[name] = _rewards(recipe, reward, [row.prompt for row in rows], texts, origins=[r.origin for r in rows])
    if not recipe.fits_values:
        return Found(rewards=rewards, values=None, facts={})
    asked, origins = _development(recipe, datasets["train"], tokenizer=tokenizer, form=form)
    how, budget = recipe.valuing, partial(pass_budget, recipe.token_budget)
    with reference() as model:
        checkpoint = PolicyCheckpoint(model, tokenizer, form)
        ids, replies = _answers(recipe, checkpoint, asked)
        earned = _rewards(recipe, reward, asked, replies, origins=origins)
        fitted = fit_prompt_values(
            model,
            ids,
            [group.tolist() for group in earned],
            reward_max=recipe.weighing.reward_max,
            token_budget=budget(model.device),
            fitting=how.fitting(seed=recipe.seed),
        )
        values = {
            name: prompt_values(model, _prompts(one), fitted.head, token_budget=budget(model.device)).double().numpy()
            for name, one in datasets.items()
        }
    facts = {
        "development_prompts": len(asked),
        "samples": how.samples,
        "mean_reference_reward": float(np.concatenate(earned).mean()),
        "errors": list(fitted.errors),
        "epoch": fitted.epoch,
    }
    return Found(rewards=rewards, values=values, facts=facts)


def _answers(
    recipe: TrainPreference, checkpoint: PolicyCheckpoint, asked: Sequence[Prompt]
) -> tuple[list[list[int]], list[list[str]]]:
    """Token ids of prompts, and the reference's own responses to each."""
    policy = ModelPolicy(
        checkpoint=checkpoint,
        name="reference",
        sampling=Sampling(max_new_tokens=recipe.valuing.max_new_tokens),
        token_budget=recipe.token_budget,
        progress=True,
    )
    ids, drawn = policy.draw(asked, recipe.valuing.samples, seed=content_hash("values", recipe.seed) % 2**32)
    return ids, [policy.texts(prompt, some) for prompt, some in zip(asked, drawn, strict=True)]


def _prompts(dataset: BranchDataset) -> list[list[int]]:
    """Token ids of prompts alone; rows tokenised for rewards would share the beginning of responses as well."""
    return prompt_ids([dataset[i] for i in range(len(dataset))])


def _rewards(
    recipe: TrainPreference,
    reward: Reward,
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    *,
    origins: Sequence[Origin],
) -> list[Float[Array, " k"]]:
    """R of each response, between 0 and R_max."""
    how = recipe.weighing
    scores = np.asarray(reward.score(prompts, texts).reward, np.float64)
    owners = np.repeat(np.arange(len(texts)), [len(group) for group in texts])
    if not np.isfinite(scores).all():
        origin = origins[owners[np.flatnonzero(~np.isfinite(scores))[0]]]
        raise NonFiniteError(f"{origin}: a reward of a response to its prompt is not finite; mend the reward")
    if how.scale == "sigmoid":
        scores = how.reward_max * np.exp(-np.logaddexp(0, -scores))
    outside = np.flatnonzero((scores < 0) | (scores > how.reward_max))
    if len(outside):
        origin = origins[owners[outside[0]]]
        raise DataError(
            f"a response to this prompt has reward {scores[outside[0]]:g} ({len(outside)} of {len(scores)} do not fit)",
            file=origin.file,
            row=origin.row,
            expected=f"rewards in [0, {how.reward_max:g}]",
            cure="set advantage.scale to sigmoid for scores of reward models, or advantage.reward_max to the largest",
        )
    return np.split(scores, np.cumsum([len(group) for group in texts])[:-1])


def _development(
    recipe: TrainPreference, train: BranchDataset, *, tokenizer: PreTrainedTokenizerBase, form: TextFormat
) -> tuple[list[Prompt], list[Origin]]:
    """Prompts that the reference answers, and where they were read."""
    how = recipe.valuing
    if how.development is not None:
        file = read_prompts(how.development, split=how.split)
        found = dict(zip(file.prompts, file.origins, strict=True))
    else:
        found = {row.prompt: row.origin for row in reversed(texts_of(train))}
    prompts = list(found)
    limit = recipe.data.max_length - how.max_new_tokens
    lengths = [len(ids) for ids in encode_prompts(prompts, tokenizer=tokenizer, form=form)]
    short = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length <= limit]
    if len(short) < 2:
        raise DataError(
            f"{len(short)} of {len(prompts)} different prompts leave room for a response of the reference",
            file=how.development or recipe.data.train,
            expected=f"at least 2 prompts of up to {limit} tokens",
            cure=f"raise data.max_length ({recipe.data.max_length}), lower advantage.value.max_new_tokens "
            f"({how.max_new_tokens}), or name more prompts as advantage.value.development",
        )
    if len(short) < len(prompts):
        logger.warning(
            "%d of %d prompts are too long for values to be fitted to", len(prompts) - len(short), len(prompts)
        )
    order = np.random.default_rng([recipe.seed, 1]).permutation(len(short))[: how.prompts]
    asked = [short[i] for i in sorted(order.tolist())]
    return asked, [found[prompt] for prompt in asked]
