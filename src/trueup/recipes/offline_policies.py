"""Which policies an audit is about: where they are, how they were trained, and what they are held against."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path

from trueup.endpoints.settings import split_label
from trueup.errors import CheckpointError, RecipeError
from trueup.models.side_files import read_side_file
from trueup.objectives import PREFERENCE_OBJECTIVES
from trueup.policies.base import Policy
from trueup.policies.load import load_policy
from trueup.policies.model import ModelPolicy
from trueup.recipes.audit_reward import DTYPES
from trueup.recipes.inpo_settings import PAIRS_FILE
from trueup.recipes.offline_settings import OfflineInputs
from trueup.recipes.places import named_places
from trueup.recipes.run_recipe import Known, read_recipe
from trueup.types import PolicyObjective

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A policy and what is known of its making.

    Args:
        name: What the report calls it.
        place: Where it is.
        recipe: Of the run that made it; empty where that is not known.
        earlier: Files of pairs that earlier rounds of the same run learned from.
    """

    name: str
    place: str
    recipe: Known = field(default_factory=dict)
    earlier: tuple[Path, ...] = ()

    @property
    def method(self) -> str:
        """Name of the method; empty where it is not known."""
        stated = self.recipe.get("method")
        return str(stated.get("name", "")) if isinstance(stated, Mapping) else str(stated or "")

    @property
    def start(self) -> str | None:
        """What it was held against, or else started from; None for one that began with random weights."""
        found = self.recipe.get("reference")
        if found is None and not self.recipe.get("from_scratch"):
            found = self.recipe.get("model")
        return str(found) if found is not None else None

    @property
    def trained(self) -> str:
        """How it was trained, in words."""
        objective = self.objective
        return in_words(self.method, objective) if objective is not None else self.method

    @property
    def objective(self) -> PolicyObjective | None:
        """The method of preferences with its settings; None where it is of another kind.

        Raises:
            RecipeError: The recipe's settings are no settings of the method.
        """
        cls = PREFERENCE_OBJECTIVES.get(self.method)
        if cls is None:
            return None
        stated = self.recipe["method"]
        settings = {key: value for key, value in dict(stated).items() if key != "name"} if stated != self.method else {}
        try:
            return cls(**settings)
        except TypeError as error:
            raise RecipeError(f"{self.place}: its recipe does not fit the method {self.method} ({error})") from error


def in_words(name: str, method: object) -> str:
    """A method with its settings: `h_dpo (beta 0.1, alpha 0.9)`."""
    settings = asdict(method) if is_dataclass(method) and not isinstance(method, type) else {}
    told = ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)
    return f"{name} ({told})" if told else name


def made(name: str, place: str) -> Made:
    """A policy with what its side file, or its run's recipe, says of its making; of a run in rounds, the last one.

    Raises:
        CheckpointError: The run is not finished, or a file is damaged.
    """
    folder = Path(place)
    if not folder.is_dir():
        return Made(name=name, place=place)
    rounds = _rounds(folder)
    if rounds and not (folder / "model").is_dir():
        return made(name, str(rounds[-1]))
    inside = folder / "model"
    if (folder / "recipe.yaml").is_file() and not inside.is_dir():
        raise CheckpointError(f"{place}: this run has no finished model; resume it, or name one of its checkpoints")
    run = folder if inside.is_dir() else folder.parent if folder.name == "model" else None
    stated = read_side_file(inside if inside.is_dir() else folder).get("recipe")
    recipe = stated if isinstance(stated, Mapping) else read_recipe(run / "recipe.yaml") if run else {}
    before = _rounds(run.parent) if run else []
    earlier = [one / PAIRS_FILE for one in before[: before.index(run)]] if run in before else []
    return Made(name=name, place=place, recipe=recipe, earlier=tuple(earlier))


def _rounds(folder: Path) -> list[Path]:
    """Finished rounds of a run, in order."""
    found = {int(one.name[6:]): one for one in folder.glob("round-*") if one.name[6:].isdigit()}
    return [found[number] for number in sorted(found) if (found[number] / "model").is_dir()]


def reference_of(policies: Mapping[str, Made], *, stated: str | None) -> Made | None:
    """What all policies are held against: what is stated, or else what each of them says.

    Raises:
        RecipeError: They say different things, what they say is not there, or it is called as one of them is.
    """
    if stated is not None:
        label, place = split_label(stated)
        if label in policies:
            raise RecipeError(f"the reference and a policy are both called {label!r}; write another LABEL=place")
        return made(label or _free_name(place, policies), place)
    starts = {one.start for one in policies.values() if one.start is not None}
    if not starts:
        return None
    if len(starts) > 1:
        told = ", ".join(f"{one.name} from {one.start}" for one in policies.values())
        raise RecipeError(f"the policies come from different places ({told}); name one --reference for all")
    place = starts.pop()
    if place.startswith((".", "/", "~")) and not Path(place).exists():
        raise RecipeError(f"the run says that it comes from {place}, which is not there; name it as --reference PLACE")
    logger.info("held against %s, as the recipe says", place)
    return made(_free_name(place, policies), place)


def _free_name(place: str, policies: Mapping[str, Made]) -> str:
    name = name_of(place)
    return name if name and name not in policies else "reference"


def name_of(place: str) -> str:
    """What a policy without a label is called: as other places are, and a run's model as its run."""
    path = Path(place)
    is_inside = path.name == "model" and len(path.parts) > 1
    return next(iter(named_places([str(path.parent) if is_inside else place])))


def same_place(one: str, other: str) -> bool:
    """Whether two names are of one policy: a run and its model are the same."""
    return _plain(one) == _plain(other)


def _plain(place: str) -> str:
    path = Path(place)
    if not path.exists():
        return place
    return str((path / "model" if (path / "model").is_dir() else path).resolve())


def open_policy(policy: Made, recipe: OfflineInputs) -> Policy:
    """The policy itself, at the first temperature.

    Raises:
        CheckpointError: There is no such model, or it is no causal language model.
        RecipeError: The function or server cannot be used.
    """
    return _open(policy, recipe, temperature=recipe.temperatures[0])


def _open(policy: Made, recipe: OfflineInputs, *, temperature: float) -> Policy:
    return load_policy(
        f"{policy.name}={policy.place}",
        max_new_tokens=recipe.max_new_tokens,
        temperature=temperature,
        device=recipe.device,
        dtype=DTYPES[recipe.dtype],
        token_budget=4 * recipe.token_budget,
        trust_remote_code=recipe.trust_remote_code,
    )


def at_temperature(opened: Policy, policy: Made, recipe: OfflineInputs, temperature: float) -> Policy:
    """The same policy at another temperature, its weights loaded once."""
    if isinstance(opened, ModelPolicy):
        return replace(opened, sampling=replace(opened.sampling, temperature=temperature))
    return _open(policy, recipe, temperature=temperature)


def same_tokens(policy: Policy, reference: Policy | None) -> bool:
    """Whether both are models that read and write the same tokens."""
    if not (isinstance(policy, ModelPolicy) and isinstance(reference, ModelPolicy)):
        return False
    return policy.checkpoint.tokenizer.get_vocab() == reference.checkpoint.tokenizer.get_vocab()


def asked_alike(reference: Policy, policy: Policy) -> Policy:
    """The reference, asked in the policy's format where it states none of its own.

    A base model does not say how its text was made; the policy that was trained from it does.
    """
    if not (isinstance(reference, ModelPolicy) and isinstance(policy, ModelPolicy) and same_tokens(policy, reference)):
        return reference
    known, wanted = reference.checkpoint, policy.checkpoint
    if "text_format" in known.provenance or "text_format" not in wanted.provenance:
        return reference
    logger.info("%s states no text format: it is asked as %s is", reference.name, policy.name)
    return replace(reference, checkpoint=replace(known, tokenizer=wanted.tokenizer, form=wanted.form))
