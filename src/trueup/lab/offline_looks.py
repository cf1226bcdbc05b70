"""One look at a finished policy: what it says to the watched prompts, what that is worth and how far it went."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from trueup.files import cache_folder
from trueup.functional.params import combine
from trueup.lab.fitting import quietly
from trueup.lab.gold_proxy import Setup, gold_of
from trueup.lab.look_files import kept_looks
from trueup.lab.offline_runs import weights_key
from trueup.lab.optimizing import Looker, Looks
from trueup.lab.world import World
from trueup.models.generation import Sampling
from trueup.models.policy_checkpoints import PolicyCheckpoint, load_policy_checkpoint
from trueup.policies.model import ModelPolicy
from trueup.rewards.base import Reward
from trueup.train.policy_sampling import PolicySampler
from trueup.train.references import ModelReference

# Raised when the same look would see something else.
_VERSION = 1
_TOKEN_BUDGET = 8_192


@dataclass(frozen=True, kw_only=True)
class Looking:
    """How is looked.

    Args:
        samples: Responses to each of the pool's prompts.
        max_new_tokens: Length at which a response is cut.
    """

    samples: int = 8
    max_new_tokens: int = 64


Shares = Mapping[Path, float]
"""Folders of policies and what each one's weights count for; together 1. A share of 1 is the policy itself."""


def look_once(
    setup: Setup, policy: Shares, *, second: Reward, start: Path | None = None, how: Looking, folder: Path | None = None
) -> Looks:
    """Look at a policy, or read what the same look gave before.

    Args:
        setup: Whose prompts are asked, and whose world's gold judges.
        policy: The policy, or the policies whose weights are averaged.
        second: Another reward, which is read under the name `proxy`.
        start: Folder of the policy that the KL is measured against; the setup's by default.
        how: How many responses.
        folder: Where looks are kept; the user's cache folder by default.

    Returns:
        One look, at step 0.
    """
    origin = start or setup.policy
    world = setup.plan.policy.world
    mixed = [[weights_key(place), share] for place, share in policy.items() if share]
    parts = [_VERSION, mixed, weights_key(origin), world, setup.pool.prompts, second.name, asdict(how)]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]

    def look() -> Looks:
        sampling = Sampling(max_new_tokens=how.max_new_tokens)
        drawer = ModelPolicy(checkpoint=mixture(policy), name="policy", sampling=sampling)
        held = ModelReference(load_policy_checkpoint(origin, dtype=torch.float32).model, token_budget=_TOKEN_BUDGET)
        looker = Looker(
            sampler=PolicySampler(policy=drawer, start=held),
            prompts=setup.pool.prompts,
            proxy=second,
            gold=gold_of(World(world)),
            samples=how.samples,
        )
        looker.look(0)
        return looker.looks()

    with quietly():
        return kept_looks((folder or cache_folder() / "lab") / "looks" / f"{key}.npz", look)


def mixture(policies: Shares) -> PolicyCheckpoint:
    """The policy whose weights are the weighted mean of others'; a share of 0 is not loaded."""
    first, *others = ((place, share) for place, share in policies.items() if share)
    made = load_policy_checkpoint(first[0], dtype=torch.float32)
    states = [made.model.state_dict()]
    states += [load_policy_checkpoint(place, dtype=torch.float32).model.state_dict() for place, _ in others]
    shares = [first[1], *(share for _, share in others)]
    made.model.load_state_dict({name: combine([state[name] for state in states], shares) for name in states[0]})
    return made
