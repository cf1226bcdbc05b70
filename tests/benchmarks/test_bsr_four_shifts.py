"""The pure parts of the four-shifts benchmark, and one tiny run of it."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import four_shifts_data as data
import four_shifts_encoder as encoder
import four_shifts_work as work
from four_shifts_claims import Evidence, all_findings, same
from four_shifts_page import page
from four_shifts_plan import METHODS, Plan, Run, lanes, make_plan
from four_shifts_run import execute, settings
from four_shifts_stats import Measure, Results, method_run, shrink_checks, shrinks, verdict

from trueup.data.pairs import pairs_of
from trueup.data.rows import Message, Origin, Response, Row
from trueup.measure.scored import Estimate

SOURCES = tuple(f"model-{k}" for k in range(12))


def made_rows(prompts: int) -> tuple[Row, ...]:
    """Prompts with 12 answers each; gold is the number of the word `good`, plus a little of its own."""
    draw = np.random.default_rng(0)
    rows = []
    for i in range(prompts):
        answers = []
        for k, source in enumerate(SOURCES):
            words = draw.choice(["good", "bad", "so", "well"], size=6)
            score = float((words == "good").sum()) + 0.01 * k
            answers.append(Response(text=" ".join((*words, f"{i}-{k}")), score=score, source=source))
        prompt = (Message("user", f"question {i}"),)
        rows.append(Row(prompt=prompt, responses=tuple(answers), id=str(i), origin=Origin("made", i + 1)))
    return tuple(rows)


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return made_rows(60)


def prompts(split: tuple[Row, ...]) -> set:
    return {row.prompt for row in split}


def test_splits_share_neither_prompts_nor_texts(rows):
    splits = data.five_splits(rows, data.Sample(seed=3))
    known, validation = prompts(splits["train"]), prompts(splits["validation"])
    assert known
    assert validation
    assert not known & validation
    assert prompts(splits["in_domain"]) <= known
    assert prompts(splits["response_disjoint"]) <= known
    for name in ("prompt_disjoint", "mutual_disjoint"):
        assert not prompts(splits[name]) & (known | validation)
    trained = {one.text for row in splits["train"] for one in row.responses}
    for name in data.TESTS:
        assert not trained & {one.text for row in splits[name] for one in row.responses}
    sources = {one.source for row in splits["train"] for one in row.responses}
    held_out = {one.source for row in splits["mutual_disjoint"] for one in row.responses}
    assert not sources & held_out
    assert len(held_out) == data.HELD_OUT_MODELS


def test_amounts_of_training_data(rows):
    whole = data.five_splits(rows, data.Sample(seed=1))["train"]
    half = data.five_splits(rows, data.Sample(seed=1, share=0.5))["train"]
    assert prompts(half) < prompts(whole)
    assert 0.25 * len(whole) < len(half) < 0.75 * len(whole)
    assert {len(pairs_of(row)) for row in whole} == {1}
    six = data.five_splits(rows, data.Sample(seed=1, responses=4))
    assert {len(pairs_of(row)) for row in six["train"]} == {6}
    assert {len(row.responses) for row in six["in_domain"]} == {4}


def test_noise_reverses_the_stated_share(rows):
    clean = data.five_splits(rows, data.Sample(seed=1))["train"]
    noisy = data.five_splits(rows, data.Sample(seed=1, noise=1.0))["train"]
    for before, after in zip(clean, noisy, strict=True):
        assert pairs_of(before)[0] == pairs_of(after)[0][::-1]


def test_longer_wins_counts_ties_as_half():
    def row(chosen: str, rejected: str) -> Row:
        answers = (Response(text=chosen, label=True), Response(text=rejected, label=False))
        return Row(prompt="p", responses=answers, id="x", origin=Origin("made", 1))

    assert data.longer_wins([row("long", "no"), row("no", "long"), row("same", "size")]) == 0.5


def test_keys_tell_runs_apart():
    assert Run().key == ""
    assert Run(method="bsr", coefficient=0.1, seed=2).key == "method=bsr,coefficient=0.1,seed=2"
    plan = make_plan(quick=False)
    assert len({run.key for run in plan.runs}) == len(plan.runs)


def test_lanes_hold_every_run_once_each():
    plan = make_plan(quick=False)
    for lane in lanes(plan):
        assert sorted(run.key for run in lane) == sorted(run.key for run in plan.runs)


def test_every_part_has_its_opponent():
    """Each BSR run is paired with BT under the same seed and condition."""
    runs = set(make_plan(quick=False).runs)
    for run in runs:
        if run.method == "bsr":
            fair = dataclasses.replace(run, method="bt", coefficient=0.0, reduction="official")
            assert fair in runs, run.key


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([4.0, 3.9, 3.0, 2.0, 1.0], True),
        ([4.0, 4.1, 3.0, 2.0, 1.0], True),
        ([4.0, 4.2, 3.0, 2.0, 1.0], False),
        ([4.0, 3.9, 3.8, 3.7, 3.6], False),
        ([4.0, 3.0, float("nan"), 2.0, 1.0], False),
    ],
)
def test_shrinks_with_one_seed(values, expected):
    assert shrinks([np.array([value]) for value in values]) is expected


def test_only_a_clear_rise_is_held_against_shrinking():
    first, last = np.full(4, 4.0), np.full(4, 1.0)
    unclear, clear = np.array([6.0, 2.5, 5.0, 3.5]), np.array([4.2, 4.3, 4.2, 4.3])
    assert shrinks([first, unclear, last])
    assert not shrinks([first, clear, last])


def test_verdicts():
    up, open_, down = Estimate(0.2, 0.1, 0.3, 5), Estimate(0.1, -0.1, 0.3, 5), Estimate(-0.2, -0.3, -0.1, 5)
    assert [verdict(one, claimed=1) for one in (up, open_, down)] == ["reproduced", "not at this scale", "contradicted"]
    assert [verdict(one, claimed=-1) for one in (up, open_, down)] == [
        "contradicted",
        "not at this scale",
        "reproduced",
    ]
    assert verdict(Estimate(1.0, np.nan, np.nan, 1), claimed=1) == "not measured"
    assert same(up, within=0.5) == "reproduced"
    assert same(up, within=0.01) == "contradicted (higher)"
    assert same(open_, within=0.01) == "not resolved"


def made_result(seed: int, spread: float) -> dict:
    tests = ("train", *data.TESTS)
    table = {
        split: {
            "tau": 0.1 * place, "accuracy": 0.5, "reward_std": spread, "reward_mean": -spread,
            "norm_mean": 2.0 + place, "norm_std": 0.5, "effective_rank": 10.0 - place,
        }
        for place, split in enumerate(tests)
    }  # fmt: skip
    swing = [100.0, 100.0, spread, -spread]
    record = {"epochs": {"0": {}, "8": table, "16": table}, "best": table, "best_epoch": 3 + seed, "seconds": 1.0}
    return record | {"validation_mean": swing, "validation_std": [abs(one) for one in swing]}


def test_measures_read_what_they_name():
    result = made_result(0, 4.0)
    assert Measure("tau").of(result) == pytest.approx(0.3)
    assert Measure("tau", ("in_domain",), "8").of(result) == pytest.approx(0.1)
    assert np.isnan(Measure("tau", ("in_domain",), "0").of(result))
    assert Measure("abs_mean", ("train",)).of(result) == 4.0
    assert Measure("norm_cv", ("train",)).of(result) == 0.25
    assert Measure("norm_shift", ("in_domain",)).of(result) == 2.0
    assert Measure("rank_change", ("mutual_disjoint",)).of(result) == 4.0
    assert Measure("best_epoch").of(result) == 3.0
    assert Measure("size_of_mean").of(result) == 4.0
    assert np.isnan(Measure("size_of_mean").of(result | {"validation_mean": []}))


def test_checks_fail_when_spread_does_not_shrink():
    runs = [method_run(Run(), name) for name in ("BT", "BSR 0.0001", "BSR 0.001", "BSR 0.01", "BSR 0.1")]
    plan = Plan({"decoder": tuple(runs), "minilm": ()}, {"decoder": 1})
    shrinking = {run.key: made_result(0, 4.0 / 2**place) for place, run in enumerate(runs)}
    level = {run.key: made_result(0, 4.0) for run in runs}
    assert all(check["passed"] for check in shrink_checks(Results(shrinking, plan.seeds), plan))
    assert not any(check["passed"] for check in shrink_checks(Results(level, plan.seeds), plan))


def test_stored_results_survive_a_cut_line(tmp_path):
    work.append(tmp_path / "results-0.jsonl", {"key": "a", "settings": "now"})
    work.append(tmp_path / "results-0.jsonl", {"key": "b", "settings": "before"})
    with open(tmp_path / "results-1.jsonl", "w") as handle:
        handle.write(json.dumps({"key": "c", "settings": "now"}) + '\n{"key": "d", "sett')
    assert sorted(work.read_results(tmp_path, "now")) == ["a", "c"]


def test_a_run_is_taken_once(tmp_path):
    (tmp_path / "claims").mkdir()
    assert work.claim(tmp_path, Run())
    assert not work.claim(tmp_path, Run())
    assert work.claim(tmp_path, Run(seed=1))


@pytest.fixture
def bert() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, num_labels=1
    )
    return BertForSequenceClassification(config).eval()


def test_frozen_part_and_top_layer_give_the_ordinary_value(bert):
    ids = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
    trunk = bert.bert
    with torch.no_grad():
        expected = trunk(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0]
        lower = encoder.Lower(trunk.embeddings, trunk.encoder.layer[:2])
        stored: dict = {}
        states = encoder.StoredStates(lower, stored)
        top = encoder.FirstTokenLayer(trunk.encoder.layer[2])
        seen = (ids != 0)[:, None, None, :]
        for _ in range(2):  # computed, then looked up
            actual = top(states(ids), seen)[:, 0]
            # The stored states are rounded to bfloat16, in steps of 2^-8.
            torch.testing.assert_close(actual, expected, atol=2e-2, rtol=0)
        exact = top(lower(ids, ids != 0), seen)[:, 0]
    assert len(stored) == 2
    torch.testing.assert_close(exact, expected, atol=1e-5, rtol=0)


def test_a_tiny_run_and_its_page(monkeypatch, tmp_path, rows):
    monkeypatch.setattr(data, "read", lambda name: rows)
    runs = (Run(epochs=2), Run(epochs=2, method="bsr", coefficient=1.0))
    plain, held = (execute(run, tmp_path) for run in runs)
    assert plain["settings"] == settings()
    assert len(plain["validation"]) == 3
    assert plain["best_epoch"] in (1, 2)
    again = execute(runs[0], tmp_path)
    spread = Measure("reward_std", ("train",))
    # Matrix products round differently with the alignment of memory, hence no equality.
    assert again["losses"][1:] == pytest.approx(plain["losses"][1:], rel=1e-4)
    assert spread.of(again) == pytest.approx(spread.of(plain), rel=1e-2)
    assert spread.of(held) < spread.of(plain)
    plan = Plan(
        {name: () for name in make_plan(quick=True).parts} | {"decoder": (Run(), Run(**METHODS["BSR 0.1"]))},
        {name: 1 for name in make_plan(quick=True).parts},
    )
    stored = {Run().key: plain, method_run(Run(), "BSR 0.1").key: held}
    evidence = Evidence(Results(stored, plan.seeds), plan)
    text = page(evidence, all_findings(evidence), {}, {"runs": 2, "minutes": 0, "checks": "none", "table": ""})
    assert "| BSR 0.1 |" in text
    assert "## Claim by claim" in text
    assert "nan" not in text
