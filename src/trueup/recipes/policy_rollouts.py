"""What draws the rollouts of `trueup train policy`, where it is not the policy itself."""

from typing import Any, Protocol

from trueup.errors import RecipeError
from trueup.models.picking import Sampling
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.engine import RolloutEngine
from trueup.policies.server_engine import ServerEngine, ServerSettings
from trueup.policies.vllm_engine import VllmEngine, VllmSettings

ROLLOUT_ENGINES: dict[str, type[Any]] = {"vllm": VllmSettings, "server": ServerSettings}


class RolloutRecipe(Protocol):
    """What a recipe says of rollouts."""

    @property
    def rollouts(self) -> Any:
        """Settings of the engine; None where the policy draws itself."""
        ...

    @property
    def sampling(self) -> Sampling:
        """How replies are drawn."""
        ...

    @property
    def trust_remote_code(self) -> bool:
        """Whether code that comes with a model may run."""
        ...


def rollout_engine(recipe: RolloutRecipe, checkpoint: PolicyCheckpoint, *, resumed: bool) -> RolloutEngine | None:
    """The engine that a recipe asks for.

    Raises:
        MissingExtraError: vLLM is not installed.
        RecipeError: A run is resumed whose server cannot be given the weights that it goes on with.
    """
    settings = recipe.rollouts
    if settings is None:
        return None
    if isinstance(settings, VllmSettings):
        return VllmEngine(
            checkpoint=checkpoint,
            sampling=recipe.sampling,
            settings=settings,
            trust_remote_code=recipe.trust_remote_code,
        )
    if resumed and not settings.renewable:
        raise RecipeError(
            "the run goes on with weights that its server does not have and cannot be given; set rollouts.folder and "
            "rollouts.renew"
        )
    return ServerEngine(checkpoint=checkpoint, sampling=recipe.sampling, settings=settings)
