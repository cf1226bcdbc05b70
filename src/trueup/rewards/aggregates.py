"""How the members of an ensemble become one reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from trueup.errors import RecipeError

Array = np.ndarray


class Aggregate(Protocol):
    """A pure function of the members' rewards; the order of members never matters."""

    def __call__(self, members: Float[Array, "members responses"], /) -> Float[Array, " responses"]:
        """Return one reward per response."""
        ...


@dataclass(frozen=True, kw_only=True)
class Mean:
    """`(1/k) sum_i R_i`.

    >>> Mean()(np.array([[1.0], [2.0], [6.0]])).item()
    3.0
    """

    def __call__(self, members: Float[Array, "members responses"], /) -> Float[Array, " responses"]:
        """Return one reward per response."""
        return members.mean(axis=0)


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """`min_i R_i` (WCO).

    **Source**: Coste et al., "Reward Model Ensembles Help Mitigate Overoptimization" (arXiv 2310.02743), WCO.

    >>> WorstCase()(np.array([[1.0], [2.0], [6.0]])).item()
    1.0
    """

    def __call__(self, members: Float[Array, "members responses"], /) -> Float[Array, " responses"]:
        """Return one reward per response."""
        return members.min(axis=0)


@dataclass(frozen=True, kw_only=True)
class UncertaintyWeighted:
    """`mean_i R_i - coefficient * (1/k) sum_i (R_i - mean)^2` (UWO): the mean less the members' variance.

    Not monotone: raising a member that exceeds the mean by more than 1 / (2 coefficient) lowers the aggregate.

    **Source**: Coste et al., "Reward Model Ensembles Help Mitigate Overoptimization" (arXiv 2310.02743), UWO.
    **Deviations**: none; the variance is the population's (1/k), as in the paper and its best-of-n code. Its PPO code
    divides by k - 1.
    **Limits**: the mean at `coefficient = 0`, or where all members agree.

    Args:
        coefficient: Weight of the variance, per unit of reward. The paper has 0.5 (best-of-n) and 0.1 (PPO).

    >>> round(UncertaintyWeighted(coefficient=0.5)(np.array([[1.0], [2.0], [6.0]])).item(), 4)
    0.6667
    """

    coefficient: float = 0.5

    def __post_init__(self) -> None:
        if not (self.coefficient >= 0 and np.isfinite(self.coefficient)):
            raise RecipeError(f"coefficient must be a finite number of at least 0, got {self.coefficient}")

    def __call__(self, members: Float[Array, "members responses"], /) -> Float[Array, " responses"]:
        """Return one reward per response."""
        return members.mean(axis=0) - self.coefficient * members.var(axis=0)


AGGREGATES: Mapping[str, type[Aggregate]] = {"mean": Mean, "wco": WorstCase, "uwo": UncertaintyWeighted}
"""By name: what a recipe or a saved ensemble may choose from."""


def aggregate_settings(aggregate: Aggregate) -> dict[str, Any]:
    """An aggregate as plain values: its name and settings.

    Raises:
        RecipeError: It is not one of ours, so that a file could not name it.
    """
    names = [name for name, cls in AGGREGATES.items() if type(aggregate) is cls]
    if not names:
        raise RecipeError(f"{type(aggregate).__name__} has no name; known: {', '.join(AGGREGATES)}")
    return {"name": names[0], **{name: float(value) for name, value in vars(aggregate).items()}}


def aggregate_from(settings: object) -> Aggregate:
    """The aggregate that plain values describe.

    Raises:
        ValueError: They describe none.
    """
    if not isinstance(settings, dict) or settings.get("name") not in AGGREGATES:
        raise ValueError(f"aggregate is {settings!r}; expected a name, one of {', '.join(AGGREGATES)}")
    try:
        return AGGREGATES[settings["name"]](**{name: value for name, value in settings.items() if name != "name"})
    except TypeError as error:
        raise ValueError(f"aggregate is {settings!r}; {error}") from error
