"""The recipe of `trueup train preference`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from trueup.data.demonstrations import Which
from trueup.data.noise import flip_labels
from trueup.data.pairs import PairRule
from trueup.data.rowfile import RowFile
from trueup.data.selection import Selection
from trueup.errors import RecipeError
from trueup.objectives import ADVANTAGE_OBJECTIVES, PREFERENCE_OBJECTIVES
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.modpo import MODPO
from trueup.objectives.supervised.chosen import ChosenLikelihood
from trueup.recipes.advantage_settings import AdvantageRecipe, ValueRecipe
from trueup.recipes.choices import choices
from trueup.recipes.config import choice
from trueup.recipes.data_source import PreferenceSource
from trueup.recipes.places import named_places
from trueup.recipes.run_settings import TrainingRun
from trueup.types import PolicyObjective

METHODS: Mapping[str, type[PolicyObjective]] = {**PREFERENCE_OBJECTIVES, **ADVANTAGE_OBJECTIVES}
"""What may be learned from given responses: preferences between them, or the reward of each."""

PREFERENCE_REGULARIZERS: Mapping[str, type[PolicyObjective]] = {"sft": ChosenLikelihood, "entropy": EntropyBonus}
"""What may be added to a loss of preferences: terms that mean the same on responses that others have written."""


@dataclass(frozen=True, kw_only=True)
class PreferenceData(PreferenceSource):
    """Where preferences come from and which pairs are learned from.

    Args:
        pairs: What a row of several responses gives: all its pairs, or best_versus_worst alone.
        responses: Which responses methods of rewards and advantages learn from: those preferred to all others of their
            row (chosen), or all; the only response of a row is learned from in any case.
        text_format: Whether turns are rendered by the chat template (chat) or text is taken as it is (plain); by
            default as the model says it was trained, or else as the data are.
        drop_empty: Drop responses without text; kept, they teach to say nothing, or not to.
        cache: Folder of tokenised data sets and of log-probabilities; the user's cache folder by default.
    """

    pairs: PairRule = "all"
    responses: Literal["chosen", "all"] = "chosen"
    drop_empty: bool = True

    def selections(self, *, seed: int) -> dict[str, Selection]:
        """Usable rows to learn from and to watch; only the former's labels are flipped.

        Raises:
            DataError: A source cannot be read, or nothing of it is usable.
        """
        return {name: self.select(file, seed=seed, noisy=name == "train") for name, file in self._files().items()}

    def single_responses(self, *, seed: int) -> dict[str, Selection]:
        """Rows with the responses that each count by themselves; labels are flipped as in `selections`.

        Raises:
            DataError: A source cannot be read, or nothing of it is usable.
        """
        which: Which = "best" if self.responses == "chosen" else "all"
        files = self._files()
        train = replace(files["train"], rows=tuple(flip_labels(files["train"].rows, self.flip, seed)))
        return {
            name: self.select_demonstrations(file, which=which) for name, file in (files | {"train": train}).items()
        }

    def _files(self) -> dict[str, RowFile]:
        places = {"train": (self.train, self.train_split)}
        if self.eval is not None:
            places["eval"] = (self.eval, self.eval_split)
        return {name: self.read(*place) for name, place in places.items()}


@dataclass(frozen=True, kw_only=True)
class TrainPreference(TrainingRun):
    """Train a policy on preferences between given responses, or on their rewards.

    Args:
        model: Directory or hub id of the causal language model to start from.
        data: Where preferences come from.
        method: What a preference is worth; or, for a_lol and its relatives, a single response with its reward.
        regularizers: Terms that are added to the loss: one by name, or a list such as
            `[{name: sft, coefficient: 0.2}, entropy]`.
        reference: What the policy is held against: a directory or hub id; the model it starts from by default, which
            with `lora` is the model without its adapter. The start is also the previous policy of methods in rounds.
        reward: What scores responses for a_lol and its relatives, or for the other objectives of modpo: directory, hub
            id, `package.module:function` or URL; one, a list, or by label (`--reward.harmless runs/rm`).
        reward_weights: Weight of each of these rewards; with modpo's own weight they sum to 1, elsewhere each is 1 by
            default.
        advantage: What a response weighs, for a_lol and its relatives.
        batch_size: Rows of one optimiser step, over all devices; a row of several responses may hold several pairs.
        seed: Seed of the order of the data, of flipped labels, and of the weights when they are drawn.
    """

    data: PreferenceData
    method: choice(METHODS, default="dpo") = field(default_factory=DPO)  # type: ignore[valid-type]
    regularizers: choices(PREFERENCE_REGULARIZERS, default="sft") = field(default_factory=list)  # type: ignore[valid-type]
    reference: str | None = None
    reward: str | list[str] | dict[str, str] | None = None
    reward_weights: list[float] | None = None
    advantage: AdvantageRecipe | None = None
    learning_rate: float = 1e-6
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method is None:
            raise RecipeError(f"method must be one of {', '.join(METHODS)}, got none")
        if self.reference is not None and not self.needs & {"reference", "advantage"}:
            raise RecipeError("the method compares with no reference; leave out reference, or choose another method")
        if (self.weighs or "reward" in self.needs) != bool(self.rewards):
            others = "" if self.weighs else "the other objectives' rewards as "
            cure = "leave out reward" if self.rewards else f"name {others or 'what scores responses as '}--reward PLACE"
            raise RecipeError(f"{type(self.method).__name__} and reward do not go together; {cure}")
        check = self._check_weighing if self.weighs else self._check_pairing
        check()
        if self.rewards:
            self._check_weights()

    def _check_pairing(self) -> None:
        """Refuse settings of single responses where pairs are learned from."""
        name = type(self.method).__name__
        if self.advantage is not None:
            raise RecipeError(f"{name} learns from preferences, not from advantages; leave out advantage")
        if self.data.responses != "chosen":
            raise RecipeError(f"{name} learns from both responses of a pair as it is; leave out data.responses")

    def _check_weighing(self) -> None:
        """Refuse settings of pairs where each response counts by itself."""
        name = type(self.method).__name__
        paired = [type(term).__name__ for term in self.terms if term.unit == "pair"]
        if paired:
            raise RecipeError(f"{paired[0]} needs pairs, and {name} learns from single responses; leave it out")
        if self.data.pairs != "all" or self.data.drop_contradictory or not self.data.drop_empty:
            given = "pairs" if self.data.pairs != "all" else "drop_empty"
            given = "drop_contradictory" if self.data.drop_contradictory else given
            raise RecipeError(f"{name} learns from single responses, never from empty ones; leave out data.{given}")
        if self.weighing.value is not None and not self.fits_values:
            raise RecipeError(f"{name} learns from rewards and subtracts no value; leave out advantage.value")
        if self.weighing.priority and self.group_by_length:
            raise RecipeError("rows are drawn by priority; leave out group_by_length, or set advantage.priority false")

    def _check_weights(self) -> None:
        weights = self.weights
        if len(weights) != len(self.rewards):
            raise RecipeError(
                f"{len(weights)} reward_weights for {len(self.rewards)} rewards; give each reward one weight"
            )
        if isinstance(self.method, MODPO) and not abs(sum(weights) + self.method.weight - 1) < 1e-6:
            raise RecipeError(
                f"the weights {[self.method.weight, *weights]} of all objectives sum to "
                f"{sum(weights) + self.method.weight:g}, not to 1; divide them by their sum"
            )

    @property
    def evaluates(self) -> bool:
        """Whether there are data to watch."""
        return self.data.eval is not None

    @property
    def terms(self) -> tuple[PolicyObjective, ...]:
        """The loss: the method and what is added to it."""
        return (self.method, *self.regularizers)

    @property
    def needs(self) -> set[str]:
        """What the loss needs beside the policy's log-probabilities."""
        return {need for term in self.terms for need in term.needs}

    @property
    def weighs(self) -> bool:
        """Whether each response counts by itself, by its reward or advantage."""
        return type(self.method) in ADVANTAGE_OBJECTIVES.values()

    @property
    def fits_values(self) -> bool:
        """Whether what the reference's own responses earn is subtracted from rewards."""
        return "advantage" in self.needs

    @property
    def weighing(self) -> AdvantageRecipe:
        """How rewards become weights."""
        return self.advantage or AdvantageRecipe()

    @property
    def valuing(self) -> ValueRecipe:
        """How values are fitted."""
        return self.weighing.value or ValueRecipe()

    @property
    def rewards(self) -> dict[str, str]:
        """Places of rewards by label."""
        return named_places(self.reward) if self.reward else {}

    @property
    def weights(self) -> list[float]:
        """Weights of these rewards: of a single one what the method's leaves, of several as the recipe says."""
        if self.weighs and self.reward_weights is None:
            return [1.0] * len(self.rewards)
        if self.reward_weights is not None or len(self.rewards) != 1 or not isinstance(self.method, MODPO):
            return self.reward_weights or []
        return [1 - self.method.weight]
