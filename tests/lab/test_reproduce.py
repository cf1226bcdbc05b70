"""Reproductions: from worlds to claims, pages that can be read back, and the verb, at a scale of seconds."""

import multiprocessing
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trueup.cli import main
from trueup.data.pools import Pool
from trueup.divergences.best_of_n import nominal_kl
from trueup.lab import fitting
from trueup.lab.gold_proxy import GOLD, ProxyScores, Setup
from trueup.lab.proxy_runs import ProxyRun
from trueup.lab.reproduce import bsr, rm_ensembles, scaling_laws
from trueup.lab.reproduce.gathering import Arm, gather, gather_scores, over_worlds
from trueup.lab.reproduce.h_dpo_runs import run_world as run_world_of_h_dpo
from trueup.lab.reproduce.ift_runs import run_lake, run_problems
from trueup.lab.reproduce.scale import Scale, World, full_scale, quick_scale, run_world, run_worlds
from trueup.lab.shift_runs import ShiftRun
from trueup.lab.tabular.runs import QUICK
from trueup.measure.best_of_n import n_grid
from trueup.recipes import lab_reproduce
from trueup.recipes.lab_reproduce import EXPERIMENTS
from trueup.report.evidence import VERDICTS, evidence_markdown, read_claims
from trueup.rewards.aggregates import Mean, WorstCase

from .conftest import SETUP
from .reproduce.made_verified import made_h_dpo_world, made_lake, made_problems

TRAINED = ("scaling-laws", "rm-ensembles", "bsr")
ONLINE = (
    "scaling-laws-rl", "bsr-rloo", "elastic-reset", "salsa", "warp", "rm-ensembles-ppo", "superhf",
    "correlated-proxies-language",
)  # fmt: skip
GAMES = ("inpo", "modpo", "a-lol")
VERIFIED = ("h-dpo", "ift")
"""A policy of seconds solves nothing; their worlds are made up, and one of each is carried out in their own tests."""
TABULAR = "correlated-proxies"
SEEN = "alarms"
"""Its alarm needs worlds in which gold falls, which policies of seconds do not give; they are made up."""


TINY_TABULAR = replace(
    QUICK,
    multiples=(0.03, 1.0),
    near_multiples=(0.5,),
    sampled_multiples=(0.3,),
    ascent=replace(QUICK.ascent, steps=2),
    rounds=replace(QUICK.rounds, rounds=2),
    random_problems=2,
)


def no_training(*args, **options):
    raise AssertionError("this trains")


# Made-up worlds


def made_world(seed: int, gold: np.ndarray, scores: dict[str, np.ndarray]) -> World:
    """A world of such scores."""
    prompts, samples = gold.shape
    shape = (prompts, samples)
    pool = Pool(
        ids=tuple(map(str, range(prompts))),
        prompts=tuple(f"{p}?" for p in range(prompts)),
        responses=tuple(tuple(f"answer {p} {s} answer" for s in range(samples)) for p in range(prompts)),
        tokens=np.tile(np.arange(samples), (prompts, 1)) + 5,
        finished=np.ones(shape, bool),
        logprob=np.zeros(shape),
        scores={GOLD: gold},
    )
    setup = Setup(plan=SETUP, policy=Path("policy"), pool=pool, comparisons=(), held_out=())
    proxies = {
        name: ProxyScores(
            score=score, hidden_norm=np.abs(score) + 1, training_norm=(1.5, 0.5), accuracy=0.5 + seed / 10, parameters=7
        )
        for name, score in scores.items()
    }
    return World(seed=seed, setup=setup, proxies=proxies)


def hacked_world(seed: int, scale: Scale) -> World:
    """Proxies whose shared error has heavy tails in some arms: there gold rises and then falls."""
    generator = np.random.default_rng(seed)
    shape = (30, 256)
    gold = generator.standard_normal(shape)
    scores = {}
    for name in {**scaling_laws.arms(scale, seed), **rm_ensembles.arms(scale, seed)}:
        fair = "flip 0" in name and "0.25" not in name
        error = 0.4 * generator.standard_normal(shape) if fair else 0.7 * generator.standard_t(2, shape)
        scores[name] = gold + error
    return made_world(seed, gold, scores)


GOLD_OF_TWO = np.array([[3.0, 1.0, 2.0], [0.0, 0.0, 6.0]])
PROXY_OF_TWO = np.array([[0.0, 1.0, 5.0], [4.0, 1.0, 0.0]])


def test_an_arm_by_hand():
    """Best of three takes gold 2 and 0; standard deviations are sqrt(2/3) and sqrt(8), means both 2."""
    arm = gather([made_world(1, GOLD_OF_TWO, {"a": PROXY_OF_TWO})], "a", n=np.array([1, 2, 3]))
    unit = (np.sqrt(2 / 3) + np.sqrt(8)) / 2
    # Of the three pairs of samples, the proxy's best: golds 1, 2, 2 and 0, 0, 0.
    expected = np.array([[0, 5 / 3 - 2, 0], [0, 0 - 2, 0 - 2]]) / unit
    assert arm.gold == pytest.approx(expected)
    proxy_unit = PROXY_OF_TWO.std(axis=1).mean()
    assert arm.proxy[:, 2] == pytest.approx((PROXY_OF_TWO.max(axis=1) - PROXY_OF_TWO.mean(axis=1)) / proxy_unit)
    assert arm.proxy[:, 0] == pytest.approx([0, 0])
    assert arm.d == pytest.approx(np.sqrt(nominal_kl(np.array([1, 2, 3]))))
    assert arm.accuracy.tolist() == [0.6]
    assert arm.by_world() == pytest.approx(expected.mean(axis=0, keepdims=True))


def test_each_world_counts_once_and_is_on_its_own_scale():
    """A world whose gold is ten times as large looks the same."""
    worlds = [made_world(0, GOLD_OF_TWO, {"a": PROXY_OF_TWO}), made_world(1, 10 * GOLD_OF_TWO, {"a": PROXY_OF_TWO - 3})]
    arm = gather(worlds, "a")
    assert arm.world.tolist() == [0, 0, 1, 1]
    assert arm.by_world()[0] == pytest.approx(arm.by_world()[1])
    assert arm.n.tolist() == n_grid(3).tolist()
    assert [one.value for one in arm.estimates()] == pytest.approx(arm.by_world()[0])
    assert np.isnan(gather_scores(worlds, [PROXY_OF_TWO, PROXY_OF_TWO]).accuracy).all()
    assert over_worlds([1.0, 2.0, 6.0]).value == 3.0


def lawful_arm(alpha: list[float], beta: list[float]) -> Arm:
    n = n_grid(64)
    d = np.sqrt(nominal_kl(n))
    gold = np.stack([a * d - b * d**2 for a, b in zip(alpha, beta, strict=True)])
    return Arm(n=n, gold=gold, proxy=gold, world=np.arange(len(alpha)), accuracy=np.zeros(len(alpha)))


def test_each_world_s_coefficients_are_its_law_s():
    found = scaling_laws._coefficients(lawful_arm([0.9, 0.4], [0.2, -0.1]))
    assert found == pytest.approx(np.array([[0.9, 0.2], [0.4, -0.1]]))


def test_an_amount_that_gains_nothing_is_what_the_claim_says():
    gains = [over_worlds(values) for values in ([1.0, 1.1, 1.2], [-1.0, -1.1, -1.2], [-1.0, 1.0, 0.1])]
    assert [scaling_laws._gains_nothing(gain) for gain in gains] == ["contradicted", "reproduced", "reproduced"]


def test_the_matched_coefficient_is_the_one_of_like_accuracy():
    arm = lawful_arm([1.0, 1.0], [0.1, 0.1])
    found = {c: replace(arm, accuracy=np.array(values)) for c, values in
             {0.0: [0.7, 0.8], 0.01: [0.6, 0.8], 0.1: [0.8, 0.71], 1.0: [0.5, 0.5]}.items()}  # fmt: skip
    assert bsr._matched(found, (0.01, 0.1, 1.0)) == 0.1


def members_of(seed: int, scale: Scale, stack: list[np.ndarray]) -> World:
    """A world whose ensembles have these members, with and without noise."""
    names = rm_ensembles.arms(scale, seed)
    gold = np.random.default_rng(seed).standard_normal(stack[0].shape)
    return made_world(seed, gold, {name: stack[number % scale.members] for number, name in enumerate(names)})


def test_members_that_agree_gain_nothing_together(tiny_scale):
    """Up to a constant: all aggregates choose the same, every comparison ties, and disagreement never grows."""
    score = np.random.default_rng(9).standard_normal((4, 16))
    side = rm_ensembles._side([members_of(s, tiny_scale, [score, score + 1.0]) for s in (0, 1)], tiny_scale, 0.0)
    for name in rm_ensembles.AGGREGATES:
        assert side.arms[name].gold == pytest.approx(side.arms[rm_ensembles.SINGLE].gold)
        assert side.wins[name] == pytest.approx(0.5)
    assert side.spread == pytest.approx(1.0)


def test_members_that_disagree_are_gathered_by_the_named_aggregates(tiny_scale):
    generator = np.random.default_rng(8)
    stack = [generator.standard_normal((4, 16)) for _ in range(2)]
    worlds = [members_of(seed, tiny_scale, stack) for seed in (0, 1)]
    side = rm_ensembles._side(worlds, tiny_scale, 0.25)
    whole = np.stack(stack)
    assert set(rm_ensembles.AGGREGATES) == {"mean", "worst case", "uncertainty-weighted"}
    for name, chosen in (("mean", whole.mean(axis=0)), ("worst case", whole.min(axis=0)),
                         ("uncertainty-weighted", whole.mean(axis=0) - 0.5 * whole.var(axis=0))):  # fmt: skip
        assert side.arms[name].gold == pytest.approx(gather_scores(worlds, [chosen, chosen]).gold)
    single = np.mean([gather_scores(worlds, [one, one]).gold for one in stack], axis=0)
    assert side.arms[rm_ensembles.SINGLE].gold == pytest.approx(single)
    assert isinstance(rm_ensembles.AGGREGATES["mean"], Mean)
    assert isinstance(rm_ensembles.AGGREGATES["worst case"], WorstCase)


def test_experiments_share_their_ordinary_proxy(tiny_scale):
    """So that it is trained once: same plan, same name on disk."""
    main_arm = scaling_laws.arms(tiny_scale, 3)[scaling_laws.pairs_name(20)]
    assert rm_ensembles.arms(tiny_scale, 3)[rm_ensembles.member_name(0, 0.0)] == main_arm
    assert bsr.arms(tiny_scale, 3)["BT"] == main_arm
    noisy = scaling_laws.arms(tiny_scale, 3)["noisy"]
    assert rm_ensembles.arms(tiny_scale, 3)[rm_ensembles.member_name(0, 0.25)] == noisy
    plans = [run.plan for run in rm_ensembles.arms(tiny_scale, 3).values()]
    assert {plan.data_seed if plan.data_seed is not None else plan.seed for plan in plans} == {3}


def test_scales_are_what_was_asked():
    assert full_scale().seeds == (0, 1, 2, 3, 4)
    assert quick_scale().seeds == (0, 1)
    assert quick_scale(seeds=3, workers=2, folder=Path("x")).seeds == (0, 1, 2)
    worlds = [full_scale().plan(seed).policy for seed in (0, 1)]
    assert [(plan.world, plan.seed) for plan in worlds] == [(0, 0), (1, 1)]
    assert worlds[0].key != worlds[1].key


# Whole experiments


@pytest.fixture
def few_shift_rows(monkeypatch):
    """The four-shift table is tested on 300 prompts a split otherwise."""
    monkeypatch.setattr(bsr, "ShiftRun", partial(ShiftRun, held_out=12))


@pytest.fixture
def made_alarm_worlds(monkeypatch):
    def worlds(scale, arms, *, progress=False):
        return [hacked_world(seed, scale) for seed in scale.seeds]

    monkeypatch.setattr("trueup.lab.reproduce.alarms.run_worlds", worlds)


@pytest.fixture
def made_verified_worlds(monkeypatch):
    def worlds(job, scale, *, progress=False):
        make = {run_world_of_h_dpo: a_h_dpo_world, run_lake: a_lake, run_problems: a_world_of_problems}[job]
        return [make(seed) for seed in scale.seeds]

    for module in ("h_dpo", "ift"):
        monkeypatch.setattr(f"trueup.lab.reproduce.{module}.over_seeds", worlds)


def a_h_dpo_world(seed):
    return made_h_dpo_world(seed, entropy=lambda alpha: alpha, solved=lambda alpha: 0.3)


def a_lake(seed):
    return made_lake(seed, distance={}, success={})


def a_world_of_problems(seed):
    return made_problems(seed, solved={}, loss={})


@pytest.fixture
def small_scale(tiny_scale, monkeypatch):
    """Let the verb's quick scale be the tests'."""
    asked = []

    def make(*, seeds=None, workers=1, folder=None):
        asked.append((seeds, workers, folder))
        return replace(tiny_scale, seeds=tuple(range(seeds or 2)), tabular=TINY_TABULAR)

    monkeypatch.setattr(lab_reproduce, "quick_scale", make)
    return asked


def test_all_experiments_are_tried():
    assert set(EXPERIMENTS) == {*TRAINED, *ONLINE, *GAMES, *VERIFIED, TABULAR, SEEN}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_verb_writes_a_page_that_can_be_read_back(
    name,
    tmp_path,
    capsys,
    small_scale,
    few_shift_rows,
    little_drawing,
    made_alarm_worlds,
    made_verified_worlds,
    monkeypatch,
):
    output, seeds = tmp_path / "pages", 6 if name == SEEN else 2
    words = ["lab", "reproduce", name, "--quick", "true", "--workers", "1", "--seeds", str(seeds)]
    assert main([*words, "--output", str(output)]) == 0
    assert small_scale == [(seeds, 1, None)]
    out = capsys.readouterr().out
    page = (output / f"{name}.md").read_text()
    claims = read_claims(page)
    assert claims
    for claim in claims:
        assert f"{claim.verdict}: {claim.statement}" in out
        assert claim.verdict in VERDICTS
    assert f"page: {output / name}.md" in out
    assert f"`trueup lab reproduce {name} --quick --seeds {seeds}`" in page
    assert f"| seeds | {seeds} (" in page
    figures = re.findall(r"\]\(([\w-]+\.svg)\)", page)
    assert set(figures) == {path.name for path in output.glob("*.svg")}
    assert bool(figures) == (name != SEEN)
    assert all((output / figure).read_text().lstrip().startswith(("<?xml", "<svg")) for figure in figures)
    if name in (*TRAINED, *ONLINE):
        # What was computed is used again, and says the same.
        monkeypatch.setattr("trueup.lab.gold_proxy.fit_reward", no_training)
        monkeypatch.setattr("trueup.lab.shift_runs.fit_reward", no_training)
        monkeypatch.setattr("trueup.lab.policies.fit_policy", no_training)
        monkeypatch.setattr("trueup.lab.policy_runs.optimize", no_training)
        assert main([*words, "--output", str(tmp_path / "again")]) == 0
        assert (tmp_path / "again" / f"{name}.md").read_text() == page


def test_an_alarm_is_judged_on_worlds_it_has_not_seen(tiny_scale, made_alarm_worlds):
    scale = replace(tiny_scale, seeds=(4, 5, 6, 7, 8, 9))
    evidence = EXPERIMENTS[SEEN](scale, command="trueup lab reproduce alarms")
    assert evidence.settings["tuning worlds"] == "4, 5, 6"
    assert evidence.settings["unseen worlds"] == "7, 8, 9"
    (claim,) = evidence.claims
    # Every member of two ensembles of two, one smaller proxy, and one of fewer comparisons.
    assert "18 runs of 3 unseen worlds" in claim.ran
    assert read_claims(evidence_markdown(evidence)) == (claim,)


@pytest.mark.slow
def test_several_processes_find_what_one_does(tiny_scale, tmp_path):
    """Two worlds at once in one folder, each with a policy of its own to build."""
    scale = replace(tiny_scale, folder=tmp_path, workers=2)

    alone = run_world(tiny_scale, first_proxy, 1)
    together = run_worlds(scale, first_proxy)
    assert [world.seed for world in together] == [0, 1]
    assert together[1].setup.pool.responses == alone.setup.pool.responses
    assert np.array_equal(together[1].proxies["first"].score, alone.proxies["first"].score)
    assert len(list((tmp_path / "policies").iterdir())) == 2
    assert not multiprocessing.active_children()


def first_proxy(scale: Scale, seed: int) -> dict[str, ProxyRun]:
    """One arm, importable by another process."""
    return {"first": ProxyRun(plan=scale.proxy_plan(seed))}


# What is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scaling-law"], "there is no experiment 'scaling-law'; known: scaling-laws, rm-ensembles, bsr"),
        (["bsr", "all"], "there is no experiment 'all'"),
        ([], "field `names` is missing"),
        (["--names", "[]"], "no experiment is named"),
        (["bsr", "--seeds", "0"], "seeds must be"),
        (["bsr", "--quickly", "true"], "unknown field `--quickly`"),
    ],
)
def test_what_cannot_be_reproduced_is_one_message(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fitting, "set_seed", no_training)
    assert main(["lab", "reproduce", *words]) == 2
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trueup: ")]
    assert len(messages) == 1
    assert said in messages[0]
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_found_before_any_work(tmp_path, capsys):
    (tmp_path / "pages").write_text("a file")
    assert main(["lab", "reproduce", "bsr", "--quick", "true", "--output", str(tmp_path / "pages")]) == 2
    assert "is a file; name another place" in capsys.readouterr().err
