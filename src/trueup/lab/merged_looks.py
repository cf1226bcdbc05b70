"""Single looks at policies that were not optimised themselves but made of others' weights."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from trueup.lab.gold_proxy import Setup, gold_of
from trueup.lab.optimizing import Looker, Looks
from trueup.lab.policy_runs import PolicyRun, reward_of
from trueup.lab.world import World
from trueup.models.generation import Sampling
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.policies.model import ModelPolicy
from trueup.train.policy_sampling import PolicySampler
from trueup.train.references import ModelReference

_TOKEN_BUDGET = 8_192


def look_at_each(setup: Setup, run: PolicyRun, policies: Sequence[Path], *, folder: Path | None = None) -> Looks:
    """Look once at each policy, with the prompts, random numbers, proxy and gold of a run's looks.

    Args:
        setup: The world; its policy is what the KL is measured against.
        run: Whose proxy and samples these are.
        policies: Folders of policies.
        folder: Where proxies are kept; the user's cache folder by default.

    Returns:
        One look for each policy, whose step is its place.
    """
    looker: Looker | None = None
    origin = ModelReference(load_policy_checkpoint(setup.policy, dtype=torch.float32).model, token_budget=_TOKEN_BUDGET)
    sampling = Sampling(max_new_tokens=run.how.max_new_tokens)
    for step, place in enumerate(policies):
        checkpoint = load_policy_checkpoint(place, dtype=torch.float32)
        policy = ModelPolicy(checkpoint=checkpoint, name="policy", sampling=sampling)
        sampler = PolicySampler(policy=policy, start=origin)
        if looker is None:
            looker = Looker(
                sampler=sampler,
                prompts=setup.pool.prompts,
                proxy=reward_of(setup, run, folder=folder),
                gold=gold_of(World(setup.plan.policy.world)),
                samples=run.how.samples,
            )
        looker.sampler = sampler
        looker.look(step)
    if looker is None:
        raise ValueError("there is no policy to look at")
    return looker.looks()


def taken(looks: Looks, places: Sequence[int]) -> Looks:
    """Some of the looks, in the given order."""
    arrays = {one.name: getattr(looks, one.name)[list(places)] for one in fields(Looks) if one.name != "texts"}
    return Looks(texts=tuple(looks.texts[place] for place in places), **arrays)


def joined(first: Looks, second: Looks) -> Looks:
    """The looks of one and then those of the other, which have the same prompts."""
    arrays = {
        one.name: np.concatenate([getattr(first, one.name), getattr(second, one.name)])
        for one in fields(Looks)
        if one.name != "texts"
    }
    return Looks(texts=first.texts + second.texts, **arrays)
