"""Logistic regression with a ridge, by Newton's method, and Platt's calibration of its scores."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from trueup.measure.scored import Array

# Small enough to leave a fit alone, large enough to keep it finite where all labels are equal.
_BIAS_PENALTY = 1e-3
_MOST_STEPS = 200
_CONVERGED = 1e-12
_LEAST_SLOPE = 0.01


@dataclass(frozen=True)
class Logistic:
    """`P(y = 1 | x) = sigmoid(x . weights + bias)`."""

    weights: Float[Array, " features"]
    bias: float

    def log_odds(self, features: Float[Array, "points features"]) -> Float[Array, " points"]:
        """`log(p / (1 - p))` of each point."""
        return features @ self.weights + self.bias


def fit_logistic(
    features: Float[Array, "points features"],
    targets: Float[Array, " points"],
    *,
    point_weights: Float[Array, " points"],
    penalty: float,
) -> Logistic:
    """Minimise `sum_i m_i CE(t_i, p_i) + penalty / 2 * |weights|^2`, with CE the cross-entropy in nats.

    The bias is shrunk by 0.001 / 2 of its square alone, so that targets that are all 0 or all 1 have a fit as well. The
    objective is then strictly convex where `penalty > 0`, and damped Newton steps find its only minimum.

    Args:
        features: One row for each point.
        targets: 0, 1 or between.
        point_weights: m_i, zero or more.
        penalty: Ridge on the weights, zero or more.
    """
    design = np.c_[features, np.ones(len(features))]
    ridge = np.r_[np.full(features.shape[1], float(penalty)), _BIAS_PENALTY]

    def loss(at: Float[Array, " parameters"]) -> float:
        log_odds = design @ at
        return float(point_weights @ (np.logaddexp(0.0, log_odds) - targets * log_odds) + ridge @ at**2 / 2)

    at = np.zeros(design.shape[1])
    now = loss(at)
    for _ in range(_MOST_STEPS):
        probability = expit(design @ at)
        gradient = design.T @ (point_weights * (probability - targets)) + ridge * at
        curvature = point_weights * probability * (1 - probability)
        step = np.linalg.lstsq((design.T * curvature) @ design + np.diag(ridge), gradient, rcond=None)[0]
        length = 1.0
        while (then := loss(at - length * step)) > now - 1e-4 * length * float(gradient @ step) and length > 1e-12:
            length /= 2
        if then > now:
            break
        at, gained, now = at - length * step, now - then, then
        if gained <= _CONVERGED * max(1.0, abs(now)) and np.abs(length * step).max() < 1e-8:
            break
    return Logistic(at[:-1], float(at[-1]))


def platt(
    log_odds: Float[Array, " points"], labels: Float[Array, " points"], *, point_weights: Float[Array, " points"]
) -> tuple[float, float]:
    """Slope and bias of `P(y = 1) = sigmoid(slope * log_odds + bias)`, fitted to scores of points kept out of training.

    Targets are `(n1 + 1) / (n1 + 2)` and `1 / (n0 + 2)` with n1 and n0 the total weights of the labels, so that
    separable scores do not become certainties. A slope that would turn the order round is held just above zero.

    **Source** Platt (1999), Probabilistic Outputs for Support Vector Machines.
    """
    positive = float(point_weights @ labels)
    negative = float(point_weights.sum() - positive)
    targets = np.where(labels > 0.5, (positive + 1) / (positive + 2), 1 / (negative + 2))
    found = fit_logistic(log_odds[:, None], targets, point_weights=point_weights, penalty=1e-6)
    if found.weights[0] > _LEAST_SLOPE:
        return float(found.weights[0]), found.bias
    offset = _LEAST_SLOPE * log_odds
    flat = fit_logistic(np.zeros((len(offset), 0)), targets, point_weights=point_weights, penalty=0.0)
    return _LEAST_SLOPE, flat.bias - float(np.average(offset, weights=point_weights))
