"""Claims about IFT on lakes and worlds that were made up, its arms, and one of each carried out."""

import re
from functools import partial

import pytest
import torch

from trueup.lab.arithmetic import worlds as arithmetic_worlds
from trueup.lab.arithmetic.worlds import WorldPlan
from trueup.lab.reproduce import h_dpo_runs, ift_runs
from trueup.lab.reproduce.ift import evidence_of
from trueup.lab.reproduce.ift_odds import OddsRatio, log_odds
from trueup.lab.reproduce.ift_runs import (
    ALIKE,
    FULL,
    MIXED,
    ON_LAKE,
    ON_PROBLEMS,
    ONLY_DPO,
    ORPO,
    PAPER,
    PREFERRED,
    SFT,
    SUPERVISED,
    WEIGHTED,
    LakePlan,
    lake_plan,
    lake_scale,
    run_lake,
    run_problems,
)
from trueup.lab.reproduce.scale import full_scale
from trueup.objectives.example import two_preferences
from trueup.objectives.supervised.ift import IFT
from trueup.objectives.supervised.ift_paper import IFTPaper
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.report.evidence import evidence_markdown, read_claims
from trueup.types import PolicyBatch

from ..test_offline_runs import TINY
from .made_verified import made_lake, made_problems


def page(scale, *, distance=None, success=None, solved=None, loss=None):
    lakes = [made_lake(seed, distance=distance or {}, success=success or {}) for seed in range(4)]
    worlds = [made_problems(seed, solved=solved or {}, loss=loss or {}) for seed in range(3)]
    return evidence_of(lakes, worlds, scale=scale, command="trueup lab reproduce ift")


def test_what_the_paper_found_is_reproduced(tiny_scale):
    found = page(
        tiny_scale,
        distance={PREFERRED: 0.1, ONLY_DPO: 0.1, FULL: 0.2, MIXED: 0.3, WEIGHTED: 0.3, PAPER: 0.3},
        success={FULL: 0.7},
        solved={FULL: 0.8, PAPER: 0.7, MIXED: 0.6, WEIGHTED: 0.6},
        loss={FULL: 0.6},
    )
    assert {claim.verdict for claim in found.claims} == {"reproduced"}
    assert len(found.claims) == 15
    assert read_claims(evidence_markdown(found)) == tuple(found.claims)
    assert "\u22120.304 [" in found.finding


def test_the_opposite_contradicts(tiny_scale):
    found = page(
        tiny_scale,
        distance={PREFERRED: 0.9, ONLY_DPO: 0.9, FULL: 0.8, MIXED: 0.7, WEIGHTED: 0.7, PAPER: 0.7},
        success={FULL: 0.3},
        solved={FULL: 0.2, PAPER: 0.3, MIXED: 0.4, WEIGHTED: 0.4},
        loss={FULL: 0.4},
    )
    assert {claim.verdict for claim in found.claims} == {"contradicted"}


def test_equal_methods_decide_nothing(tiny_scale):
    assert {claim.verdict for claim in page(tiny_scale).claims} == {"not at this scale"}


def test_tables_and_figures_hold_every_method(tiny_scale):
    found = page(tiny_scale)
    lake, problems = (body for _, body in found.sections)
    assert all(f"| {name} |" in lake for name in ("start", *ON_LAKE))
    assert all(f"| {name} |" in problems for name in ("start", *ON_PROBLEMS))
    assert set(re.findall(r"\]\(([\w-]+\.svg)\)", evidence_markdown(found))) == set(found.figures)
    assert list(found.seeds) == [0, 1, 2]


def test_methods_are_the_card_s():
    assert {
        SFT: NegativeLogLikelihood(),
        ALIKE: IFT(mix=0.0, gamma=0.0),
        FULL: IFT(mix=0.2, gamma=0.95, detach=False),
        PAPER: IFTPaper(mix=0.2, decay=1.0),
        MIXED: IFT(mix=0.2, gamma=0.0),
        WEIGHTED: IFT(mix=0.0, gamma=0.95),
    } == SUPERVISED
    assert lake_scale(full_scale()).seeds == tuple(range(10))
    assert lake_plan(full_scale(), 3).steps == 150
    assert lake_plan(full_scale(), 3).key != lake_plan(full_scale(), 4).key


def test_one_lake_is_carried_out_and_read_again(tiny_scale, monkeypatch):
    for name in (ALIKE, MIXED, WEIGHTED, PAPER):
        monkeypatch.delitem(ift_runs.SUPERVISED, name)
    monkeypatch.setattr(ift_runs, "LakePlan", partial(LakePlan, shape=TINY.shape, tested=50))
    monkeypatch.setattr(ift_runs, "ON_LAKE", (SFT, FULL, ORPO, PREFERRED, ONLY_DPO))
    found = run_lake(tiny_scale, 0)
    assert set(found.walked) == {SFT, FULL, ORPO, PREFERRED, ONLY_DPO}
    assert 0.5 < found.start.distance < 1.5
    assert len({one.distance for one in found.walked.values()} | {found.start.distance}) == 6
    monkeypatch.setattr("trueup.lab.offline_runs._train", no_training)
    assert run_lake(tiny_scale, 0).walked[FULL].distance == found.walked[FULL].distance


def no_training(*args, **options):
    raise AssertionError("this trains")


def test_one_world_of_problems_is_carried_out_and_read_again(tiny_scale, monkeypatch):
    for name in (ALIKE, MIXED, WEIGHTED, PAPER):
        monkeypatch.delitem(ift_runs.SUPERVISED, name)
    monkeypatch.setattr(h_dpo_runs, "WorldPlan", partial(WorldPlan, policy=TINY))
    monkeypatch.setattr(ift_runs, "ON_PROBLEMS", (SFT, FULL, PREFERRED))
    monkeypatch.setattr(arithmetic_worlds, "is_correct", lambda prompt, response: len(response) % 2 == 0)
    found = run_problems(tiny_scale, 0)
    assert set(found.answered) == {SFT, FULL, PREFERRED}
    assert len({one.loss for one in found.answered.values()} | {found.start.loss}) == 4
    monkeypatch.setattr("trueup.lab.offline_runs._train", no_training)
    assert run_problems(tiny_scale, 0) == found


# ORPO's term


def batch(*logprobs: float) -> PolicyBatch:
    """One token a response, the first preferred to the second."""
    return PolicyBatch(
        logprob=torch.tensor(logprobs, dtype=torch.float64),
        branch=torch.arange(len(logprobs)),
        prompt=torch.zeros(len(logprobs), dtype=torch.int64),
        pairs=torch.tensor([[0, 1]]),
    )


def test_odds_by_hand():
    """Probabilities of 3/4 and 1/4 have odds of 3 and 1/3: minus log of 9 / 10."""
    found = OddsRatio(coefficient=2.0)(batch(*torch.tensor([0.75, 0.25], dtype=torch.float64).log().tolist()), {})
    assert float(found.values) == pytest.approx(2 * torch.tensor(10 / 9).log().item())
    assert float(log_odds(torch.tensor([0.9], dtype=torch.float64).log())) == pytest.approx(
        torch.tensor(9.0).log().item()
    )


def test_odds_are_of_the_mean_token():
    """Twice the same token is as likely a token."""
    long = two_preferences()
    alone = OddsRatio()(long, {}).values.detach()
    twice = PolicyBatch(
        logprob=long.logprob.repeat_interleave(2),
        branch=long.branch.repeat_interleave(2),
        prompt=long.prompt,
        pairs=long.pairs,
    )
    assert torch.allclose(OddsRatio()(twice, {}).values, alone)


def test_the_term_raises_the_chosen_and_stays_finite_where_a_response_is_sure():
    logprob = torch.tensor([-0.5, -1.0], dtype=torch.float64, requires_grad=True)

    def loss(values):
        return OddsRatio()(PolicyBatch(logprob=values, branch=torch.arange(2), prompt=torch.zeros(2, dtype=torch.int64),
                                       pairs=torch.tensor([[0, 1]])), {}).values  # fmt: skip

    assert torch.autograd.gradcheck(loss, logprob)
    (gradient,) = torch.autograd.grad(loss(logprob).sum(), logprob)
    assert gradient[0] < 0 < gradient[1]
    assert torch.isfinite(loss(torch.tensor([0.0, -1.0]))).all()
