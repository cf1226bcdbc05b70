"""The two laws of reward over-optimisation, as functions of one curve.

With `d = sqrt(KL(policy || initial policy))`, the KL of whole responses in nats, and gold measured from the initial
policy's mean:

- best-of-n: `R(d) = d (alpha - beta d)`
- RL: `R(d) = d (alpha - beta log d)`, with `d log d = 0` at `d = 0`

Both are linear in (alpha, beta), so least squares has one solution and a mean of curves has the mean of their
coefficients.

**Source** Gao, Schulman, Hilton (2023), Scaling Laws for Reward Model Overoptimization, arXiv 2210.10760.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from trueup.errors import DataError, RecipeError
from trueup.measure.scored import Array

Form = Literal["best_of_n", "rl"]
"""Which of the two laws."""

Basis = Form | Literal["cubic", "log1p"]
"""A law, the cubic through zero that it is compared with, or `d (alpha - beta log(1 + d))`, which the paper rejects."""


@dataclass(frozen=True)
class Law:
    """Gold as a function of distance.

    Args:
        form: `best_of_n` or `rl`.
        alpha: Coefficient of `d`, gold per sqrt(nat).
        beta: Coefficient of the fall: of `-d^2` or of `-d log d`.
    """

    form: Form
    alpha: float
    beta: float

    def __call__(self, d: Float[Array, "*points"]) -> Float[Array, "*points"]:
        """Gold above the initial policy's at distances `d` (sqrt nats)."""
        return np.asarray(basis(d, self.form) @ np.array([self.alpha, self.beta]))

    def peak(self) -> tuple[float, float] | None:
        """Location and height of the maximum over `d >= 0`; None where beta is not positive, as gold then never turns.

        Best-of-n: `alpha / (2 beta)` and `alpha^2 / (4 beta)`; RL: `exp(alpha / beta - 1)` and `beta` times that.
        Where alpha is not positive, best-of-n has its maximum at the start, (0, 0).
        """
        if not self.beta > 0:
            return None
        location, height = peaks(np.array([self.alpha, self.beta]), self.form)
        return float(location), float(height)


def basis(d: Float[Array, "*points"], form: Basis) -> Float[Array, "*points k"]:
    """What the coefficients multiply: (d, -d^2), (d, -d log d), (d, d^2, d^3), or (d, -d log(1 + d))."""
    if form == "cubic":
        return np.stack([d, d**2, d**3], axis=-1)
    if form == "best_of_n":
        return np.stack([d, -(d**2)], axis=-1)
    if form == "log1p":
        return np.stack([d, -d * np.log1p(d)], axis=-1)
    return np.stack([d, -d * np.log(np.where(d > 0, d, 1.0))], axis=-1)


def peaks(coefficients: Float[Array, "*draws 2"], form: Form) -> tuple[Float[Array, "*draws"], Float[Array, "*draws"]]:
    """Location and height of each law's maximum over `d >= 0`; both infinite where beta is not positive."""
    alpha, beta = coefficients[..., 0], coefficients[..., 1]
    turns = beta > 0
    safe = np.where(turns, beta, 1.0)
    with np.errstate(over="ignore", under="ignore"):
        if form == "best_of_n":
            location = np.maximum(alpha, 0.0) / (2 * safe)
            height = np.maximum(alpha, 0.0) * location / 2
        else:
            location = np.exp(alpha / safe - 1)
            height = safe * location
    return np.where(turns, location, np.inf), np.where(turns, height, np.inf)


def solver(
    d: Float[Array, " points"], form: Basis, *, weights: Float[Array, " points"] | None = None
) -> Float[Array, "k points"]:
    """The matrix that takes a curve's gold to its least-squares coefficients.

    Args:
        d: Distances, sqrt(nats).
        form: A law or the cubic.
        weights: Weight of each squared residual; None for equal ones.

    Raises:
        RecipeError: Too few points with `d > 0` and a positive weight, or a negative weight.
    """
    weights = np.ones_like(d) if weights is None else np.asarray(weights, np.float64)
    if np.any(weights < 0) or not np.all(np.isfinite(weights)):
        raise RecipeError("weights must be finite and not negative")
    matrix = basis(d, form)
    distinct = len(np.unique(d[(weights > 0) & (d > 0)]))
    if distinct < matrix.shape[-1]:
        raise RecipeError(
            f"a {form} fit needs {matrix.shape[-1]} different distances above 0 to fit on, got {distinct}; "
            "add points or fit over a wider range"
        )
    root = np.sqrt(weights)[:, None]
    return np.linalg.pinv(root * matrix) * root[:, 0]


def fit(
    d: Float[Array, " points"],
    gold: Float[Array, " points"],
    *,
    form: Form,
    weights: Float[Array, " points"] | None = None,
) -> Law:
    """The law nearest to one curve, by least squares.

    Args:
        d: Distances, sqrt(nats). The RL form is infinitely steep at 0, where the noise of a measured KL counts
            most; weights of zero leave such points out.
        gold: Gold at each distance, minus the initial policy's mean gold.
        form: `best_of_n` or `rl`.
        weights: Weight of each squared residual; None for equal ones.

    Raises:
        DataError: A distance is negative, or a value is not finite.
        RecipeError: Fewer than two distances above 0.
    """
    check_distances(d)
    if not np.all(np.isfinite(gold)):
        place = int(np.flatnonzero(~np.isfinite(gold))[0])
        raise DataError(f"gold is {gold[place]} at d = {d[place]:.4g}", field="gold", expected="finite numbers")
    alpha, beta = solver(d, form, weights=weights) @ gold
    return Law(form, float(alpha), float(beta))


def check_distances(d: Float[Array, " points"]) -> None:
    """Stop where distances are not finite or negative.

    Raises:
        DataError: They are.
    """
    bad = ~(np.isfinite(d) & (d >= 0))
    if np.any(bad):
        place = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"distance {place + 1} is {d[place]}",
            field="d",
            expected="square roots of KL in nats, finite and not negative",
            cure="a single-sample KL estimate can be negative: clip its mean at 0, not each sample",
        )


def at_distances(
    d: Float[Array, " points"], gold: Float[Array, " points"], *, wanted: Float[Array, " ns"]
) -> Float[Array, " ns"]:
    """One run's gold read off at given distances, by linear interpolation.

    RL runs reach different KL at the same step; this brings them onto common distances before they are compared.

    Raises:
        DataError: A wanted distance lies outside what the run has seen.
    """
    check_distances(d)
    if len(d) == 0 or np.min(wanted) < np.min(d) or np.max(wanted) > np.max(d):
        raise DataError(
            f"the run does not reach from d = {np.min(wanted):.4g} to {np.max(wanted):.4g}",
            field="d",
            expected="distances within those of every run",
            cure="compare over the range that all runs share",
        )
    order = np.argsort(d, kind="stable")
    return np.interp(wanted, d[order], gold[order])
