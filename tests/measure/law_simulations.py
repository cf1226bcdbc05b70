"""Simulated gold curves with known truth."""

import numpy as np
from scipy.special import gammaln

from trueup.measure.law_forms import Law

NS = np.unique(np.round(2 ** np.arange(0, 8.01, 0.5))).astype(int)
D = np.sqrt(np.log(NS) - (NS - 1) / NS)


def prompt_curves(law: Law, rng, *, units: int, noise: float = 0.4, d=D) -> np.ndarray:
    """Each prompt has its own level and coefficients around the law's, and noise that is correlated along n."""
    level = rng.normal(size=(units, 1))
    own = rng.normal(size=(units, 2)) * [0.5, 0.15]
    effects = own[:, :1] * d - own[:, 1:] * d * (d if law.form == "best_of_n" else np.log(np.where(d > 0, d, 1)))
    walk = np.cumsum(rng.normal(size=(units, len(d))), axis=1) / np.sqrt(len(d))
    return level + law(d) + effects + noise * (walk - walk[:, :1])


def pools(rng, error, *, prompts: int, samples: int = 256) -> np.ndarray:
    """Best-of-n gold of each prompt at `NS`, where the proxy is gold plus an error drawn by `error(size)`."""
    gold = rng.normal(size=(prompts, samples))
    order = np.argsort(gold + error((prompts, samples)), axis=1)
    i, n = np.arange(1, samples + 1), NS[:, None]
    below = np.maximum(i - n, 0)
    logs = gammaln(i) - gammaln(n) - gammaln(below + 1) - gammaln(samples + 1)
    logs += gammaln(n + 1) + gammaln(samples - n + 1)
    weights = np.where(i >= n, np.exp(logs), 0.0)
    return np.take_along_axis(gold, order, axis=1) @ weights.T
