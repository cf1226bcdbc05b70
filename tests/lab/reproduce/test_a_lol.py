"""A-LoL's claims on runs that were made up, what its data are."""

from dataclasses import replace

import numpy as np
import pytest

from trueup.data.rows import Response
from trueup.lab.games.bandit import BanditPlan
from trueup.lab.offline_runs import OfflineTraining
from trueup.lab.reproduce import a_lol_bandits as bandit
from trueup.lab.reproduce import a_lol_language as language
from trueup.lab.reproduce.a_lol import evidence_of
from trueup.lab.reproduce.a_lol_bandits import METHODS, NOISES, BanditRuns
from trueup.lab.reproduce.a_lol_language import ALolWorld, Spoken, noisy_data, reward_of, rows_of, with_advantages
from trueup.lab.world import World
from trueup.objectives.advantage.a_lol_kl import ALolKL
from trueup.objectives.advantage.r_lol import RLol
from trueup.objectives.supervised.sft import NegativeLogLikelihood

JITTER = np.linspace(-0.001, 0.001, 4)
ORDER = (bandit.DATA, bandit.NLL, bandit.LONGER, bandit.BEHAVIOUR, bandit.REF_FREE, bandit.R_LOL, bandit.KL_ARM,
         bandit.NO_FILTER, bandit.NO_PRIORITY, bandit.A_LOL, bandit.SEQ)  # fmt: skip
"""From worst to best, as the paper has them."""


def made_bandits(order, *, opening=0.01):
    """Each method 0.02 above the one before; A-LoL falls less as noise grows."""
    reward = {
        noise: {
            name: 0.5 + 0.02 * place + JITTER + (opening * step if name in (bandit.A_LOL, bandit.SEQ) else 0.0)
            for place, name in enumerate(order)
        }
        for step, noise in enumerate(NOISES)
    }
    return BanditRuns(plan=BanditPlan(), reward=reward, kept=dict.fromkeys(NOISES, 0.5 + JITTER))


def spoken(gold, *, distinct=0.5, tokens=20.0, reach=2.0):
    path = np.array([[0.0, 0.0, 0.0], [reach, gold, gold]])
    return Spoken(gold=gold, distinct=distinct, tokens=tokens, path=path)


def made_world(sign, seed, *, kept=(0.7, 0.2)):
    gold = {
        language.SFT: 0.0, language.LONGER: 0.1, language.BEHAVIOUR: 0.2, language.R_LOL: 0.3, language.REF_FREE: 0.4,
        language.KL_ARM: 0.5, language.UNFILTERED: 0.5, language.NO_PRIORITY: 0.6, language.DPO_ARM: 0.7,
        language.A_LOL: 0.9, language.SEQ: 1.0,
    }  # fmt: skip
    arms = {name: spoken(sign * value + 0.001 * seed) for name, value in gold.items()}
    arms[language.SEQ] = replace(arms[language.SEQ], distinct=0.5 + 0.1 * sign, tokens=20.0 + sign)
    return ALolWorld(arms=arms, kept=kept, value=0.4)


def page(runs, worlds, scale):
    return evidence_of(runs, worlds, scale=scale, command="c")


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = page(made_bandits(ORDER), [made_world(1, seed) for seed in range(3)], tiny_scale)
    assert [claim.verdict for claim in found.claims] == ["reproduced"] * 22
    assert set(found.figures) == {"a-lol-bandits.svg", "a-lol-language.svg"}
    assert "gold 0.80 [" in found.finding


def test_the_opposite_contradicts(tiny_scale):
    worlds = [made_world(-1, seed, kept=(0.2, 0.7)) for seed in range(3)]
    found = page(made_bandits(ORDER[::-1], opening=-0.01), worlds, tiny_scale)
    assert [claim.verdict for claim in found.claims] == ["contradicted"] * 22


def test_equal_methods_decide_nothing(tiny_scale):
    runs = made_bandits(ORDER, opening=0.0)
    flat = {noise: dict.fromkeys(found, 0.5 + JITTER) for noise, found in runs.reward.items()}
    same = ALolWorld(arms=dict.fromkeys(made_world(1, 0).arms, spoken(0.3)), kept=(0.5, 0.5), value=0.0)
    found = page(replace(runs, reward=flat), [same] * 3, tiny_scale)
    assert {claim.verdict for claim in found.claims} == {"not at this scale"}


def test_gold_at_equal_kl_by_hand():
    """The nearer of both ends decides: at a root of 1, half of the gain of the farther."""
    arms = {"far": spoken(1.0, reach=2.0), "near": spoken(0.2, reach=1.0)}
    world = ALolWorld(arms=arms, kept=(0, 0), value=0.0)
    assert world.at_equal_kl("far", "near") == pytest.approx(0.5 - 0.2)
    assert arms["far"].nats == pytest.approx(4.0)


def test_methods_draw_as_their_names_say():
    assert METHODS[bandit.A_LOL].filtered
    assert METHODS[bandit.A_LOL].priority == "advantage"
    assert METHODS[bandit.R_LOL].priority == "reward"
    assert METHODS[bandit.NO_PRIORITY] == replace(METHODS[bandit.A_LOL], priority=None)
    assert METHODS[bandit.NO_FILTER] == replace(METHODS[bandit.NO_PRIORITY], filtered=False)
    how = OfflineTraining(terms=(NegativeLogLikelihood(),), steps=7, seed=3)
    found = language.arms(how)
    assert found[language.LONGER] == how
    assert found[language.KL_ARM] == replace(how, terms=(ALolKL(),), priority="advantage")
    assert found[language.UNFILTERED] == replace(how, terms=(RLol(),))
    assert {one.steps for one in found.values()} == {7}


def test_half_of_the_data_answer_another_prompt(world_zero):
    rows, swapped = noisy_data(world_zero, count=30, seed=0)
    known = {row.prompt: [one.text for one in row.responses] for row in world_zero.comparisons}
    own = [one.text in known[row.prompt] for row in rows for one in row.responses]
    assert swapped.mean() == pytest.approx(language.NOISE, abs=0.2)
    assert [fits for fits, other in zip(own, swapped, strict=True) if not other] == [True] * int((~swapped).sum())
    assert np.mean([fits for fits, other in zip(own, swapped, strict=True) if other]) < 0.2
    world = World(world_zero.plan.policy.world)
    for row in rows[:4]:
        for one in row.responses:
            assert one.score == pytest.approx(world.gold(row.prompt, one.text))
    assert noisy_data(world_zero, count=30, seed=0)[0] == rows


def test_what_methods_learn_from(world_zero):
    pairs, _ = noisy_data(world_zero, count=3, seed=1)
    single = [one for row in pairs for one in language._split(row)]
    assert len({row.id for row in single}) == 6
    assert [row.responses[0].features["reward"] for row in single] == [
        pytest.approx(1 / (1 + np.exp(-one.score))) for row in pairs for one in row.responses
    ]
    assert reward_of(Response(text="", score=0.0)) == 0.5
    rewards = np.array([row.responses[0].features["reward"] for row in single])
    values = rewards + np.array([0.1, -0.1, 0.2, -0.2, 0.0, -0.3])
    known = with_advantages(single, values)
    assert [row.responses[0].features["advantage"] for row in known] == pytest.approx((rewards - values).tolist())
    assert [row.id for row in rows_of(language.A_LOL, known)] == [known[place].id for place in (1, 3, 5)]
    assert len(rows_of(language.R_LOL, known)) == 6
    signed = [row.responses[0].features["reward"] for row in rows_of(language.UNFILTERED, known)]
    assert signed == pytest.approx((rewards - values).tolist())
