"""From prompts to rows that a step can learn from: draw, score, compare with the reference, prepare."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from trueup.data.rows import Prompt
from trueup.errors import NonFiniteError
from trueup.models.generation import Reply
from trueup.models.live_weights import checkpoint_weights
from trueup.models.reading import logprobs
from trueup.policies.engine import RolloutEngine
from trueup.policies.model import ModelPolicy
from trueup.rewards.base import Reward
from trueup.rewards.shaping import Shaping
from trueup.train.devices import failing_together
from trueup.train.references import Reference
from trueup.train.rollouts import RolloutRow, batch_of, rollout_row, token_rewards, with_batch, with_tokens
from trueup.types import OnlineObjective, PolicyBatch

# Beyond this difference (nats) recorded log-probabilities are those of another computation, and are made again.
_EXACT = 1e-3


@dataclass(frozen=True)
class Collected:
    """Everything that was drawn together.

    Args:
        rows: What is learned from.
        batch: What objectives prepared.
        scores: Rewards as they were given, before any shaping.
        texts: Each asked prompt's responses.
        seconds: Time that each part took, on this device.
        engine_gap: How far the log-probabilities that an engine told are from the policy's, in nats, at some tokens of
            this device; None where no engine tells any.
    """

    rows: list[RolloutRow]
    batch: PolicyBatch
    scores: Tensor
    texts: list[list[str]]
    seconds: dict[str, float]
    engine_gap: Tensor | None = None


@dataclass(kw_only=True)
class Collector:
    """Draws and prepares rollouts.

    Args:
        policy: What answers; its model is the one that is trained.
        prompts: All prompts.
        reward: What is optimised.
        shaping: What becomes of rewards first.
        samples: Replies to each prompt.
        terms: The loss, whose terms prepare what was drawn, in order.
        kl_coefficient: Weight of the KL to the reference within the reward, per nat.
        reference: What the policy is held against; None where nothing needs it.
        old_values: Value head's predictions for rows, where the method has one.
        token_budget: Token slots of one pass.
        engine: What draws in the policy's place.
        rank: Number of this device.
        world: Devices that share the prompts.
        computing: Context of passes, such as autocast.
    """

    policy: ModelPolicy
    prompts: Sequence[Prompt]
    reward: Reward
    shaping: Shaping
    samples: int
    terms: Sequence[OnlineObjective]
    kl_coefficient: float
    reference: Reference | None
    old_values: Callable[[Sequence[RolloutRow]], list[Tensor]] | None
    token_budget: int
    engine: RolloutEngine | None = None
    rank: int = 0
    world: int = 1
    computing: Callable[[], AbstractContextManager[object]] = nullcontext
    _recorded: bool | None = None
    _gap: Tensor | None = None
    _seconds: dict[str, float] = field(default_factory=dict)

    def collect(self, numbers: Sequence[int], *, seed: int) -> Collected:
        """Draw replies to some prompts and prepare them.

        Raises:
            EndpointError: A reward's server does not answer.
            NonFiniteError: A reward is NaN or infinite.
        """
        self._seconds = {}
        self._gap = torch.zeros(0) if self.engine is not None and self.engine.tells_logprobs else None
        mine = list(numbers)[self.rank :: self.world]
        rows, texts = self._draw(mine, seed=seed)
        with self._clock("score"), failing_together():
            scores = self._score(mine, texts)
        with self._clock("reference"):
            rows = self._compare(rows)
        rows, texts, scores = self._gather(numbers, rows, texts, scores)
        batch = self._prepare(rows, torch.cat(scores))
        return Collected(with_batch(rows, batch), batch, torch.cat(scores), texts, self._seconds, self._gap)

    def _draw(self, numbers: Sequence[int], *, seed: int) -> tuple[list[RolloutRow], list[list[str]]]:
        asked = [self.prompts[i] for i in numbers]
        if self.engine is not None:
            with self._clock("renew"), failing_together():
                if self.rank == 0 or not self.engine.shared:
                    self.engine.renew(checkpoint_weights(self.policy.checkpoint.model))
        with self._clock("generate"):
            ids, drawn = self._replies(asked, seed=seed)
            texts = [self.policy.texts(prompt, replies) for prompt, replies in zip(asked, drawn, strict=True)]
        rows = [rollout_row(*one, index=i) for one, i in zip(zip(ids, drawn, strict=True), numbers, strict=True)]
        return rows, texts

    def _replies(self, asked: Sequence[Prompt], *, seed: int) -> tuple[list[list[int]], list[list[Reply]]]:
        if self.engine is not None:
            with failing_together():
                return self.engine.draw(asked, self.samples, seed=seed)
        with self.computing():
            return self.policy.draw(asked, self.samples, seed=seed)

    def _score(self, numbers: Sequence[int], texts: Sequence[Sequence[str]]) -> list[Tensor]:
        if not numbers:
            return []
        found = self.reward.score([self.prompts[i] for i in numbers], texts).reward
        wrong = np.flatnonzero(~np.isfinite(found))
        if len(wrong):
            prompt, place = divmod(int(wrong[0]), self.samples)
            raise NonFiniteError(
                f"{self.reward.name} gave {found[wrong[0]]} to {texts[prompt][place][:80]!r}, "
                f"and no finite number to {len(wrong)} of {len(found)} responses; mend the reward"
            )
        return list(torch.split(torch.from_numpy(np.asarray(found, np.float64)), self.samples))

    def _compare(self, rows: list[RolloutRow]) -> list[RolloutRow]:
        """Log-probabilities and values that training is held against."""
        if not rows:
            return rows
        with self.computing():
            rows = self._own_logprobs(rows)
            if self.reference is not None:
                rows = with_tokens(rows, reference=self.reference.logprobs(rows))
            if self.old_values is not None:
                rows = with_tokens(rows, old_value=self.old_values(rows))
        return rows

    def _own_logprobs(self, rows: list[RolloutRow]) -> list[RolloutRow]:
        """Those recorded while drawing, where they equal the training pass's; else made again."""
        model = self.policy.checkpoint.model
        if self.engine is not None and not self.engine.tells_logprobs:
            self._recorded = False
        elif self._recorded is None or self.engine is not None:  # an engine is looked at each time: it may not follow
            again = logprobs(model, rows[:2], token_budget=self.token_budget)
            gap = (torch.cat(again) - torch.cat([row.tokens_of["behaviour"] for row in rows[:2]])).abs()
            self._recorded = bool(gap.max() <= _EXACT)  # not where one is NaN, which stands for unknown
            self._gap = gap[gap.isfinite()] if self.engine is not None else None
        if self._recorded:
            return rows
        return with_tokens(rows, behaviour=logprobs(model, rows, token_budget=self.token_budget))

    def _gather(
        self, numbers: Sequence[int], rows: list[RolloutRow], texts: list[list[str]], scores: list[Tensor]
    ) -> tuple[list[RolloutRow], list[list[str]], list[Tensor]]:
        """What all devices drew, in the order of the prompts."""
        if self.world == 1:
            return rows, texts, scores
        everything = gather_object(list(zip(rows, texts, scores, strict=True)))
        place = {number: i for i, number in enumerate(numbers)}
        ordered = sorted(everything, key=lambda one: place[one[0].index])
        return [one[0] for one in ordered], [one[1] for one in ordered], [one[2] for one in ordered]

    def _prepare(self, rows: Sequence[RolloutRow], scores: Tensor) -> PolicyBatch:
        batch = batch_of(rows)
        tokens = torch.bincount(batch.branch, minlength=len(scores))
        assert batch.finished is not None
        shaped = self.shaping(scores.numpy(), tokens=tokens.numpy(), finished=batch.finished.numpy())
        batch = replace(batch, reward=torch.from_numpy(shaped).float())
        batch = replace(batch, token_reward=token_rewards(batch, kl_coefficient=self.kl_coefficient))
        for term in self.terms:
            batch = term.prepare(batch)
        return batch

    @contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start
