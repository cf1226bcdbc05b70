import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trueup.data.watched import Watched
from trueup.measure.bootstrap import Resampling
from trueup.measure.policy_run import RunRecord, audit_runs
from trueup.report.frontier import Frontier, frontiers, over_steps
from trueup.report.page import render
from trueup.report.policy_run import policy_run_page

from .page_reading import Reading, check_whole, read

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measure.watched_runs import law_run, with_texts

ODD = "<b>odd</b> & λ 测试 \x00 \ud800"
D = np.linspace(0, 6, 9)
FEW = Resampling(resamples=100)


def record(watched: Watched, **more: Any) -> RunRecord:
    return RunRecord(watched=watched, source="runs/x", **more)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    over = with_texts(law_run(1.0, 0.6, d=D, prompts=12))
    odd = tuple(ODD if i == 0 else prompt for i, prompt in enumerate(over.prompts))
    texts = tuple(tuple((ODD * 80, *row[1:]) for row in point) for point in over.responses)
    names = ("steps", "proxy", "gold", "kl", "tokens", "ended")
    strange = Watched(**{n: getattr(over, n) for n in names}, prompts=odd, responses=texts)
    fine = law_run(1.0, 0.1, d=D, prompts=12, seed=1)
    training = {"entropy": ([1, 2], [2.0, 0.5])}
    return audit_runs(
        {ODD: record(strange, training=training, notes=("A note",)), "fine": record(fine)},
        resampling=FEW,
        created_by={"recipe": "runs: [x]\n", "versions": {"trueup": "0.1.0"}},
    )


@pytest.fixture(scope="module")
def reading(result: dict[str, Any]) -> Reading:
    return read(render(policy_run_page(result)))


def test_the_page_is_whole_and_asks_for_nothing_from_outside(reading: Reading) -> None:
    check_whole(reading)
    assert "<b>odd</b> & λ 测试" in reading.words


def test_a_saved_file_gives_the_same_page(result: dict[str, Any]) -> None:
    assert render(policy_run_page(json.loads(json.dumps(result)))) == render(policy_run_page(result))


def test_it_says_what_was_measured(reading: Reading) -> None:
    for words in (
        "Did each of these 2 runs go too far?",
        "9 looks up to step 80, 4 responses to each of 12 prompts",
        "A note.",
        "What does distance buy?",
        "std above the start",
        "Where does gold peak?",
        "gold peaks",
        "What did it say along the way?",
        "step 0: the start",
        "step 80: the end",
        "the highest gold",
        "METEOR between answers to different prompts",
        "entropy (nats a token)",
        "Would one have been warned without gold?",
        "here it is a hint, and no more",
        "more characters)",
    ):
        assert words in reading.words, words


def test_the_verdict_comes_first(reading: Reading, result: dict[str, Any]) -> None:
    finding = result["runs"]["fine"]["verdict"][0]["text"]
    assert reading.words.index(finding[1:]) < reading.words.index("What does distance buy?")


def test_a_log_of_means_has_a_page_that_says_what_it_lacks() -> None:
    one = law_run(1.0, 0.1, d=D, prompts=1, samples=1)
    means = Watched(steps=one.steps, proxy=one.proxy, kl=one.kl)
    page = read(render(policy_run_page(audit_runs({"log": record(means)}, resampling=FEW))))
    assert page.wrong == []
    assert "read from a log of means" in page.words
    assert "Gold was not watched" in page.words
    assert "change from the start" in page.words
    assert "Where does gold peak?" not in page.words


def test_without_kl_it_says_that_there_is_no_frontier() -> None:
    fine = law_run(1.0, 0.1, d=D, prompts=4)
    page = read(
        render(policy_run_page(audit_runs({"x": record(Watched(steps=fine.steps, proxy=fine.proxy))}, resampling=FEW)))
    )
    assert "no frontier can be drawn" in page.words


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=r"schema trueup.policy_audit/1 is needed, got 'trueup.audit/1'"):
        policy_run_page({"schema": "trueup.audit/1"})


def test_figures_are_the_same_for_the_same_numbers_and_bear_gaps() -> None:
    from trueup.measure.scored import Estimate

    nothing = Estimate(np.nan, np.nan, np.nan, 0)
    values = [Estimate(0.0, 0.0, 0.0, 3), nothing, Estimate(1.0, 0.5, 1.5, 3)]
    run = Frontier(d=[0.0, np.nan, 2.0], values=values, law=(1.0, 0.5), peak=Estimate(1.5, 1.0, np.inf, 3))
    for width in (880, 344):
        drawn = frontiers({"gold": {"a": run}, "proxy": {"a": run, "b": run}}, unit="std", width=width)
        assert drawn == frontiers({"gold": {"a": run}, "proxy": {"a": run, "b": run}}, unit="std", width=width)
        assert "<svg" in drawn
        assert "nan" not in drawn.lower().replace("finance", "")
    assert "<svg" in over_steps({"x": {"a": ([0, 1, 2], values)}})
