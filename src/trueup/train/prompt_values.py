"""V(x) of A-LoL: what a reference's own responses to a prompt earn, told from its states of the prompt."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trueup.data.branches import BranchRow
from trueup.errors import RecipeError
from trueup.functional.policy_batch import positive
from trueup.models.heads.prompt_value import PromptValueHead
from trueup.models.plan import cut
from trueup.models.policy import PolicyModel


@dataclass(frozen=True, kw_only=True)
class ValueFitting:
    """How a value head is fitted.

    Args:
        epochs: Passes over the prompts that are not held out.
        learning_rate: Of AdamW; constant.
        batch_size: Prompts of one step.
        held_out: Share of the prompts whose error chooses the epoch.
        seed: Seed of the weights, of who is held out, of the order and of dropout.
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 32
    held_out: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "batch_size"):
            positive(name, getattr(self, name))
        if not 0 < self.held_out < 1:
            raise RecipeError(f"held_out must lie between 0 and 1, got {self.held_out}")


@dataclass(frozen=True)
class FittedValues:
    """A fitted value head.

    Args:
        head: The head of the best epoch, in evaluation mode; `head.reward_max` is the R_max that it was made for.
        errors: Mean squared error on the prompts held out, before the first epoch and after each; the first is that
            of the other prompts' mean reward, which says nothing of the prompt.
        epoch: Which of them is the head's; the first of the smallest.
        held_out: Numbers of the prompts held out.
    """

    head: PromptValueHead
    errors: tuple[float, ...]
    epoch: int
    held_out: tuple[int, ...]


def prompt_ids(rows: Sequence[BranchRow]) -> list[list[int]]:
    """Token ids of each row's prompt."""
    return [row.tokens[: row.prompt_length].tolist() for row in rows]


def fit_prompt_values(
    model: PolicyModel,
    prompts: Sequence[Sequence[int]],
    rewards: Sequence[Sequence[float]],
    *,
    reward_max: float,
    token_budget: int,
    fitting: ValueFitting | None = None,
) -> FittedValues:
    """Fit V(x) to the mean reward of the reference's own responses to each prompt, by squared error.

    **Source**: Baheti et al. (ICLR 2024), Leftover Lunch (arXiv 2305.14718).
    **Deviations**: the epoch is chosen on prompts held out (there on those that are learned from); a prompt may have
    several responses (there one); the head starts at the mean reward; its rate and batch are ours.

    Args:
        model: The reference; with an adapter that is to be left out, call this within its `disable_adapter`.
        prompts: Token ids of each prompt, best of ones that the policy is not trained on.
        rewards: Rewards of the reference's responses to each, between 0 and `reward_max`.
        reward_max: R_max, the largest reward there is.
        token_budget: Token slots of one pass.
        fitting: How to fit.

    Raises:
        RecipeError: There are fewer than two prompts, one is empty or has no response, or a reward lies outside
            [0, R_max].
    """
    how = fitting or ValueFitting()
    targets = _targets(prompts, rewards, reward_max=reward_max)
    found = dict(_states(model, prompts, token_budget=token_budget))
    states = [found[i] for i in range(len(prompts))]
    generator = torch.Generator().manual_seed(how.seed)
    head = PromptValueHead(states[0].shape[1], reward_max=reward_max, generator=generator, device=model.device)
    order = np.random.default_rng([how.seed, 0]).permutation(len(prompts))
    aside = min(max(round(how.held_out * len(prompts)), 1), len(prompts) - 1)
    held_out, learned = sorted(order[:aside].tolist()), sorted(order[aside:].tolist())
    head.start_at(float(targets[learned].mean()))
    device = model.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(how.seed)
        epochs = _epochs(head, states, targets, learned=learned, how=how)
        errors, best = [], 0
        weights: dict[str, Tensor] = {}
        for epoch in range(how.epochs + 1):
            next(epochs)
            errors.append(_error(head, [states[i] for i in held_out], targets[held_out], size=how.batch_size))
            if epoch == 0 or errors[epoch] < errors[best]:
                best, weights = epoch, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(weights)
    return FittedValues(head.eval(), tuple(errors), best, tuple(held_out))


@torch.no_grad()
def prompt_values(
    model: PolicyModel, prompts: Sequence[Sequence[int]], head: PromptValueHead, *, token_budget: int
) -> Float[Tensor, " prompts"]:
    """V(x) of each prompt, float32, on the CPU; dropout is off.

    Args:
        model: The reference that the head was fitted on.
        prompts: Token ids of each.
        head: What `fit_prompt_values` found.
        token_budget: Token slots of one pass.

    Raises:
        RecipeError: A prompt is empty.
    """
    _check_prompts(prompts)
    head.eval()
    values = torch.zeros(len(prompts))
    for number, states in _states(model, prompts, token_budget=token_budget):
        values[number] = _predict(head, [states])[0].cpu()
    return values


def _epochs(
    head: PromptValueHead, states: Sequence[Tensor], targets: Tensor, *, learned: Sequence[int], how: ValueFitting
) -> Iterator[None]:
    """Stop once before the first epoch, and after each."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=how.learning_rate, weight_decay=0.0)
    yield
    for epoch in range(how.epochs):
        head.train()
        order = np.random.default_rng([how.seed, 1 + epoch]).permutation(learned)
        for start in range(0, len(order), how.batch_size):
            part = order[start : start + how.batch_size].tolist()
            value = _predict(head, [states[i] for i in part])
            loss = (value - targets[part].to(value.device)).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield


@torch.no_grad()
def _error(head: PromptValueHead, states: Sequence[Tensor], targets: Tensor, *, size: int) -> float:
    head.eval()
    values = [_predict(head, states[start : start + size]).cpu() for start in range(0, len(states), size)]
    return float((torch.cat(values) - targets).square().mean())


def _predict(head: PromptValueHead, states: Sequence[Tensor]) -> Tensor:
    padded = pad_sequence(list(states), batch_first=True).to(head.query.device)
    lengths = torch.tensor([len(one) for one in states], device=padded.device)
    values: Tensor = head(padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None])
    return values


@torch.no_grad()
def _states(
    model: PolicyModel, prompts: Sequence[Sequence[int]], *, token_budget: int
) -> Iterator[tuple[int, Float[Tensor, "s d"]]]:
    """Number of each prompt and the last layer's states of its tokens, on the CPU, as they come."""
    rows = [_row(ids, index=i) for i, ids in enumerate(prompts)]
    training = model.training
    model.eval()
    try:
        for part in cut(rows, budget=token_budget, sharing=model.sharing):
            layout = model.layout([rows[i] for i in part])
            states, tree = model.states(layout), layout.tree.flatten()
            for place, number in enumerate(part):
                yield number, states[tree == place].cpu()
    finally:
        model.train(training)


def _row(ids: Sequence[int], *, index: int) -> BranchRow:
    """A prompt alone: its last token stands where a response would begin."""
    return BranchRow(
        tokens=np.asarray(ids, np.int32),
        prompt_length=len(ids) - 1,
        branch_lengths=(1,),
        pairs=np.zeros((0, 2), np.int64),
        rank=np.full(1, -1),
        index=index,
    )


def _targets(
    prompts: Sequence[Sequence[int]], rewards: Sequence[Sequence[float]], *, reward_max: float
) -> Float[Tensor, " prompts"]:
    positive("reward_max", reward_max)
    _check_prompts(prompts)
    if len(prompts) < 2 or len(rewards) != len(prompts):
        raise RecipeError(
            f"values are fitted to rewards of at least 2 prompts, got {len(prompts)} prompts and rewards of "
            f"{len(rewards)}"
        )
    for number, earned in enumerate(rewards):
        if not len(earned):
            raise RecipeError(f"prompt {number} has no rewarded response; score at least one, or leave the prompt out")
        for reward in earned:
            if not 0 <= reward <= reward_max:
                raise RecipeError(
                    f"a response to prompt {number} has reward {reward:g}, outside [0, {reward_max:g}]; set reward_max "
                    "to the largest reward there is, and shift or squash rewards that can be negative"
                )
    return torch.tensor([math.fsum(earned) / len(earned) for earned in rewards])


def _check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    for number, ids in enumerate(prompts):
        if not len(ids):
            raise RecipeError(f"prompt {number} holds no token, so that nothing tells its value; leave it out")
