"""Claims about SuperHF on runs that were made up."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau

from trueup.lab.reproduce import superhf_runs
from trueup.lab.reproduce.policy_plans import FREE, plain
from trueup.lab.reproduce.scale import full_scale
from trueup.lab.reproduce.superhf import evidence_of, judge_both
from trueup.lab.reproduce.superhf_runs import (
    COEFFICIENTS,
    HELD,
    PLAIN,
    PPO_HELD,
    RELEASED,
    REPEATED,
    REPEATS,
    SWEEP,
    arms,
    middle_of,
    order,
    repeated,
    similarity,
    stability,
    sweep_step,
)
from trueup.measure.scored import Estimate
from trueup.measure.similarity import meteor
from trueup.objectives.policy.ppo import PPO
from trueup.objectives.policy.regularizers.forward_kl_prior_sum import ForwardKLPriorSum
from trueup.objectives.policy.superhf import SuperHF
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.report.evidence import evidence_markdown, read_claims

from .made_runs import made_looks, made_policy_world

KL = [0, 1, 4, 9]
WORDS = ("every", "answer", "of", "this", "policy", "says", "quite", "different", "things", "about", "its", "text")


@pytest.fixture(autouse=True)
def _few_pairs(monkeypatch):
    """All pairs of hand-made responses are equally alike."""
    monkeypatch.setattr(superhf_runs, "PAIRS", 4)


def said(shared: int) -> tuple[tuple[str, ...], ...]:
    """Responses to three prompts with so many words in common."""
    own = [" ".join([*WORDS[:shared], *(f"word{prompt}{k}" for k in range(len(WORDS) - shared))]) for prompt in "abc"]
    return tuple((text, text) for text in own)


def run(gold, *, proxy=3.0, alike=0, first=0):
    """A run with this gold at its last look, this proxy there, and responses that share so many words."""
    looks = made_looks(KL, [0, gold / 3, 2 * gold / 3, gold], proxy=[0, proxy / 3, 2 * proxy / 3, proxy])
    return replace(looks, texts=(said(first), said(first), said(first), said(alike)))


def page(scale, *, sweep, free, held, steady):
    """Three worlds; `sweep` has gold, proxy and words in common of each c, `steady` how far seeds lie apart."""
    worlds = []
    for seed in range(3):
        more = 1 + 0.01 * seed
        kinds = dict(zip((FREE, HELD, *SWEEP), (free, held, *sweep), strict=True))
        looks = {
            name: run(gold * more, proxy=proxy * more, alike=alike) for name, (gold, proxy, alike) in kinds.items()
        }
        looks[PPO_HELD] = looks[HELD]
        for arm, apart in zip((HELD, PPO_HELD, RELEASED), (steady[0], *steady), strict=True):
            looks |= {
                repeated(arm, number): run(looks[arm].gold[-1].mean() + apart * number * more)
                for number in range(1, REPEATS)
            }
        worlds.append(made_policy_world(seed, looks))
    return evidence_of(worlds, scale=scale, command="trueup lab reproduce superhf")


GOOD = [(1.0, 4.0, 10), (2.0, 3.0, 8), (1.8, 2.0, 4), (1.5, 1.0, 2)]


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = page(tiny_scale, sweep=GOOD, free=(0.5, 0.5, 12), held=(-0.5, 0.5, 2), steady=(0.5, 0.01))
    assert [claim.verdict for claim in found.claims] == ["reproduced"] * 15
    assert read_claims(evidence_markdown(found)) == tuple(found.claims)
    assert found.finding.endswith("\u22121.00 [\u22121.00, \u22121.00]")


def test_the_opposite_contradicts(tiny_scale):
    worse = [(2.0, 1.0, 2), (1.0, 2.0, 4), (1.0, 3.0, 8), (1.5, 4.0, 12)]
    found = page(tiny_scale, sweep=worse, free=(3.0, 9.0, 0), held=(2.0, 9.0, 0), steady=(0.01, -2.0))
    verdicts = [claim.verdict for claim in found.claims]
    assert verdicts.pop(3) == "not at this scale"
    assert found.claims[3].statement.endswith("answer everything alike.")
    assert verdicts == ["contradicted"] * 14


def test_equal_runs_decide_nothing(tiny_scale):
    same = (1.0, 1.0, 3)
    found = page(tiny_scale, sweep=[same] * 4, free=same, held=same, steady=(0.5, 0.5))
    verdicts = {claim.statement: claim.verdict for claim in found.claims}
    assert verdicts.pop("Reinforcement without a KL penalty comes to answer everything alike.") == "reproduced"
    assert set(verdicts.values()) == {"not at this scale"}


def test_similarity_is_the_mean_over_pairs_of_prompts():
    """All pairs have as many words in common, so that every draw of pairs has the same mean."""
    world = made_policy_world(0, {"a": run(1.0, alike=5)})
    expected = {meteor(one[0], other[0]) for one, other in combinations(said(5), 2)}
    assert len(expected) == 1
    assert similarity(world, "a") == pytest.approx(expected.pop())
    assert similarity(world, "a", step=0) == 0.0


def test_order_is_kendall_s():
    values = [0.3, 0.1, 0.5, 0.7]
    assert order(values) == pytest.approx(kendalltau(range(4), values).statistic)
    assert order([1.0, 1.0]) == 0
    assert order([3.0, 2.0, 1.0]) == -1


def test_the_middle_is_not_chosen_by_what_measures_it():
    """Each half of the prompts favours another middle weight, by luck: 0.5 of it is seen by the choice alone."""
    looks = {name: made_looks(KL[:2], [0, gold]) for name, gold in zip(SWEEP, (1.0, 2.0, 2.0, 1.5), strict=True)}
    for name, half in zip(SWEEP[1:3], (0, 1), strict=True):
        gold = looks[name].gold.copy()
        gold[1, half::2] += 0.5
        looks[name] = replace(looks[name], gold=gold)
    found = middle_of(made_policy_world(0, looks, unit=2.0))
    assert found.least == pytest.approx(0.5)
    assert found.largest == pytest.approx(0.25)


def test_stability_by_hand():
    looks = {name: made_looks(KL, [0, 1, 2, 3]) for name in REPEATED}
    looks[repeated(RELEASED, 1)] = made_looks(KL[:3], [0, 2, 4])
    looks[repeated(RELEASED, 2)] = made_looks(KL[:3], [0, -1, -6])
    world = made_policy_world(0, looks, unit=2.0)
    found = stability(world, RELEASED)
    assert found.mean == pytest.approx(0.0)
    assert found.spread == pytest.approx(np.std([1, 2, -3], ddof=1))
    assert found.improved == pytest.approx(2 / 3)
    assert stability(world, HELD).spread == 0
    assert stability(world, RELEASED, kl=1.0).mean == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("lows", "verdict"), [((1, 1), "reproduced"), ((1, -1), "not at this scale"), ((1, -3), "contradicted")]
)
def test_both_must_hold(lows, verdict):
    assert judge_both([Estimate(low + 1, low, low + 2, 3) for low in lows]) == verdict


def test_arms_are_the_card_s():
    scale = full_scale()
    found = arms(scale, 2)
    assert set(found) == {FREE, *SWEEP, *REPEATED}
    assert found[FREE] == plain(scale, 2)
    assert found[HELD] == plain(scale, 2, kl_coefficient=0.05)
    assert found[PLAIN].how.terms == (SuperHF(),)
    assert found[RELEASED].how.terms == (SuperHF(), ForwardKLPriorSum(coefficient=0.35))
    assert COEFFICIENTS[-1] == 0.35
    rhythm = found[RELEASED].how.rhythm
    assert (rhythm.prompts, rhythm.samples, rhythm.steps) == (2, 16, 1)
    seeds = {found[name].how.seed for name in REPEATED}
    assert len(seeds) == REPEATS
    again = found[repeated(RELEASED, 1)].how
    assert again == replace(found[RELEASED].how, seed=again.seed, steps=40)
    rivals = [found[repeated(PPO_HELD, number)] for number in range(REPEATS)]
    assert rivals[0].proxies == found[HELD].proxies
    assert [rival.how.seed for rival in rivals] == sorted(seeds)
    assert {(*map(type, rival.how.terms), rival.how.steps, rival.how.kl_coefficient) for rival in rivals} == {
        (PPO, ValueLoss, 40, 0.05)
    }


def test_the_sweep_is_read_where_all_of_it_is():
    looks = {name: made_looks(KL, [0, 1, 2, 3]) for name in SWEEP}
    looks[PLAIN] = made_looks(KL[:2], [0, 1])
    assert sweep_step(made_policy_world(0, looks)) == 5
