"""Drawing from policies, comparing and verifying what was drawn, and scoring held-out pairs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import TypeAdapter, ValidationError
from scipy.special import expit
from torch import Tensor
from tqdm import tqdm

from trueup.data.branches import BranchRow, joint_pairs
from trueup.data.rows import Prompt, Row
from trueup.errors import DataError, RecipeError
from trueup.measure.policy_audit_records import Drawn, Judged, PairScores, Texts
from trueup.models.branch_model import check_sharing
from trueup.models.policy import PolicyModel
from trueup.models.reading import logprobs
from trueup.policies.base import Policy, Sample
from trueup.policies.model import ModelPolicy
from trueup.recipes.offline_policies import Made, in_words
from trueup.recipes.preference_settings import TrainPreference
from trueup.recipes.runs import weighted_rewards
from trueup.rewards.base import Reward
from trueup.rewards.function import FunctionReward
from trueup.rewards.oracle import PreferenceOracle, ask_both_orders
from trueup.rewards.reward_oracle import RewardOracle
from trueup.train.dataset import BranchDataset
from trueup.train.implied_rewards import batch_of_given, implied_rewards
from trueup.train.model_sampling import StartedSample
from trueup.train.policy_sampling import PolicySampler
from trueup.train.prepare import prepare_pairs
from trueup.train.references import ModelReference

Array = np.ndarray
Load = Callable[[str], PolicyModel]

PLAIN = "log pi - log pi_ref"
"""The reward that is taken where the method implies none, in words."""

_PROMPTS_AT_ONCE, _ROWS_AT_ONCE = 128, 1024


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How responses are drawn.

    Args:
        samples: To each prompt.
        temperature: At which; it is the policy's own, and only noted here.
        seed: Of the draws.
    """

    samples: int
    temperature: float
    seed: int


def seed_of(seed: int, *, role: int, place: int) -> int:
    """A seed for each role (0 for policies, 1 for the reference) and temperature: no two sets of answers share one.

    A policy and its reference with the same random numbers would say the same wherever they agree, and a win rate is
    about answers that are drawn apart.
    """
    return int(np.random.SeedSequence([seed, role, place]).generate_state(1)[0])


def draw(policy: Policy, prompts: Sequence[Prompt], how: Draws, *, start: ModelReference | None = None) -> Drawn:
    """Responses to all prompts; with a reference, also its log-probabilities of the very tokens that were drawn."""
    groups: list[Sequence[Sample]] = []
    sampler = _quiet(policy) if start is None else PolicySampler(policy=_quiet(policy), start=start)  # type: ignore[arg-type]
    with tqdm(total=len(prompts) * how.samples, desc=f"sample {policy.name}", leave=False) as bar:
        for part in _parts(prompts, _PROMPTS_AT_ONCE):
            groups += sampler.sample(part, how.samples, seed=how.seed)
            bar.update(len(part) * how.samples)
    return Drawn(
        temperature=how.temperature,
        texts=tuple(tuple(one.text for one in group) for group in groups),
        tokens=_table(groups, lambda one: one.tokens),
        finished=_table(groups, lambda one: one.finished),
        logprob=_known(groups, lambda one: one.logprob),
        reference_logprob=_known(groups, lambda one: one.start_logprob if isinstance(one, StartedSample) else None),
    )


def _quiet(policy: Policy) -> Policy:
    return replace(policy, progress=False) if isinstance(policy, ModelPolicy) else policy


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(values), size):
        yield values[first : first + size]


def _table(groups: Sequence[Sequence[Sample]], read: Callable[[Sample], Any]) -> Float[Array, "prompts samples"]:
    return np.array([[read(one) for one in group] for group in groups], np.float64)


def _known(
    groups: Sequence[Sequence[Sample]], read: Callable[[Sample], float | None]
) -> Float[Array, "prompts samples"] | None:
    """The table, or None where any value is not known."""
    missing = any(read(one) is None for group in groups for one in group)
    return None if missing else _table(groups, read)


def verified(verifier: FunctionReward, prompts: Sequence[Prompt], texts: Texts) -> Int[Array, "prompts samples"]:
    """What a verifier says of each response.

    Raises:
        RecipeError: It fails, or says anything but 0 or 1.
    """
    values = verifier.score(prompts, texts).reward
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if len(wrong):
        raise RecipeError(
            f"{verifier.name} returned {values[wrong[0]]:g} for response {wrong[0]}; a verifier returns 0 or 1 "
            "(a reward of other values is --reward)"
        )
    return values.reshape(len(texts), -1).astype(np.int64)


def compared(
    oracle: PreferenceOracle, prompts: Sequence[Prompt], *, ours: Texts, theirs: Texts, comparisons: int
) -> Judged:
    """The first responses of both to each prompt, held against each other in both orders."""
    each = [prompt for prompt in prompts for _ in range(comparisons)]
    first, second = ([text for group in texts for text in group[:comparisons]] for texts in (ours, theirs))
    both = ask_both_orders(oracle, each, first=first, second=second)
    shape = (len(prompts), comparisons)
    return Judged(
        forward=both.forward.reshape(shape),
        backward=both.backward.reshape(shape),
        decided=isinstance(oracle, RewardOracle),
    )


def compared_by_reward(
    ours: Float[Array, "prompts samples"], theirs: Float[Array, "prompts samples"], *, comparisons: int
) -> Judged:
    """The same by rewards that are known already: who has more is preferred."""
    margin = ours[:, :comparisons] - theirs[:, :comparisons]
    return Judged(forward=expit(margin), backward=expit(-margin), decided=True)


def rewarded(reward: Reward, prompts: Sequence[Prompt], texts: Texts) -> Float[Array, "prompts samples"]:
    """Rewards of all responses.

    Raises:
        RecipeError: One is not finite.
    """
    values = np.asarray(reward.score(prompts, texts).reward, np.float64).reshape(len(texts), -1)
    if not np.isfinite(values).all():
        raise RecipeError(f"{reward.name} gives a response a reward that is not finite; it cannot compare")
    return values


def score_pairs(
    policy: ModelPolicy, reference: PolicyModel, rows: Sequence[Row], *, about: Made, budget: int, load: Load
) -> PairScores:
    """Log-probabilities of held-out pairs, and the reward that the policy's own method takes it to imply.

    Args:
        policy: The policy; its text format makes the tokens, which both are asked about.
        reference: What its method is held against.
        rows: Rows with pairs, those of one prompt together.
        about: Which method it was trained by; plain log-ratios where that is not known, or implies no reward.
        budget: Token slots of one pass.
        load: Loads another policy, for methods that look at that of the round before.

    Raises:
        DataError: No pair fits the policy's length.
        RecipeError: What the method needs cannot be had.
    """
    known = policy.checkpoint
    dataset = prepare_pairs(rows, tokenizer=known.tokenizer, form=known.form).dataset
    if not len(dataset):
        raise DataError(f"none of {len(rows)} rows of pairs fits {policy.name}'s {known.form.max_length} tokens")
    given = [dataset[i] for i in range(len(dataset))]
    ours, theirs = (_logprobs(model, given, budget=budget) for model in (known.model, reference))
    more = {"reference": theirs, **_needed(about, given, dataset, budget=budget, load=load)}
    batch = batch_of_given(given, ours, **more)
    method = about.objective
    held = batch_of_given(given, theirs)
    sums = [_branch_sums(one.logprob, batch.branch, len(batch.prompt)) for one in (batch, held)]
    reward = sums[0] - sums[1] if method is None else implied_rewards(method, batch).numpy()
    return PairScores(
        reward=reward,
        policy=sums[0],
        reference=sums[1],
        prompt=_prompts_of(dataset)[batch.prompt.numpy()],
        pairs=joint_pairs(given),
        length=np.array([length for row in given for length in row.branch_lengths]),
        formula=PLAIN if method is None else f"implied by {in_words(about.method, method)}",
    )


def _branch_sums(values: Tensor, branch: Tensor, count: int) -> Float[Array, " branches"]:
    return np.bincount(branch.numpy(), weights=values.numpy(), minlength=count)


def _prompts_of(dataset: BranchDataset) -> Int[Array, " rows"]:
    """Number of each row's prompt."""
    number: dict[Prompt, int] = {}
    return np.array([number.setdefault(dataset.text(i).prompt, len(number)) for i in range(len(dataset))])


def _logprobs(model: PolicyModel, rows: Sequence[BranchRow], *, budget: int) -> list[Tensor]:
    check_sharing(model, rows[:2])
    found: list[Tensor] = []
    with tqdm(total=len(rows), desc="pairs", unit="row", leave=False) as bar:
        for part in _parts(rows, _ROWS_AT_ONCE):
            found += logprobs(model, part, token_budget=budget)
            bar.update(len(part))
    return found


def _needed(
    about: Made, given: Sequence[BranchRow], dataset: BranchDataset, *, budget: int, load: Load
) -> dict[str, list[Tensor]]:
    """What else the method needs of each row."""
    method = about.objective
    needs = set() if method is None else set(method.needs)
    found: dict[str, list[Tensor]] = {}
    if "previous" in needs:
        found["previous"] = _logprobs(load(str(about.recipe.get("model"))), given, budget=budget)
    if "reward" in needs:
        found["reward"] = _other_rewards(about, dataset)
    return found


def _other_rewards(about: Made, dataset: BranchDataset) -> list[Tensor]:
    """Rewards of the other objectives, as the run weighed them."""
    try:
        recipe = TypeAdapter(TrainPreference).validate_python(dict(about.recipe))
    except ValidationError as error:
        raise RecipeError(f"{about.place}: its recipe cannot be read, so the rewards are not known") from error
    rows = [dataset.text(i) for i in range(len(dataset))]
    reward = weighted_rewards(recipe, recipe.rewards, recipe.weights)
    texts = [[one.text for one in row.responses] for row in rows]
    values = torch.from_numpy(np.asarray(reward.score([row.prompt for row in rows], texts).reward))
    return list(torch.split(values, [len(group) for group in texts]))
