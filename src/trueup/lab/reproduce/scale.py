"""How large a reproduction is: which worlds, which proxies, how many samples."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm import tqdm

from trueup.lab.fitting import Fit
from trueup.lab.gold_proxy import ProxyPlan, ProxyScores, Setup, SetupPlan, set_up
from trueup.lab.policies import PolicyPlan
from trueup.lab.proxy_runs import ProxyRun, run_proxy
from trueup.lab.scale_models import Shape
from trueup.lab.tabular.runs import QUICK, TabularPlan


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Everything that decides how long a reproduction takes.

    Args:
        seeds: One independent world each: text, policy, prompts, samples, comparisons and proxies.
        setup: Pool and comparisons of a world; its policy's seeds are replaced by the world's.
        deep: Fewer prompts with many more samples, for the forecast of large n; None for none.
        trunks: Shapes of the language models that smaller proxies begin from; the largest begins from the policy.
        trunk_prompts: Prompts that these learn their text from.
        pairs: Amounts of comparisons; the last is the one that everything else uses.
        flip: Share of labels turned round in the noisy arms.
        proxy: How proxies are trained.
        members: Members of an ensemble.
        coefficients: Strengths of batch-wise sum-to-zero.
        shift_prompts: Training pairs of the four-shift table.
        shift_fit: How its models are trained.
        policy_steps: Optimiser steps of a policy.
        tabular: What is run in each tabular world.
        workers: Processes; each computes one world at a time on one thread.
        folder: Where policies, pools and scores are kept; the user's cache folder by default.
    """

    seeds: tuple[int, ...]
    setup: SetupPlan = field(default_factory=SetupPlan)
    deep: SetupPlan | None = field(default_factory=lambda: SetupPlan(prompts=16, samples=4_096))
    trunks: tuple[Shape, ...] = (
        Shape(vocabulary=2600, width=32, layers=2, heads=2, positions=512),
        Shape(vocabulary=2600, width=64, layers=2, heads=4, positions=512),
    )
    trunk_prompts: int = 8_000
    pairs: tuple[int, ...] = (500, 1_500, 5_000)
    flip: float = 0.25
    proxy: Fit = field(default_factory=lambda: Fit(learning_rate=1e-3, batch_size=32, epochs=2.0))
    members: int = 5
    coefficients: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    shift_prompts: int = 2_000
    shift_fit: Fit = field(default_factory=lambda: Fit(learning_rate=1e-3, batch_size=32, epochs=3.0))
    policy_steps: int = 100
    tabular: TabularPlan = field(default_factory=TabularPlan)
    workers: int = 1
    folder: Path | None = None

    def plan(self, seed: int) -> SetupPlan:
        """The setup of one world."""
        return replace(self.setup, policy=replace(self.setup.policy, world=seed, seed=seed))

    def trunk(self, seed: int, shape: Shape) -> PolicyPlan:
        """The language model that a proxy of a shape begins from, in one world."""
        return replace(self.setup.policy, world=seed, seed=seed, shape=shape, prompts=self.trunk_prompts)

    def proxy_plan(self, seed: int) -> ProxyPlan:
        """The ordinary proxy of a world."""
        return ProxyPlan(pairs=self.pairs[-1], fit=self.proxy, seed=seed)

    def with_deep_pool(self) -> "Scale":
        """The same worlds with the deep pool in the place of the wide one."""
        return replace(self, setup=replace(self.deep or self.setup, policy=self.setup.policy), deep=None)


Arms = Callable[[Scale, int], dict[str, ProxyRun]]
"""The proxies of one world, by the name of their arm."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What one world gave.

    Args:
        seed: Its seed.
        setup: Its pool and comparisons.
        proxies: Scores of its proxies, by arm.
    """

    seed: int
    setup: Setup
    proxies: dict[str, ProxyScores]


def run_worlds(scale: Scale, arms: Arms, *, progress: bool = False) -> list[World]:
    """Train and score every arm of every world; what an earlier run has done is read."""
    if scale.workers > 1:
        _in_processes(scale, arms, progress=progress)
    worlds = []
    for seed in tqdm(scale.seeds, desc="worlds", disable=not progress, leave=False):
        worlds.append(run_world(scale, arms, seed))
    return worlds


def run_world(scale: Scale, arms: Arms, seed: int) -> World:
    """One world."""
    setup = set_up(scale.plan(seed), folder=scale.folder)
    runs = arms(scale, seed)
    return World(
        seed=seed, setup=setup, proxies={name: run_proxy(setup, run, folder=scale.folder) for name, run in runs.items()}
    )


def _in_processes(scale: Scale, arms: Arms, *, progress: bool) -> None:
    """Fill the folder of results, one world a process at a time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(scale.workers, mp_context=context, initializer=single_threaded) as pool:
        waiting = [pool.submit(_fill, scale, arms, seed) for seed in scale.seeds]
        for done in tqdm(as_completed(waiting), total=len(waiting), desc="worlds", disable=not progress, leave=False):
            done.result()


def _fill(scale: Scale, arms: Arms, seed: int) -> None:
    run_world(scale, arms, seed)


def single_threaded() -> None:
    """For a process beside others: models of this size run slower on several threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def by_arm(worlds: Sequence[World]) -> Iterator[tuple[str, list[ProxyScores]]]:
    """Scores of each arm over all worlds."""
    for name in worlds[0].proxies:
        yield name, [world.proxies[name] for world in worlds]


def full_scale(*, seeds: int | None = None, workers: int = 1, folder: Path | None = None) -> Scale:
    """What the published pages were made with."""
    return Scale(seeds=tuple(range(seeds or 5)), workers=workers, folder=folder)


def quick_scale(*, seeds: int | None = None, workers: int = 1, folder: Path | None = None) -> Scale:
    """The whole in minutes: too small for conclusions, large enough to see every part work."""
    small = Shape(vocabulary=1000, width=48, layers=2, heads=4, positions=512)
    policy = PolicyPlan(
        prompts=2_000, shape=small, fit=Fit(learning_rate=4e-3, batch_size=8, epochs=1.0, weight_decay=0.01)
    )
    return Scale(
        seeds=tuple(range(seeds or 2)),
        setup=SetupPlan(policy=policy, prompts=16, samples=128, comparisons=900, held_out=200),
        deep=SetupPlan(policy=policy, prompts=8, samples=512, comparisons=900, held_out=200),
        trunks=(replace(small, width=32),),
        trunk_prompts=1_000,
        pairs=(200, 600),
        members=3,
        coefficients=(1e-2, 1e-1),
        shift_prompts=400,
        policy_steps=30,
        tabular=QUICK,
        workers=workers,
        folder=folder,
    )
