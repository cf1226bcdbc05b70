"""The recipe of `trueup train inpo`."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from trueup.errors import RecipeError
from trueup.models.generation import Sampling
from trueup.objectives.preference.inpo import INPO
from trueup.recipes.choices import choices
from trueup.recipes.config import MAX_SEED, Recipe, check_range
from trueup.recipes.policy_settings import PromptsRecipe
from trueup.recipes.preference_settings import PREFERENCE_REGULARIZERS, PreferenceData, TrainPreference
from trueup.recipes.run_settings import Schedule, TrainingRun
from trueup.types import PolicyObjective

PAIRS_FILE = "pairs.jsonl"
"""A round's pairs, in its folder."""

SAMPLES = {"tournament": 8, "best_worst": 8, "iid": 2}
"""Responses to each prompt, where the recipe does not say."""


@dataclass(frozen=True, kw_only=True)
class InpoWatch(Recipe):
    """Prompts that nothing is trained on, on which each round's policy meets the earlier ones.

    Args:
        prompts: File, folder or hub id of held-out prompts.
        split: Split of a folder or hub id.
        limit: Use no more than this many.
        samples: Responses of each policy to each prompt, drawn at temperature 1.
        resamples: Bootstrap resamples of the prompts, for intervals.
        level: Coverage of the intervals.
    """

    prompts: str
    split: str | None = None
    limit: int | None = 256
    samples: int = 1
    resamples: int = 1000
    level: float = 0.95

    def __post_init__(self) -> None:
        check_range(self, "limit", "samples", "resamples", low=1)
        if not 0 < self.level < 1:
            raise RecipeError(f"level must lie between 0 and 1, got {self.level}")


@dataclass(frozen=True, kw_only=True)
class TrainInpo(TrainingRun):
    """Train a policy by INPO: rounds of drawing, comparing by a preference oracle, and learning from the pairs.

    Everything but the following is what each round is trained with. With an adapter, each round trains a new one and
    works it into the model that it started from, which is then the whole model of the round.

    Args:
        model: Directory or hub id of the policy to start from; it is also the reference of all rounds.
        data: What the policy is asked; each round takes other prompts.
        oracle: What compares: a judge, a reward (directory, hub id, URL, function), or a function
            `f(prompts, first, second)` given as `package.module:function`.
        oracle_scale: Difference of rewards that counts as one nat of log-odds, where the oracle is a reward.
        max_contradiction: Mean of |P(a > b) + P(b > a) - 1| beyond which a warning says what to do.
        rounds: How often responses are drawn and learned from.
        prompts_per_round: Prompts of each round; by default all prompts, in equal parts.
        pairs: How pairs are chosen: a tournament of the samples, the best_worst by a reward, or iid samples ordered by
            one draw from the oracle, which is the exact form.
        samples: Responses to each prompt; 8 by default, and 2 where pairs are iid.
        eta: One over the step of mirror descent; the target of the loss is 1 / (2 eta) nats.
        tau: Strength of the KL to the reference, from 0 to eta; eta / 3 by default.
        regularizers: Terms that are added to the loss, as in train preference.
        temperature: Divides the logits while drawing; the method means samples of the policy itself, at 1.
        top_p: Share of probability that is drawn from.
        max_new_tokens: Length at which a response is cut.
        max_length: Longest prompt with its response, in tokens, that is learned from; longer ones are listed.
        draw_budget: Token slots of keys and values held at a time while drawing.
        watch: Held-out prompts on which each round's policy is compared with the round before and with the start.
        batch_size: Pairs of one optimiser step, over all devices.
        epochs: Passes over each round's pairs.
        max_steps: Optimiser steps of each round, in place of epochs.
        seed: Seed of the prompts' order, of draws and of training; rounds have seeds of their own.
        resume: Go on with a run that was stopped; nothing that was drawn, answered or trained is made again.
    """

    data: PromptsRecipe
    oracle: str
    oracle_scale: float = 1.0
    max_contradiction: float = 0.1
    rounds: int = 3
    prompts_per_round: int | None = None
    pairs: Literal["tournament", "iid", "best_worst"] = "tournament"
    samples: int | None = None
    eta: float = 0.005
    tau: float | None = None
    regularizers: choices(PREFERENCE_REGULARIZERS, default="sft") = field(default_factory=list)  # type: ignore[valid-type]
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    max_length: int = 2048
    draw_budget: int = 65_536
    watch: InpoWatch | None = None
    learning_rate: float = 5e-7
    schedule: Schedule = "cosine"
    warmup: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "rounds", "prompts_per_round", "draw_budget", low=1)
        check_range(self, "max_contradiction", low=0, high=1)
        check_range(self, "samples", "max_length", low=2)
        if not 0 < self.oracle_scale < float("inf"):
            raise RecipeError(f"oracle_scale must be positive and finite, got {self.oracle_scale}")
        _ = self.method, self.sampling
        self._check_pairs()
        self._check_whole_models()
        if self.max_new_tokens >= self.max_length:
            raise RecipeError(
                f"max_new_tokens ({self.max_new_tokens}) leaves a prompt no room in max_length ({self.max_length}); "
                "raise max_length"
            )
        if self.eval_steps is not None:
            raise RecipeError("eval_steps does nothing here; leave it out (each round is watched on watch.prompts)")

    def _check_pairs(self) -> None:
        samples = self.drawn
        if self.pairs == "tournament" and samples & (samples - 1):
            raise RecipeError(f"samples must be a power of two for a tournament (2, 4, 8, ...), got {samples}")
        if self.pairs == "iid" and samples % 2:
            raise RecipeError(f"samples must be even for iid pairs, got {samples}")
        if self.pairs == "iid" and (self.temperature, self.top_p) != (1.0, 1.0):
            raise RecipeError("iid pairs must be samples of the policy itself; leave out temperature and top_p")

    def _check_whole_models(self) -> None:
        for name in ("from_scratch", "tokenizer"):
            if getattr(self, name):
                raise RecipeError(f"inpo starts from a policy that answers, with its own tokenizer; leave out {name}")

    def _check_patience(self) -> None:
        raise RecipeError("a round has no evaluation loss; leave out patience, and choose by rounds.json (see watch)")

    @property
    def drawn(self) -> int:
        """Responses to each prompt."""
        return SAMPLES[self.pairs] if self.samples is None else self.samples

    @property
    def sampling(self) -> Sampling:
        """How responses are drawn."""
        return Sampling(max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p)

    @property
    def method(self) -> INPO:
        """The loss."""
        return INPO(eta=self.eta, tau=self.tau)

    @property
    def terms(self) -> tuple[PolicyObjective, ...]:
        """The loss and what is added to it."""
        return (self.method, *self.regularizers)

    def seed_of(self, number: int) -> int:
        """Seed of one round, counted from 1."""
        return (self.seed + number - 1) % (MAX_SEED + 1)

    def training(
        self,
        number: int,
        *,
        start: str,
        folder: Path,
        text_format: Literal["auto", "chat", "plain"] = "auto",
        max_length: int | None = None,
    ) -> TrainPreference:
        """The recipe by which one round learns from the pairs in its folder.

        Args:
            number: Number of the round, counted from 1.
            start: Where the policy of the round before is.
            folder: The round's folder.
            text_format: How text is rendered where the policy does not say it itself.
            max_length: Longest sequence, where the policy allows less than the recipe.
        """
        own = {one.name: getattr(self, one.name) for one in fields(TrainingRun)}
        data = PreferenceData(
            train=str(folder / PAIRS_FILE),
            format="preference",
            text_format=text_format,
            max_length=self.max_length if max_length is None else min(max_length, self.max_length),
            drop_empty=False,
        )
        return TrainPreference(
            **own
            | {
                "model": start,
                "output": folder,
                "data": data,
                "method": self.method,
                "regularizers": list(self.regularizers),
                "reference": None if number == 1 else self.model,
                "seed": self.seed_of(number),
                "resume": any(folder.glob("checkpoint-*")),
            }
        )
