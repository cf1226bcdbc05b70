"""Claims about chi-squared and KL in the language world, on runs that were made up and at a scale of seconds."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.lab.reproduce.correlated_proxies_language import (
    ARMS,
    CHI,
    FIGURE,
    KL,
    RELEASED_CHI,
    RELEASED_KL,
    TERMS,
    arms,
    at_best,
    correlated_proxies_language,
    correlation,
    evidence_of,
    theorem_coefficient,
)
from trueup.lab.reproduce.fronts import fall_of, highest
from trueup.lab.reproduce.policy_arms import final_of
from trueup.lab.reproduce.policy_plans import FREE, plain
from trueup.objectives.policy.rloo import RLOO

from .made_runs import made_looks, made_policy_world

NEAR, FAR = [0, 0.5, 1, 2], [0, 1, 4, 16]
GOOD, BAD = [0, 1, 2, 2.5], [0, 1.5, 0.5, -1]


def part(scale, *, kl, chi, released_kl, released_chi, free=BAD):
    """Three worlds; each run by its KL and gold at its looks."""
    kinds = {FREE: (FAR, free), **dict.fromkeys(KL, kl), **dict.fromkeys(CHI, chi)}
    kinds |= {RELEASED_KL: released_kl, RELEASED_CHI: released_chi}
    worlds = [
        made_policy_world(
            seed,
            {
                name: made_looks(path, [(1 + 0.01 * seed) * value for value in gold])
                for name, (path, gold) in kinds.items()
            },
        )
        for seed in range(3)
    ]
    return evidence_of(worlds, scale=scale, command="trueup lab reproduce correlated-proxies-language")


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = part(
        tiny_scale,
        kl=(NEAR, [0, 0.5, 1, 0.5]),
        chi=(NEAR, GOOD),
        released_kl=(FAR, BAD),
        released_chi=(FAR, [0, 1, 1, 1]),
    )
    assert [claim.verdict for claim in found.claims] == ["reproduced"] * 9
    assert list(found.figures) == [FIGURE]
    assert f"]({FIGURE})" in found.sections[0][1]


def test_the_opposite_contradicts(tiny_scale):
    found = part(
        tiny_scale,
        kl=(FAR, [0, 1.5, 2, 2.5]),
        chi=(FAR, [0, 0.5, 1, 0.5]),
        released_kl=(NEAR, GOOD),
        released_chi=(NEAR, BAD),
        free=GOOD,
    )
    assert [claim.verdict for claim in found.claims] == ["contradicted"] * 9


def test_equal_runs_decide_nothing(tiny_scale):
    same = (FAR, GOOD)
    found = part(tiny_scale, kl=same, chi=same, released_kl=same, released_chi=same)
    assert [claim.verdict for claim in found.claims[1:]] == ["not at this scale"] * 8


def test_a_coefficient_is_chosen_by_the_other_worlds():
    """One arm wins by far in the first world alone, so that the first world cannot choose it, and the others do."""
    gold = {"a": [9.0, 1.0, 1.0], "b": [2.0, 2.0, 2.0]}
    worlds = [
        made_policy_world(seed, {name: made_looks(NEAR[:2], [0, values[seed]]) for name, values in gold.items()})
        for seed in range(3)
    ]
    assert at_best(worlds, ("a", "b"), read=final_of).tolist() == pytest.approx([2, 1, 1])
    assert at_best(worlds[:1], ("a", "b"), read=final_of).tolist() == pytest.approx([9])


def test_the_theorem_s_coefficient():
    """With r = 0.6 and sigma = 2 it is 1.6."""
    gold, noise = np.array([1.0, 1, -1, -1]), np.array([1.0, -1, 1, -1])
    proxy = 2 * (0.6 * gold + 0.8 * noise) + 7
    looks = replace(made_looks([0], [0]), gold=gold.reshape(1, 2, 2), proxy=proxy.reshape(1, 2, 2))
    world = made_policy_world(0, {FREE: looks})
    assert correlation(world) == pytest.approx(0.6)
    assert theorem_coefficient(world) == pytest.approx(1.6)


def test_best_look_and_fall():
    world = made_policy_world(0, {"a": made_looks(FAR, BAD)}, unit=2.0)
    assert highest(world, "a") == pytest.approx(0.75)
    assert fall_of(world, "a") == pytest.approx(1.25)


def test_arms_differ_in_a_term_of_the_loss_alone(tiny_scale):
    found = arms(tiny_scale, 1)
    assert tuple(found) == ARMS
    assert found[FREE] == plain(tiny_scale, 1)
    for name, term in TERMS.items():
        assert found[name].how == replace(found[FREE].how, terms=(RLOO(), term))
        assert found[name].how.kl_coefficient == 0
        assert f" {term.coefficient:g}" in name


def test_a_page_at_a_scale_of_seconds(tiny_scale, little_drawing):
    found = correlated_proxies_language(replace(tiny_scale, seeds=(0,)), command="c")
    assert len(found.claims) >= 7
    assert found.figures[FIGURE].lstrip().startswith(("<?xml", "<svg"))
    assert "arms" in found.settings
