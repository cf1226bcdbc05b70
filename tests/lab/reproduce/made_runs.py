"""Hand-made runs and worlds, for which claims have known answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trueup.data.pools import Pool
from trueup.lab.gold_proxy import GOLD, ProxyScores, Setup
from trueup.lab.optimizing import Looks
from trueup.lab.reproduce.policy_arms import PolicyWorld
from trueup.lab.reproduce.scale import World

from ..conftest import SETUP

JITTER = np.array([[-1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]])
"""Two responses to each of three prompts, one below and one above the look's mean."""


def made_looks(
    kl: Sequence[float],
    gold: Sequence[float],
    *,
    proxy: Sequence[float] | None = None,
    tokens: Sequence[int] | None = None,
    spread: Sequence[float] | float = 1.0,
    every: int = 5,
) -> Looks:
    """A run with these means at its looks.

    Args:
        kl: Mean KL, nats.
        gold: Mean gold.
        proxy: Mean proxy; rises with d by default.
        tokens: Length of all responses.
        spread: How far the proxy's rewards lie from their mean.
        every: Steps between two looks.
    """
    looks = len(kl)
    mean = np.sqrt(np.maximum(kl, 0.0)) if proxy is None else np.asarray(proxy, float)
    length = np.full(looks, 20) if tokens is None else np.asarray(tokens)
    column = (slice(None), None, None)
    return Looks(
        step=np.arange(looks) * every,
        gold=np.asarray(gold, float)[column] + 0.3 * JITTER,
        proxy=mean[column] + np.broadcast_to(spread, (looks,))[column] * JITTER,
        kl=np.asarray(kl, float)[column] + 0.1 * JITTER,
        tokens=np.broadcast_to(length[column], (looks, *JITTER.shape)),
        finished=np.ones((looks, *JITTER.shape), bool),
        texts=((("answer",) * 2,) * 3,) * looks,
    )


def made_setup(gold: np.ndarray) -> Setup:
    """A pool of such scores."""
    prompts, samples = gold.shape
    pool = Pool(
        ids=tuple(map(str, range(prompts))),
        prompts=tuple(f"{p}?" for p in range(prompts)),
        responses=tuple(tuple(f"answer {p} {s}" for s in range(samples)) for p in range(prompts)),
        tokens=np.full((prompts, samples), 5),
        finished=np.ones((prompts, samples), bool),
        logprob=np.zeros((prompts, samples)),
        scores={GOLD: gold},
    )
    return Setup(plan=SETUP, policy=Path("policy"), pool=pool, comparisons=(), held_out=())


def made_policy_world(seed: int, looks: Mapping[str, Looks], *, unit: float = 1.0) -> PolicyWorld:
    """A world in which gold's standard deviation within a prompt is `unit`."""
    return PolicyWorld(seed=seed, setup=made_setup(unit * np.tile([-1.0, 1.0], (3, 4))), looks=looks)


def made_scored_world(
    seed: int, names: Sequence[str], *, error: float, parameters: Mapping[str, int] | None = None
) -> World:
    """Proxies with heavy-tailed errors, under which best-of-n rises and falls."""
    generator = np.random.default_rng(seed)
    gold = generator.standard_normal((30, 256))
    proxies = {
        name: ProxyScores(
            score=gold + error * generator.standard_t(2.0, gold.shape),
            hidden_norm=np.ones(gold.shape),
            training_norm=(1.0, 0.1),
            accuracy=0.6 + seed / 100,
            parameters=(parameters or {}).get(name, 7),
        )
        for name in names
    }
    return World(seed=seed, setup=made_setup(gold), proxies=proxies)
