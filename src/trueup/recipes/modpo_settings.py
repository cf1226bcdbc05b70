"""The recipe of `trueup train modpo`."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from trueup.errors import RecipeError
from trueup.models.generation import Sampling
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.modpo import MODPO
from trueup.recipes.choices import choices
from trueup.recipes.config import check_range
from trueup.recipes.inpo_settings import InpoWatch
from trueup.recipes.places import named_places
from trueup.recipes.preference_settings import PREFERENCE_REGULARIZERS, PreferenceData, TrainPreference
from trueup.recipes.run_settings import TrainingRun

TRAINED = "preferences"
"""What the objective whose preferences are learned from is called where no evaluator names it."""


@dataclass(frozen=True, kw_only=True)
class ModpoWatch(InpoWatch):
    """Prompts that nothing is trained on, which every policy of the front answers."""


@dataclass(frozen=True, kw_only=True)
class TrainModpo(TrainingRun):
    """Train one policy for each weighting of several objectives by MODPO: the front between them.

    Everything but the following is what each policy is trained with.

    Args:
        data: Preferences of the objective that is trained on.
        weights: One vector for each policy, each summing to 1: first the weight of the objective that is trained on,
            then one for each of reward, then of margin_data, in their order.
        reward: Rewards of other objectives: directory, hub id, `package.module:function`, URL, or `implicit:PLACE` of a
            policy trained by DPO; one, a list, or by label (`--reward.harmless runs/rm`).
        margin_data: Preferences of other objectives by label (`--margin_data.harmless safer.jsonl`); a policy is
            trained on each by DPO first, and its implicit reward is the objective's.
        margin_beta: Beta of these trainings; `beta` by default.
        beta: Strength of the KL regulariser, the same for every policy.
        reference: What policies are held against; the model they start from by default.
        regularizers: Terms that are added to the loss of every policy, as in train preference.
        evaluators: What scores each objective on the watched prompts, by label: those of the other objectives, and one
            more for the objective that is trained on.
        watch: Held-out prompts on which the front is measured.
        hypervolume_from: Where the hypervolume begins, in the order of the weights; by default the worst mean of each
            objective among all policies and the start, which other sweeps do not share.
        max_new_tokens: Length at which a response to a watched prompt is cut.
        draw_budget: Token slots of keys and values held at a time while drawing.
        batch_size: Rows of one optimiser step, over all devices; a row of several responses may hold several pairs.
        seed: Seed of the order of the data and of draws, the same for every policy.
        resume: Go on with a sweep that was stopped; nothing that was trained, scored or drawn is made again.
    """

    data: PreferenceData
    weights: list[list[float]]
    reward: str | list[str] | dict[str, str] | None = None
    margin_data: dict[str, str] = field(default_factory=dict)
    margin_beta: float | None = None
    beta: float = 0.1
    reference: str | None = None
    regularizers: choices(PREFERENCE_REGULARIZERS, default="sft") = field(default_factory=list)  # type: ignore[valid-type]
    evaluators: dict[str, str] = field(default_factory=dict)
    watch: ModpoWatch | None = None
    hypervolume_from: list[float] | None = None
    max_new_tokens: int = 256
    draw_budget: int = 65_536
    learning_rate: float = 1e-6
    batch_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "draw_budget", low=1)
        _ = self.sampling, DPO(beta=self.beta), self.margin_method
        self._check_others()
        self._check_weights()
        self._check_watch()
        if self.from_scratch:
            raise RecipeError("modpo starts from a policy that answers; leave out from_scratch")
        _ = self.runs

    @property
    def evaluates(self) -> bool:
        """Whether there are data to watch while training."""
        return self.data.eval is not None

    @property
    def sampling(self) -> Sampling:
        """How watched prompts are answered."""
        return Sampling(max_new_tokens=self.max_new_tokens)

    @property
    def rewards(self) -> dict[str, str]:
        """Places of given rewards by label."""
        return named_places(self.reward) if self.reward else {}

    @property
    def others(self) -> list[str]:
        """Labels of the objectives beside the one that is trained on, in the order of their weights."""
        return [*self.rewards, *self.margin_data]

    @property
    def objectives(self) -> list[str]:
        """Labels of all objectives, in the order of the weights."""
        return [next((label for label in self.evaluators if label not in self.others), TRAINED), *self.others]

    def _check_others(self) -> None:
        if not self.others:
            raise RecipeError(
                "no other objective is named; name a reward (--reward.LABEL PLACE) or preferences that one is made of "
                "(--margin_data.LABEL FILE), or train by dpo (trueup train preference)"
            )
        named_places(self.margin_data)
        twice = sorted(set(self.rewards) & set(self.margin_data))
        if twice:
            raise RecipeError(f"{twice[0]!r} is both a reward and margin_data; give each objective a label of its own")
        if self.margin_beta is not None and not self.margin_data:
            raise RecipeError("margin_beta does nothing without margin_data; leave it out")

    def _check_weights(self) -> None:
        if not self.weights:
            raise RecipeError("weights names no policy; give a list of vectors such as [[0.1, 0.9], [0.5, 0.5]]")
        names = ["the trained objective", *self.others]
        for vector in self.weights:
            if len(vector) != len(names):
                raise RecipeError(f"weights {vector}: {len(names)} are needed, one each for {', '.join(names)}")
            if not all(0 <= weight <= 1 for weight in vector):
                raise RecipeError(f"weights {vector}: each must lie in [0, 1]")
            if not abs(sum(vector) - 1) < 1e-6:
                raise RecipeError(f"weights {vector} sum to {sum(vector):g}, not to 1; divide them by their sum")
            if vector[0] == 0:
                raise RecipeError(
                    f"weights {vector}: at 0 the preferences that are trained on do not count; train on another "
                    "objective's preferences"
                )
        names = [name_of(vector) for vector in self.weights]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RecipeError(f"weights: {twice} is named twice; a policy is trained once for each vector")

    def _check_watch(self) -> None:
        if (self.watch is None) != (not self.evaluators):
            missing = "watch.prompts, on which the front is measured" if self.evaluators else "evaluators"
            raise RecipeError(f"watch and evaluators go together; add {missing}")
        known = named_places(self.evaluators)
        new = [label for label in known if label not in self.others]
        lacking = [label for label in self.others if label not in known]
        if known and (lacking or len(new) != 1):
            raise RecipeError(
                f"evaluators has {', '.join(known)}; it needs one for each of {', '.join(self.others)}, and one more, "
                "whose label names the objective that is trained on"
            )
        if self.hypervolume_from is not None:
            if self.watch is None:
                raise RecipeError("hypervolume_from does nothing where nothing is watched; leave it out")
            if len(self.hypervolume_from) != len(self.objectives):
                raise RecipeError(f"hypervolume_from needs one value each for {', '.join(self.objectives)}")

    def margin_folder(self, label: str) -> Path:
        """Where the margin model of an objective is trained."""
        return self.output / "margin-models" / label

    def scores_folder(self, label: str) -> Path:
        """Where an objective's rewards of the given responses are kept."""
        return self.output / "margins" / label

    @property
    def places(self) -> dict[str, str]:
        """Where the reward of each other objective is, once margin models are trained."""
        return {**self.rewards, **{label: f"implicit:{self.margin_folder(label)}" for label in self.margin_data}}

    @property
    def margin_method(self) -> DPO:
        """What margin models are trained by."""
        return DPO(beta=self.beta if self.margin_beta is None else self.margin_beta)

    @property
    def margin_runs(self) -> dict[str, TrainPreference]:
        """The trainings of margin models: DPO on each objective's own preferences."""
        return {
            label: self._training(
                self.margin_folder(label),
                data=replace(self.data, train=place, train_split=None, eval=None, eval_split=None, flip=0.0),
                method=self.margin_method,
                patience=None,
                eval_steps=None,
            )
            for label, place in self.margin_data.items()
        }

    @property
    def runs(self) -> dict[str, TrainPreference]:
        """The trainings of the front's policies, by name."""
        kept = {label: f"kept:{self.scores_folder(label)}" for label in self.others}
        return {
            name_of(vector): self._training(
                self.output / name_of(vector),
                data=self.data,
                method=MODPO(beta=self.beta, weight=vector[0]),
                reward=kept,
                reward_weights=list(vector[1:]),
                regularizers=list(self.regularizers),
            )
            for vector in self.weights
        }

    def _training(self, folder: Path, **settings: object) -> TrainPreference:
        own = {one.name: getattr(self, one.name) for one in fields(TrainingRun)}
        known = {"output": folder, "reference": self.reference, "resume": any(folder.glob("checkpoint-*"))}
        return TrainPreference(**own | known | settings)


def name_of(vector: list[float]) -> str:
    """What the policy of a weight vector is called: `weights-0.1-0.9`."""
    return "weights-" + "-".join(f"{weight:.6g}" for weight in vector)
