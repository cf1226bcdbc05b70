"""The recipe of `trueup train policy`."""

from dataclasses import dataclass, field

from trueup.anchors import ANCHORS
from trueup.anchors.ema import ExponentialAverage
from trueup.anchors.soup import Soup
from trueup.errors import RecipeError
from trueup.measure.stopping import AlarmFired, GoldPeaked, KLBudget, LawPeakPassed, StopRule
from trueup.models.generation import Sampling
from trueup.objectives import POLICY_OBJECTIVES, POLICY_REGULARIZERS
from trueup.objectives.policy.ppo import PPO
from trueup.objectives.policy.rloo import RLOO
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.recipes.choices import choices
from trueup.recipes.config import Recipe, check_range, choice
from trueup.recipes.places import named_places
from trueup.recipes.policy_rollouts import ROLLOUT_ENGINES
from trueup.recipes.run_settings import Schedule, TrainingRun
from trueup.rewards.shaping import Shaping
from trueup.train.prompt_order import Rhythm
from trueup.train.references import is_compared
from trueup.types import OnlineObjective


@dataclass(frozen=True, kw_only=True)
class PromptsRecipe(Recipe):
    """What a policy is asked.

    Args:
        train: File, folder or hub id with prompts, in any known format; replies beside them are not looked at.
        split: Split of a folder or hub id.
        limit: Use no more than this many different prompts.
        max_prompt_tokens: Longer prompts are not used; they are counted and listed.
    """

    train: str
    split: str | None = None
    limit: int | None = None
    max_prompt_tokens: int = 1024

    def __post_init__(self) -> None:
        check_range(self, "limit", "max_prompt_tokens", low=1)


@dataclass(frozen=True, kw_only=True)
class WatchRecipe(Recipe):
    """Gold, watched on prompts that nothing is trained on.

    Args:
        prompts: File, folder or hub id of held-out prompts.
        split: Split of a folder or hub id.
        limit: Use no more than this many.
        gold: What judges: directory, hub id, `package.module:function`, URL or judge; without it only the proxy, the
            KL and drift are watched.
        every: Optimiser steps between two looks.
        samples: Responses to each prompt.
        kl_budget: Stop when the sequence KL to the start exceeds so many nats.
        patience: Stop when gold has been credibly below its best for so many looks.
        level: Coverage of the intervals that decide so.
        law: Stop when the fitted law says that gold's peak is passed.
        alarm: Stop when the gold-free alarm gives this probability that gold has peaked.
    """

    prompts: str
    split: str | None = None
    limit: int | None = 64
    gold: str | None = None
    every: int = 20
    samples: int = 2
    kl_budget: float | None = None
    patience: int | None = None
    level: float = 0.95
    law: bool = False
    alarm: float | None = None

    def __post_init__(self) -> None:
        check_range(self, "limit", "every", "samples", "patience", low=1)
        check_range(self, "alarm", low=0, high=1)
        if self.kl_budget is not None and not self.kl_budget > 0:
            raise RecipeError(f"kl_budget must be positive, got {self.kl_budget}")
        if not 0 < self.level < 1:
            raise RecipeError(f"level must lie between 0 and 1, got {self.level}")
        if self.gold is None and (self.patience is not None or self.law):
            raise RecipeError("patience and law watch gold; name it as watch.gold")

    @property
    def rules(self) -> list[StopRule]:
        """Reasons to stop."""
        found: list[StopRule] = []
        if self.kl_budget is not None:
            found.append(KLBudget(self.kl_budget))
        if self.patience is not None:
            found.append(GoldPeaked(patience=self.patience, level=self.level))
        if self.law:
            found.append(LawPeakPassed(level=self.level))
        if self.alarm is not None:
            found.append(AlarmFired(threshold=self.alarm))
        return found


@dataclass(frozen=True, kw_only=True)
class TrainPolicy(TrainingRun):
    """Optimise a policy against a reward, on its own samples.

    Args:
        model: Directory or hub id of the causal language model to start from.
        data: What it is asked.
        reward: What is optimised: directory, run directory, hub id, `package.module:function` or URL; one, a list, or
            by label (`--reward.rm runs/rm`), which are then summed.
        reward_weights: Weight of each of several rewards, in their order; 1 each by default.
        method: How the policy learns from rewards.
        regularizers: Terms that are added to the loss: one by name, or a list such as
            `[{name: entropy, coefficient: 0.01}, tsallis]`.
        kl_coefficient: Weight, within the reward, of the KL to the reference, per nat; 0 for none.
        reference: What the policy is held against: a directory or hub id; the model it starts from by default.
        anchor: How the reference moves, or how the policy is taken back, such as `ema` or `elastic_reset`.
        value_learning_rate: Learning rate of the value head, where the method has one; the policy's by default.
        batch_size: Prompts of one optimiser step, over all devices.
        samples: Replies to each prompt.
        passes: How often what was drawn is learned from.
        minibatches: Optimiser steps of each pass.
        temperature: Divides the logits while drawing. Ratios and KL are of the policy at temperature 1.
        top_p: Share of probability that is drawn from.
        max_new_tokens: Length at which a reply is cut.
        rollouts: What draws in the policy's place: `vllm` or `server` with its settings; the policy itself by default.
        shaping: Penalties, clipping and whitening of rewards.
        watch: Gold, watched on held-out prompts, and when to stop.
        epochs: Passes over the prompts.
        save_steps: Steps between checkpoints; each pass over the prompts by default.
        max_steps: Optimiser steps, in place of epochs.
        seed: Seed of the prompts' order, of all draws and of the weights that are drawn.
    """

    data: PromptsRecipe
    reward: str | list[str] | dict[str, str]
    reward_weights: list[float] | None = None
    method: choice(POLICY_OBJECTIVES, default="rloo") = field(default_factory=RLOO)  # type: ignore[valid-type]
    regularizers: choices(POLICY_REGULARIZERS, default="entropy") = field(default_factory=list)  # type: ignore[valid-type]
    kl_coefficient: float = 0.05
    reference: str | None = None
    anchor: choice(ANCHORS, default="frozen") = None  # type: ignore[valid-type]
    value_learning_rate: float | None = None
    batch_size: int = 32
    samples: int = 4
    passes: int = 1
    minibatches: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    rollouts: choice(ROLLOUT_ENGINES, default="vllm") = None  # type: ignore[valid-type]
    shaping: Shaping = field(default_factory=Shaping)
    watch: WatchRecipe | None = None
    learning_rate: float = 1e-6
    schedule: Schedule = "constant_with_warmup"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "kl_coefficient", low=0)
        if not self.rewards:
            raise RecipeError("no reward is named; write --reward PLACE, or --reward.LABEL PLACE for each of several")
        if self.reward_weights is not None and len(self.reward_weights) != len(self.rewards):
            raise RecipeError(
                f"{len(self.reward_weights)} reward_weights for {len(self.rewards)} rewards; give each reward one"
            )
        _ = self.rhythm, self.sampling
        if self.value_learning_rate is not None and not 0 < self.value_learning_rate < float("inf"):
            raise RecipeError(f"value_learning_rate must be positive, got {self.value_learning_rate}")
        if isinstance(self.anchor, ExponentialAverage | Soup) and not self.needs_reference:
            raise RecipeError(
                "the anchor moves what the policy is held against, but nothing holds it: kl_coefficient is 0, and no "
                "term of the loss compares with a reference"
            )
        learns_values = any(isinstance(term, ValueLoss) for term in self.regularizers)
        if learns_values and not isinstance(self.method, PPO):
            raise RecipeError("value_loss learns the returns that ppo prepares; write --method ppo, or leave it out")
        if isinstance(self.method, PPO) and not learns_values:
            raise RecipeError("ppo needs a value head that learns; write --regularizers value_loss, or add it to them")
        if self.eval_steps is not None or self.group_by_length:
            raise RecipeError("eval_steps and group_by_length do nothing here; leave them out (see watch.every)")

    def _check_patience(self) -> None:
        raise RecipeError("a policy has no evaluation loss; write watch.patience, which watches gold")

    @property
    def rewards(self) -> dict[str, str]:
        """Places of the rewards by label."""
        return named_places(self.reward)

    @property
    def rhythm(self) -> Rhythm:
        """How drawing and learning alternate."""
        return Rhythm(
            prompts=self.batch_size * self.minibatches,
            samples=self.samples,
            passes=self.passes,
            minibatches=self.minibatches,
        )

    @property
    def sampling(self) -> Sampling:
        """How replies are drawn."""
        return Sampling(max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p)

    @property
    def terms(self) -> tuple[OnlineObjective, ...]:
        """The loss: the method and what is added to it."""
        return (self.method, *self.regularizers)

    @property
    def needs_reference(self) -> bool:
        """Whether anything is held against a reference."""
        return is_compared(self.terms, kl_coefficient=self.kl_coefficient)
