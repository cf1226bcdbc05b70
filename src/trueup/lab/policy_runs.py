"""Optimising scale policies against proxies of gold, each run once: experiments share runs, and can be resumed.

Gold is looked at on the pool's prompts, which neither proxies nor the optimisation learn from, and decides nothing. The
text of the initial policy may hold some of them.
"""

import hashlib
import json
import logging
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trueup.files import PARTIAL, cache_folder, move_into_place
from trueup.functional.params import average
from trueup.lab.gold_proxy import Setup, gold_of, plan_record, train_proxy
from trueup.lab.look_files import read_looks, write_looks
from trueup.lab.optimizing import Looks, Optimization, optimize
from trueup.lab.policies import PolicyPlan, build_policy
from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.world import World
from trueup.models.checkpoints import Checkpoint, load_reward_model, save_reward_model
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint, save_policy
from trueup.objectives.policy.rloo import RLOO
from trueup.rewards.aggregates import Aggregate, Mean
from trueup.rewards.base import Reward
from trueup.rewards.ensemble import EnsembleReward
from trueup.rewards.model import ModelReward

logger = logging.getLogger(__name__)

# Raised when the same plan would give another run.
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PolicyRun:
    """A policy to be optimised.

    Args:
        proxies: What it is optimised against: one proxy, or members of an ensemble.
        aggregate: How members become one reward.
        how: The method and its settings.
        start: What it starts from; the setup's policy by default.
        reference: What the KL is measured against, as a soup of these policies in equal parts; the start by default.
        keep: Whether the optimised policy is kept.
    """

    proxies: tuple[ProxyRun, ...]
    aggregate: Aggregate = field(default_factory=Mean)
    how: Optimization = field(default_factory=lambda: Optimization(terms=(RLOO(),)))
    start: PolicyPlan | None = None
    reference: tuple[PolicyPlan, ...] = ()
    keep: bool = False

    def key(self, setup: Setup) -> str:
        """Name of everything that the run depends on."""
        parts = [
            _VERSION,
            setup.plan.policy.key,
            [setup.plan.prompts, setup.plan.comparisons, setup.plan.held_out],
            [[plan_record(one.plan), one.trunk.key if one.trunk else None] for one in self.proxies],
            _record(self.aggregate),
            self.how.record(),
            self.start.key if self.start else None,
            [one.key for one in self.reference],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def run_policy(setup: Setup, run: PolicyRun, *, folder: Path | None = None) -> Looks:
    """Optimise a policy and look at gold along the way, or read what the same run gave before."""
    home = folder or cache_folder() / "lab"
    path = home / "runs" / f"{run.key(setup)}.npz"
    known = read_looks(path)
    if known is not None and (not run.keep or policy_folder(setup, run, folder=folder).is_dir()):
        return known
    start = _policy(run.start, setup, home)
    found = optimize(
        start,
        run.how,
        reference=_reference(run, setup, home),
        origin=_policy(None, setup, home),
        prompts=[row.prompt for row in setup.comparisons],
        reward=reward_of(setup, run, folder=folder),
        watched=setup.pool.prompts,
        gold=gold_of(World(setup.plan.policy.world)),
    )
    if run.keep:
        _keep(start, policy_folder(setup, run, folder=folder), run)
    write_looks(path, found)
    logger.info("run %s: gold %.2f -> %.2f", path.stem, found.gold[0].mean(), found.gold[-1].mean())
    return found


def policy_folder(setup: Setup, run: PolicyRun, *, folder: Path | None = None) -> Path:
    """Where the optimised policy of a run is, if it is kept."""
    return (folder or cache_folder() / "lab") / "optimized" / run.key(setup)


def reward_of(setup: Setup, run: PolicyRun, *, folder: Path | None = None) -> Reward:
    """What a run optimises: its proxies, each trained once, as one reward."""
    home = folder or cache_folder() / "lab"
    members = [
        ModelReward(checkpoint=_proxy(setup, one, home), name=f"member {i}") for i, one in enumerate(run.proxies)
    ]
    return members[0] if len(members) == 1 else EnsembleReward(members=members, aggregate=run.aggregate)


def _proxy(setup: Setup, run: ProxyRun, home: Path) -> Checkpoint:
    """A trained proxy, with its weights."""
    target = home / "rewards" / run.key(setup)
    if not target.is_dir():
        trunk = build_policy(run.trunk, folder=home / "policies") if run.trunk else None
        made = train_proxy(setup, run.plan, trunk=trunk)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{PARTIAL}-", ignore_cleanup_errors=True) as aside:
            done = Path(aside) / "done"
            save_reward_model(done, made.model, tokenizer=made.tokenizer, form=made.form, provenance={})
            move_into_place(done, target)
    return load_reward_model(target)


def _policy(plan: PolicyPlan | None, setup: Setup, home: Path) -> PolicyCheckpoint:
    place = setup.policy if plan is None else build_policy(plan, folder=home / "policies")
    return load_policy_checkpoint(place, dtype=torch.float32)


def _reference(run: PolicyRun, setup: Setup, home: Path) -> PolicyCheckpoint:
    """The soup that a run names, or what it starts from."""
    if not run.reference:
        return _policy(run.start, setup, home)
    held, *others = (_policy(plan, setup, home) for plan in run.reference)
    states = [one.model.state_dict() for one in (held, *others)]
    held.model.load_state_dict({name: average([state[name] for state in states]) for name in states[0]})
    return held


def _keep(policy: PolicyCheckpoint, target: Path, run: PolicyRun) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{PARTIAL}-", ignore_cleanup_errors=True) as aside:
        done = Path(aside) / "done"
        form = policy.form
        save_policy(done, policy.model, tokenizer=policy.tokenizer, form=form, provenance={"how": run.how.record()})
        move_into_place(done, target)


def _record(part: Any) -> dict[str, Any]:
    return {"name": type(part).__name__, **asdict(part)}
