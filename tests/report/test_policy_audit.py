import json
from typing import Any

import numpy as np
import pytest

from trueup.measure.bootstrap import Resampling
from trueup.measure.policy_audit import audit_policies
from trueup.measure.policy_audit_records import Drawn, Judged, PairScores, PolicyRecord
from trueup.measure.scored import Estimate
from trueup.report.page import render
from trueup.report.policy_audit import policy_audit_page
from trueup.report.policy_audit_figures import Passing, passing

from .page_reading import Reading, check_whole, read

ODD = "<b>odd</b> & λ 测试 \x00 \ud800"
FEW = Resampling(resamples=10)
PROMPTS = [ODD, *(f"Fruit {i}?" for i in range(7))]


def drawn(seed: int, temperature: float = 1.0) -> Drawn:
    rng = np.random.default_rng(seed)
    shape = (len(PROMPTS), 4)
    words = rng.integers(1, 5, shape)
    return Drawn(
        temperature=temperature,
        texts=tuple(tuple(" ".join([ODD] * k) for k in row) for row in words.tolist()),
        tokens=words.astype(float),
        finished=(rng.random(shape) < 0.9).astype(float),
        logprob=-rng.random(shape),
        reference_logprob=-1 - rng.random(shape),
        correct=(rng.random(shape) < 0.5).astype(np.int64),
    )


def policy(seed: int) -> PolicyRecord:
    rng = np.random.default_rng(seed)
    forward = rng.random((len(PROMPTS), 4))
    held, moved = np.full(12, -3.0), rng.normal(size=12)
    pairs = PairScores(
        reward=moved, policy=held + moved, reference=held, prompt=np.repeat(np.arange(6), 2),
        pairs=np.arange(12).reshape(6, 2), length=np.full(12, 4), formula="implied by dpo (beta 0.1)",
    )  # fmt: skip
    return PolicyRecord(
        source="runs/x",
        trained="dpo (beta 0.1)",
        drawn=[drawn(seed), drawn(seed + 50, 0.5)],
        rewards={"score": rng.random((len(PROMPTS), 4))},
        judged={"judge": Judged(forward=forward, backward=rng.random((len(PROMPTS), 4)))},
        pairs=pairs,
        notes=("A note",),
    )


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    base = PolicyRecord(source="base", drawn=[drawn(0), drawn(9, 0.5)], rewards={"score": np.zeros((8, 4))})
    return audit_policies(
        {ODD: policy(1), "sharp": policy(2)},
        reference=("base", base),
        prompts=PROMPTS,
        resampling=FEW,
        most_examples=8,
        created_by={"recipe": "runs: [x]\n", "versions": {"trueup": "0.1.0"}},
    )


@pytest.fixture(scope="module")
def html(result: dict[str, Any]) -> str:
    return render(policy_audit_page(result))


@pytest.fixture(scope="module")
def reading(html: str) -> Reading:
    return read(html)


def test_the_page_is_whole_and_asks_for_nothing_from_outside(reading: Reading) -> None:
    check_whole(reading)
    assert "<b>odd</b> & λ 测试" in reading.words


def test_a_saved_file_gives_the_same_page(result: dict[str, Any], html: str) -> None:
    assert render(policy_audit_page(json.loads(json.dumps(result)))) == html


@pytest.mark.parametrize(
    "words",
    [
        "What has each of these 2 policies learned?",
        "2 policies, held against base: 4 responses to each of 8 held-out prompts and 6 held-out pairs. A note.",
        "Is it preferred to the reference?",
        "judge, equal length",
        "Does the judge agree with itself?",
        "Rewards of the answers",
        "nothing was picked by its outcome",
        "base (reference)",
        "cut at the length limit",
        "Does it solve more problems?",
        "pass@k over the reference's at temperature 1",
        "best of the other half",
        "Temperatures that the two halves",
        "KL, nats a response",
        "BLEU among answers",
        "Are answers longer?",
        "the reference alone",
        "Reward of sharp: implied by dpo (beta 0.1).",
        "held-out pairs right",
        "Policies; the reference stands last",
    ],
)
def test_it_says_what_was_measured(reading: Reading, words: str) -> None:
    assert words in reading.words


def test_numbers_on_the_page_are_those_of_the_file(reading: Reading, result: dict[str, Any]) -> None:
    rate = result["policies"]["sharp"]["win_rates"]["judge"]["headline"]["value"]
    assert f"{100 * rate:.1f}%" in reading.words
    assert f"{result['policies']['sharp']['kl']['response']['value']:.2f}" in reading.words
    finding = result["policies"]["sharp"]["verdict"][0]["text"]
    assert reading.words.index(finding[1:]) < reading.words.index("What do they say?")


def test_what_was_not_measured_is_said_with_its_reason() -> None:
    absent = {"win_rates": "no judge at all", "pass_at_k": "no verifier here"}
    bare = PolicyRecord(source="runs/x", drawn=[drawn(1)], absent=absent)
    page = read(render(policy_audit_page(audit_policies({"x": bare}, prompts=PROMPTS, resampling=FEW))))
    assert page.wrong == []
    for words in (
        "What has x learned?",
        "A policy, without a reference: 4 responses to each of 8 held-out prompts.",
        "Not measured: no judge at all.",
        "What was not measured, and why",
        "pass@k x no verifier here",
        "Trained by",
        "not known",
    ):
        assert words in page.words, words
    assert "Does it solve more problems?" not in page.words


def test_pairs_alone_have_a_page() -> None:
    only = PolicyRecord(source="runs/x", pairs=policy(1).pairs)
    page = read(render(policy_audit_page(audit_policies({"x": only}, resampling=FEW))))
    assert page.wrong == []
    assert "A policy, without a reference: 6 held-out pairs." in page.words
    assert "Are answers longer?" not in page.words


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match=r"schema trueup.offline_audit/1 is needed, got 'trueup.audit/1'"):
        policy_audit_page({"schema": "trueup.audit/1"})


@pytest.mark.parametrize("width", [880, 344])
def test_the_figure_of_pass_at_k_is_the_same_for_the_same_numbers_and_bears_gaps(width: int) -> None:
    nothing = Estimate(np.nan, np.nan, np.nan, 0)
    curves = {
        "a": Passing([1, 2, 4, 5], [Estimate(0.1, 0.05, 0.2, 9), nothing, Estimate(0.3, 0.2, 0.4, 9), nothing]),
        "b": Passing([1], [Estimate(1.0, 0.8, 1.0, 9)]),
    }
    first = passing(curves, width=width)
    assert first == passing(curves, width=width)
    assert "<svg" in first
    assert "nan" not in first.lower()
    assert "<svg" in passing({"a": Passing(list(range(1, 1025)), [Estimate(0.5, 0.4, 0.6, 3)] * 1024)}, width=width)
