"""Reward against drift of hand-made runs."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.lab.reproduce.fronts import (
    at_step,
    best_within,
    common_step,
    directed_claim,
    drift,
    front_table,
    gains,
    kl_table,
    paired,
    step_figure,
)
from trueup.lab.reproduce.policy_arms import gold_gain

from .made_runs import made_looks, made_policy_world

SAW = made_looks([0, 4, 1, 6, 2], [1, 3, 2.5, 2, 3.5], proxy=[5, 7, 6, 9, 8])
RISE = made_looks([0, 3, 9], [1, 2, 0])


def worlds(count: int = 2):
    return [made_policy_world(seed, {"saw": SAW, "rise": RISE}, unit=2.0) for seed in range(count)]


def test_drift_may_fall():
    assert drift(SAW) == pytest.approx([0, 4, 1, 6, 2])


def test_gains_are_in_units_of_the_start():
    world = worlds()[0]
    assert gains(world, "saw", "gold") == pytest.approx(np.array([0, 2, 1.5, 1, 2.5]) / 2)
    # Two responses one above and one below a mean: a sample standard deviation of sqrt(2).
    assert gains(world, "saw", "proxy") == pytest.approx(np.array([0, 2, 1, 4, 3]) / 2**0.5)


@pytest.mark.parametrize(("kl", "expected"), [(0.5, 0.0), (1, 0.75), (2, 1.25), (3.9, 1.25), (4, 1.25), (100, 1.25)])
def test_the_best_within_a_kl_counts_what_a_run_came_back_to(kl, expected):
    assert best_within(worlds()[0], "saw", kl, what="gold") == pytest.approx(expected)


def test_a_front_does_not_choose_what_it_measures():
    """Gold is noise of mean 0 at 400 looks: the naive best is far above 0."""
    noise = np.random.default_rng(0).standard_normal((401, 60, 1))
    flat = made_looks([0.5] * 401, [0.0] * 401)
    looks = replace(flat, gold=noise - noise[:1].mean(), kl=np.tile([[[0.5]]], (401, 60, 1)))
    world = made_policy_world(0, {"noise": looks})
    choice = [int(looks.gold[:, half::2].mean(axis=(1, 2)).argmax()) for half in (0, 1)]
    measured = [looks.gold[choice[half], 1 - half :: 2].mean() - looks.gold[0, 1 - half :: 2].mean() for half in (0, 1)]
    assert best_within(world, "noise", 1.0, what="gold") == pytest.approx(np.mean(measured))
    naive = looks.gold.mean(axis=(1, 2)).max() - looks.gold[0].mean()
    assert np.mean(measured) < naive - 0.2


def test_steps_that_several_arms_share():
    world = worlds()[0]
    assert common_step(world, ("saw", "rise")) == 10
    assert common_step(world, ("saw", "rise"), without=10) == 5
    assert common_step(world, ("saw", "rise"), without=5) == 0
    assert at_step(world, "saw", 15, what="kl") == pytest.approx(6)
    assert at_step(world, "saw", 15, what="gold") == pytest.approx(0.5)
    assert np.isnan([at_step(world, "rise", 15, what="kl"), at_step(world, "saw", 0, what="kl")]).all()


def test_pairs_leave_out_worlds_in_which_one_is_undefined():
    def read(world, arm):
        return float("nan") if world.seed == 2 and arm == "saw" else {"saw": 3.0, "rise": 1.0}[arm]

    found = paired(worlds(3), "saw", "rise", read=read)
    assert (found.value, found.low, found.high, found.n) == (2.0, 2.0, 2.0, 2)
    claim = directed_claim("It rises.", found, source="a paper", ran="two runs")
    assert (claim.verdict, claim.effect) == ("reproduced", "2.00 [2.00, 2.00], 2 worlds")
    assert directed_claim("It falls.", found, source="a paper", ran="two runs", claimed=-1).verdict == "contradicted"


def test_tables_and_figure():
    table = front_table(worlds(), ("saw", "rise"), what="gold").splitlines()
    assert table[0].startswith("| arm | KL ≤ 0.5 |")
    cells = [cell.split()[0] for cell in table[2].split("|")[2:5]]
    assert cells == ["0.00", "0.75", "1.25"]
    first = kl_table(worlds(), ("rise",)).splitlines()[2].split("|")
    assert first[-2].strip() == "–"
    assert first[5].strip().startswith(f"{gold_gain(worlds()[0], 'rise', 4):.2f}")
    assert "saw" in step_figure(worlds(), ("saw", "rise"))
