import json
from typing import Any

import numpy as np
import pytest

from trueup.measure.bootstrap import Resampling
from trueup.measure.over_optimization import PoolScores, over_optimization
from trueup.report.over_optimization import over_optimization_page
from trueup.report.page import render

from .page_reading import Reading, check_whole, read

ODD = "<b>odd</b> & λ 测试 \x00 \ud800"
STAGES = (
    (1, "A short right answer.", 0.2, 1.0),
    (8, "A better one.", 1.1, 1.6),
    (64, "Great! Great! " * 200, 9.0, -2.0),
)


def scores(kind: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    gold = generator.normal(size=(60, 64))
    noise = generator.normal(size=gold.shape) if kind == "good" else 0.8 * generator.standard_t(2, size=gold.shape)
    return gold + noise, gold


def measured(*, gold: bool = True, proxies: tuple[str, ...] = ("good", ODD)) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    _, truth = scores("good", np.random.default_rng(0))
    named = []
    for name in proxies:
        noise = generator.normal(size=truth.shape) if name == "good" else generator.standard_t(2, size=truth.shape)
        own = {"disagreement": np.abs(noise)} if name == "good" else {}
        named.append(PoolScores(name=name, reward=truth + noise, signals=own))
    result = over_optimization(
        named,
        PoolScores(name="the judge", reward=truth) if gold else None,
        signals={"tokens": np.exp(truth), "finished": np.ones_like(truth)},
        resampling=Resampling(resamples=100),
        created_by={"recipe": "proxy: x\n", "pool": {"policy": "runs/sft", "seed": 0}, "versions": {"trueup": "0.1.0"}},
    )
    choices = [
        {"n": n, "sample": 0, "text": text, "tokens": 5, "proxy": proxy, "gold": value if gold else None,
         "features": {"non_repetition": 0.25} if gold else None}
        for n, text, proxy, value in STAGES
    ]  # fmt: skip
    prompts = [{"id": "p1", "prompt": ODD, "why": "on which gold falls most", "choices": choices}]
    result["results"][proxies[0]]["examples"] = {"rule": "the one", "middle": "gold's peak", "prompts": prompts}
    return result


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return measured()


@pytest.fixture(scope="module")
def reading(result: dict[str, Any]) -> Reading:
    return read(render(over_optimization_page(result)))


def test_the_page_is_whole_and_asks_for_nothing_from_outside(reading: Reading) -> None:
    check_whole(reading)
    assert "<b>odd</b> & λ 测试" in reading.words


def test_a_saved_file_gives_the_same_page(result: dict[str, Any]) -> None:
    saved = json.loads(json.dumps(result))
    assert render(over_optimization_page(saved)) == render(over_optimization_page(result))


def test_it_says_what_was_measured(reading: Reading) -> None:
    for words in (
        "How far can each of these 2 proxies be optimised?",
        "64 samples of runs/sft to each of 60 prompts, judged by the judge",
        "Does gold fall while the proxy rises?",
        "Gold under each proxy",
        "Can the proxy still be trusted after selection?",
        "How well does a law describe it?",
        "Could a few samples have foretold it?",
        "spread of the ensemble's members",
        "length in tokens",
        "policy runs/sft, seed 0",
        "it foretells no peak",
    ):
        assert words in reading.words
    assert "share that ended by itself" not in reading.words  # it never changes


def test_the_verdict_comes_first(reading: Reading, result: dict[str, Any]) -> None:
    finding = result["results"]["good"]["verdict"][0]["text"]
    assert reading.words.index(finding[1:]) < reading.words.index("Does gold fall while the proxy rises?")


def test_examples_stand_side_by_side_with_proxy_gold_and_breakdown(reading: Reading) -> None:
    for words in (
        "n = 1: a random sample",
        "best of 8",
        "best of 64",
        "good +9.00; gold −2.00; non repetition 0.25",
        "on which gold falls most",
        "(1,300 more characters)",
    ):
        assert words in reading.words


def test_without_gold_it_says_so_and_shows_drift() -> None:
    page = read(render(over_optimization_page(measured(gold=False, proxies=("good",)))))
    assert "How far can good be optimised?" in page.words
    assert "without gold" in page.words
    assert "Gold was not given, so whether it falls cannot be seen" in page.words
    assert "How far does the proxy rise?" in page.words
    assert "Drift of what is chosen" in page.words
    assert "foretold" not in page.words
    assert "gold −2.00" not in page.words


def test_cannot_tell_is_said_plainly() -> None:
    generator = np.random.default_rng(1)
    proxy, gold = generator.normal(size=(2, 5, 16))
    result = over_optimization(
        [PoolScores(name="p", reward=proxy)],
        PoolScores(name="g", reward=gold),
        resampling=Resampling(resamples=100),
    )
    page = read(render(over_optimization_page(result)))
    assert result["results"]["p"]["law"]["verdict"] == "cannot tell"
    assert "Cannot tell whether gold peaks by n = 16: 5 prompts and 16 samples of each leave it open" in page.words
    assert "cannot tell if gold peaks" in page.words


def test_a_pool_too_small_for_a_law_still_has_a_page() -> None:
    proxy, gold = np.random.default_rng(1).normal(size=(2, 1, 2))
    result = over_optimization(
        [PoolScores(name="p", reward=proxy)], PoolScores(name="g", reward=gold), resampling=Resampling(resamples=10)
    )
    page = read(render(over_optimization_page(result)))
    assert page.wrong == []
    assert "needs 2 different distances above 0" in page.words


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=r"schema trueup.best_of_n/1 is needed, got 'trueup.audit/1'"):
        over_optimization_page({"schema": "trueup.audit/1"})
