"""One online training of a scale policy in this process, with gold looked at along the way."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from trueup.anchors import Anchor
from trueup.data.rows import Prompt
from trueup.lab.fitting import quiet_arguments, quietly
from trueup.models.generation import Sampling
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.model import ModelPolicy
from trueup.rewards.base import Reward
from trueup.rewards.shaping import Shaping
from trueup.train.anchor_callback import AnchorCallback
from trueup.train.online_trainer import OnlineTrainer
from trueup.train.policy_sampling import PolicySampler
from trueup.train.prompt_order import Rhythm
from trueup.train.references import ModelReference, is_compared
from trueup.types import OnlineObjective

Array = np.ndarray
_TOKEN_BUDGET = 8_192
_LOOK_SEED = 60_001


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How a policy is optimised.

    Args:
        terms: The loss: a method and its regularisers.
        kl_coefficient: Weight, within the reward, of the KL to the reference, per nat.
        anchor: How the reference moves, or how the policy is taken back.
        rhythm: How drawing and learning alternate.
        shaping: What becomes of rewards first.
        steps: Optimiser steps.
        learning_rate: Constant rate of AdamW.
        max_grad_norm: Gradient norm beyond which it is clipped.
        max_new_tokens: Length at which a response is cut.
        every: Optimiser steps between two looks.
        samples: Responses to each watched prompt at a look.
        kl_limit: The run ends with the first look at which the KL to the start exceeds so many nats.
        seed: Seed of the order of the prompts and of all draws.
    """

    terms: tuple[OnlineObjective, ...]
    kl_coefficient: float = 0.0
    anchor: Anchor | None = None
    rhythm: Rhythm = field(default_factory=lambda: Rhythm(prompts=16, samples=4))
    shaping: Shaping = field(default_factory=Shaping)
    steps: int = 100
    learning_rate: float = 4e-4
    max_grad_norm: float = 1.0
    max_new_tokens: int = 64
    every: int = 5
    samples: int = 4
    kl_limit: float = 40.0
    seed: int = 0

    def record(self) -> dict[str, Any]:
        """Plain values of these settings."""
        named = [{"name": type(term).__name__, **asdict(term)} for term in self.terms]  # type: ignore[call-overload]
        anchor = None if self.anchor is None else {"name": type(self.anchor).__name__, **vars(self.anchor)}
        rest = {name: getattr(self, name) for name in _PLAIN}
        parts = {"rhythm": asdict(self.rhythm), "shaping": asdict(self.shaping)}
        return {"terms": named, "anchor": anchor, **parts, **rest}


_PLAIN = (
    "kl_coefficient",
    "steps",
    "learning_rate",
    "max_grad_norm",
    "max_new_tokens",
    "every",
    "samples",
    "kl_limit",
    "seed",
)


@dataclass(frozen=True)
class Looks:
    """What was seen along a run, at step 0 and then at every look.

    Args:
        step: Optimiser steps done.
        gold: Gold's scores of the watched responses.
        proxy: What is optimised, without any KL.
        kl: Log-ratio of each response to the policy at the start, nats, summed over its tokens.
        tokens: Length of each response.
        finished: Whether the policy ended it itself.
        texts: The responses of the first watched prompts.
    """

    step: Int[Array, " looks"]
    gold: Float[Array, "looks prompts samples"]
    proxy: Float[Array, "looks prompts samples"]
    kl: Float[Array, "looks prompts samples"]
    tokens: Int[Array, "looks prompts samples"]
    finished: Bool[Array, "looks prompts samples"]
    texts: tuple[tuple[tuple[str, ...], ...], ...]


@dataclass(kw_only=True)
class Looker:
    """Draws responses to watched prompts, the same random numbers at every look, and has them judged.

    Args:
        sampler: What draws, and says how far the policy is from its start.
        prompts: What it is asked.
        proxy: What is optimised.
        gold: What judges.
        samples: Responses to each prompt.
    """

    sampler: PolicySampler
    prompts: Sequence[Prompt]
    proxy: Reward
    gold: Reward
    samples: int
    _seen: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def look(self, step: int) -> float:
        """Look once; returns the KL to the start, in nats."""
        drawn = self.sampler.sample(self.prompts, self.samples, seed=_LOOK_SEED)
        texts = [[one.text for one in group] for group in drawn]
        shape = (len(self.prompts), self.samples)
        kl = np.array([[one.log_ratio for one in group] for group in drawn], float)
        self._seen.append(
            (
                step,
                {
                    "gold": self.gold.score(self.prompts, texts).reward.reshape(shape),
                    "proxy": self.proxy.score(self.prompts, texts).reward.reshape(shape),
                    "kl": kl,
                    "tokens": np.asarray([[one.tokens for one in group] for group in drawn]),
                    "finished": np.asarray([[one.finished for one in group] for group in drawn]),
                    "texts": tuple(tuple(group) for group in texts),
                },
            )
        )
        return float(np.mean(kl))

    def looks(self) -> Looks:
        """Everything seen so far."""
        arrays = {
            name: np.stack([seen[name] for _, seen in self._seen])
            for name in ("gold", "proxy", "kl", "tokens", "finished")
        }
        texts = tuple(seen["texts"] for _, seen in self._seen)
        return Looks(step=np.asarray([step for step, _ in self._seen]), texts=texts, **arrays)


class _LookEvery(TrainerCallback):
    def __init__(self, looker: Looker, how: Optimization) -> None:
        self.looker, self.how = looker, how

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look, where it is time; end where there is nothing more to learn."""
        if state.global_step % self.how.every == 0:
            control.should_training_stop |= self.looker.look(state.global_step) > self.how.kl_limit


def optimize(
    start: PolicyCheckpoint,
    how: Optimization,
    *,
    reference: PolicyCheckpoint,
    origin: PolicyCheckpoint,
    prompts: Sequence[Prompt],
    reward: Reward,
    watched: Sequence[Prompt],
    gold: Reward,
    before_jump: Callable[[int], None] | None = None,
) -> Looks:
    """Optimise a policy in place.

    Args:
        start: The policy; it holds the optimised weights afterwards.
        how: Method and settings.
        reference: What the KL of training is measured against; an anchor may move its weights.
        origin: What the KL that is looked at is measured against.
        prompts: What it is asked.
        reward: What is optimised.
        watched: Prompts that are only looked at.
        gold: What judges.
        before_jump: Called just before an anchor takes the policy back.

    Returns:
        What was seen at step 0 and every `how.every` steps.
    """
    set_seed(how.seed)
    sampling = Sampling(max_new_tokens=how.max_new_tokens)
    policy = ModelPolicy(checkpoint=start, name="policy", sampling=sampling)
    looker = Looker(
        sampler=PolicySampler(policy=policy, start=ModelReference(origin.model, token_budget=_TOKEN_BUDGET)),
        prompts=watched,
        proxy=reward,
        gold=gold,
        samples=how.samples,
    )
    held = ModelReference(reference.model, token_budget=_TOKEN_BUDGET)
    callbacks: list[TrainerCallback] = []
    if how.anchor is not None:
        callbacks.append(AnchorCallback(how.anchor, reference=held.model.pretrained, before_jump=before_jump))
    with tempfile.TemporaryDirectory() as folder, quietly():
        trainer = OnlineTrainer(
            start.model,
            _arguments(how, folder),
            prompts=prompts,
            reward=reward,
            terms=how.terms,
            rhythm=how.rhythm,
            sampling=sampling,
            tokenizer=start.tokenizer,
            form=start.form,
            token_budget=_TOKEN_BUDGET,
            shaping=how.shaping,
            reference=held if is_compared(how.terms, kl_coefficient=how.kl_coefficient) else None,
            kl_coefficient=how.kl_coefficient,
            callbacks=[*callbacks, _LookEvery(looker, how)],
        )
        start.model.settle()
        looker.look(0)
        trainer.train()
    start.model.eval()
    return looker.looks()


def _arguments(how: Optimization, folder: str) -> TrainingArguments:
    return quiet_arguments(
        folder,
        per_device_train_batch_size=how.rhythm.prompts,
        max_steps=how.steps,
        learning_rate=how.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=how.max_grad_norm,
        seed=how.seed,
    )
