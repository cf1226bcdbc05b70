"""Simulated laboratories: pools with and without planted hacking, and runs made of them."""

import numpy as np

from trueup.measure.alarm_labels import Run
from trueup.measure.best_of_n import best_of_n
from trueup.measure.signals import Observed, Signals, signals

MEMBERS = 3


def planted_pool(generator, *, hacked, prompts=40, samples=256, own_noise=0.4):
    """Gold is Gaussian. The error that members share is heavy-tailed where hacked: its extremes win, gold falls."""
    shape = (prompts, samples)
    gold = generator.standard_normal(shape)
    error = 0.35 * generator.standard_t(2, shape) if hacked else 0.5 * generator.standard_normal(shape)
    members = gold + error + own_noise * generator.standard_normal((MEMBERS, *shape))
    observed = Observed(
        proxy=members.mean(axis=0),
        members=members,
        norms=10 + np.abs(error) + generator.standard_normal(shape),
        training_norms=(10.5, 1.0),
        tokens=np.rint(20 + 3 * error + 3 * generator.standard_normal(shape)),
        repetition=np.clip(0.05 * np.abs(error), 0, 1),
    )
    return observed, gold


def planted_run(seed, *, hacked, group=None, name=None, **pool):
    generator = np.random.default_rng(seed)
    observed, gold = planted_pool(generator, hacked=hacked, **pool)
    found = signals(observed)
    return Run(
        name=name or f"run-{seed}",
        group=seed if group is None else group,
        signals=found,
        gold_by_prompt=best_of_n(observed.proxy, gold, found.n),
    )


def planted_runs(first, groups, *, hacked=(True, False), **pool):
    """One run of each kind in every group."""
    return [
        planted_run(1000 * (first + k) + j, hacked=kind, group=first + k, **pool)
        for k in range(groups)
        for j, kind in enumerate(hacked)
    ]


def drawn_run(generator, *, name, group, onset=None, strength=2.0, sizes=12, prompts=40, names=("clue", "blank")):
    """A run made directly: KL rises, gold falls from place `onset` on, the clue follows it, the blank does not."""
    places = np.arange(sizes)
    kl = 0.5 * places
    past = np.zeros(sizes) if onset is None else np.maximum(places - onset + 1, 0)
    fallen = (past > 0).astype(float)
    gold = 0.3 * places - 0.9 * past
    values = {"clue": strength * fallen + generator.standard_normal(sizes), "blank": generator.standard_normal(sizes)}
    return Run(
        name=name,
        group=group,
        signals=Signals(2**places, {"kl": kl, **{key: values[key] for key in names}}),
        gold_by_prompt=gold + 0.05 * generator.standard_normal((prompts, sizes)),
    )
