"""Proxies of gold, each trained and scored once: experiments share what they have in common, and can be resumed."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from trueup.files import atomic_write, cache_folder
from trueup.lab.gold_proxy import ProxyPlan, ProxyScores, Setup, plan_record, score_proxy, train_proxy
from trueup.lab.policies import PolicyPlan, build_policy

logger = logging.getLogger(__name__)

# Raised when the same plan would give other scores.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ProxyRun:
    """A proxy to be trained on a setup.

    Args:
        plan: How.
        trunk: Language model that it begins from; the setup's policy by default.
    """

    plan: ProxyPlan
    trunk: PolicyPlan | None = None

    def key(self, setup: Setup) -> str:
        """Name of everything that the scores depend on."""
        plan = setup.plan
        sizes = [plan.prompts, plan.samples, plan.comparisons, plan.held_out]
        parts = [_VERSION, plan.policy.key, sizes, plan_record(self.plan), self.trunk.key if self.trunk else None]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def run_proxy(setup: Setup, run: ProxyRun, *, folder: Path | None = None) -> ProxyScores:
    """Train a proxy and score the pool, or read what the same run gave before."""
    home = folder or cache_folder() / "lab"
    path = home / "proxies" / f"{run.key(setup)}.npz"
    known = _read(path)
    if known is not None:
        return known
    trunk = build_policy(run.trunk, folder=home / "policies") if run.trunk else None
    proxy = train_proxy(setup, run.plan, trunk=trunk)
    found = score_proxy(setup, proxy)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        np.savez(
            handle,
            score=found.score.astype(np.float32),
            hidden_norm=found.hidden_norm.astype(np.float32),
            training_norm=np.asarray(found.training_norm),
            accuracy=found.accuracy,
            parameters=found.parameters,
        )
    logger.info("proxy %s: accuracy %.3f on held-out comparisons", path.stem, found.accuracy)
    return found


def _read(path: Path) -> ProxyScores | None:
    if not path.is_file():
        return None
    try:
        # Opened here, since numpy leaves a file open that turns out to be damaged.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as held:
            values: dict[str, Any] = {name: held[name] for name in held.files}
        return ProxyScores(
            score=values["score"].astype(float),
            hidden_norm=values["hidden_norm"].astype(float),
            training_norm=(float(values["training_norm"][0]), float(values["training_norm"][1])),
            accuracy=float(values["accuracy"]),
            parameters=int(values["parameters"]),
        )
    except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile):
        logger.warning("%s: damaged, and made again", path)
        return None
