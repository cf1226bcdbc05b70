import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.policy_audit import audit_policies
from trueup.measure.policy_audit_records import Drawn, Judged, PairScores, PolicyRecord

FEW = Resampling(resamples=20)
PROMPTS = [f"Fruit {i}?" for i in range(12)]


def drawn(seed: int, *, temperature: float = 1.0, samples: int = 4, word: str = "plum", **changes: Any) -> Drawn:
    rng = np.random.default_rng(seed)
    shape = (len(PROMPTS), samples)
    lengths = rng.integers(1, 6, shape)
    known = {
        "temperature": temperature,
        "texts": tuple(tuple(" ".join([word] * k + [str(rng.integers(9))]) for k in row) for row in lengths.tolist()),
        "tokens": lengths.astype(float) + 1,
        "finished": np.ones(shape),
        "logprob": -rng.random(shape) * 5,
        "correct": (rng.random(shape) < 0.4).astype(np.int64),
    }
    return Drawn(**known | changes)


def policy(seed: int = 1, **changes: Any) -> PolicyRecord:
    first = drawn(seed, reference_logprob=-5 - np.random.default_rng(seed).random((len(PROMPTS), 4)))
    rng = np.random.default_rng(seed + 10)
    forward = rng.random((len(PROMPTS), 4))
    judged = {"judge": Judged(forward=forward, backward=1 - forward)}
    return PolicyRecord(source="runs/x", trained="dpo", drawn=[first], judged=judged, **changes)


def reference() -> PolicyRecord:
    return PolicyRecord(source="base", drawn=[drawn(0)])


def audited(record: PolicyRecord, other: PolicyRecord | None = None) -> dict[str, Any]:
    pair = ("base", other or reference())
    return audit_policies({"x": record}, reference=pair, prompts=PROMPTS, resampling=FEW)["policies"]["x"]


def test_the_mapping_is_ready_for_json_and_the_same_each_time() -> None:
    first, again = (
        audit_policies({"x": policy()}, reference=("base", reference()), prompts=PROMPTS, resampling=FEW) for _ in "ab"
    )
    assert json.loads(json.dumps(first, allow_nan=False)) == again
    assert first["prompts"] == 12
    assert first["reference"]["pass_at_k"]["k"] == [1, 2, 4]
    assert set(first["lengths"]["counts"]) == {"base", "x"}
    assert sum(first["lengths"]["counts"]["x"]) == 48


def test_kl_is_the_mean_log_ratio_of_a_response_and_of_a_token() -> None:
    record = policy()
    one = record.drawn[0]
    ratio = one.logprob - one.reference_logprob
    found = audited(record)["kl"]
    assert found["response"]["value"] == pytest.approx(ratio.mean())
    assert found["token"]["value"] == pytest.approx(ratio.sum() / one.tokens.sum())
    assert found["response"]["low"] < ratio.mean() < found["response"]["high"]


def test_kl_and_entropy_are_those_at_temperature_1_wherever_it_stands() -> None:
    record = policy()
    cold = drawn(5, temperature=0.5, logprob=np.zeros((12, 4)))
    found = audited(replace(record, drawn=[cold, record.drawn[0]]))
    assert found["kl"] == audited(record)["kl"]
    assert found["entropy"] == audited(record)["entropy"]
    only = audited(replace(record, drawn=[cold]))
    assert only["kl"] is None
    assert "nothing was drawn at temperature 1" in only["absent"]["entropy"]


def test_win_rates_by_probability_and_by_decision() -> None:
    record = policy()
    forward = record.judged["judge"].forward
    found = audited(record)["win_rates"]["judge"]
    assert found["by"] == "probability"
    assert found["headline"]["value"] == pytest.approx(forward.mean())
    decided = {"judge": Judged(forward=forward, backward=1 - forward, decided=True)}
    found = audited(replace(record, judged=decided))["win_rates"]["judge"]
    assert found["headline"]["value"] == pytest.approx((forward > 0.5).mean())


def test_a_judge_of_length_alone_is_seen_through() -> None:
    """What wins by length wins nothing at equal length."""
    ours, theirs = drawn(1, word="apples"), drawn(2, word="fig")
    difference = np.array(
        [[len(a) - len(b) for a, b in zip(m, o, strict=True)] for m, o in zip(ours.texts, theirs.texts, strict=True)]
    )
    forward = expit(1.0 * difference)
    record = PolicyRecord(source="x", drawn=[ours], judged={"judge": Judged(forward=forward, backward=1 - forward)})
    found = audited(record, PolicyRecord(source="b", drawn=[theirs]))["win_rates"]["judge"]
    assert found["headline"]["value"] > 0.7
    assert found["length_controlled"]["plain"]["value"] == pytest.approx(found["headline"]["value"])
    assert abs(found["length_controlled"]["rate"]["value"] - 0.5) < 0.12


def test_fewer_comparisons_than_samples_take_the_first_ones() -> None:
    record = policy()
    forward = record.judged["judge"].forward[:, :1]
    fewer = audited(replace(record, judged={"judge": Judged(forward=forward, backward=1 - forward)}))
    assert fewer["win_rates"]["judge"]["comparisons"] == 12
    assert fewer["win_rates"]["judge"]["headline"]["value"] == pytest.approx(forward.mean())


def test_rewards_are_compared_prompt_by_prompt() -> None:
    table = np.random.default_rng(3).random((12, 4))
    base = replace(reference(), rewards={"r": table})
    found = audited(replace(policy(), rewards={"r": table + 2}), base)["rewards"]["r"]
    assert found["difference"]["value"] == pytest.approx(2)
    assert found["difference"]["low"] == pytest.approx(found["difference"]["high"])
    assert found["policy"]["value"] == pytest.approx(table.mean() + 2)


def test_lengths_against_the_reference() -> None:
    same = audited(replace(policy(), drawn=reference().drawn))["length_change"]
    assert same["characters"]["value"] == 0
    assert same["ratio"]["value"] == 1
    doubled = replace(reference().drawn[0], texts=tuple(tuple(t * 2 for t in g) for g in reference().drawn[0].texts))
    assert audited(replace(policy(), drawn=[doubled]))["length_change"]["ratio"]["value"] == pytest.approx(2)


def pairs(margin: float) -> PairScores:
    held = np.full(20, -4.0)
    moved = np.tile([margin, 0.0], 10)
    return PairScores(
        reward=0.5 * moved, policy=held + moved, reference=held, prompt=np.repeat(np.arange(10), 2),
        pairs=np.arange(20).reshape(10, 2), length=np.tile([5, 7], 10), formula="half",
    )  # fmt: skip


def test_the_implicit_reward_is_the_one_that_is_given() -> None:
    found = audited(replace(policy(), pairs=pairs(1.0)))["implicit_reward"]
    assert found["accuracy"]["value"] == 1
    assert found["margin"]["value"] == pytest.approx(0.5)
    assert found["chosen"]["value"] == pytest.approx(1.0)
    assert found["length"]["longer_wins"]["value"] == 0
    assert audited(replace(policy(), pairs=pairs(-1.0)))["implicit_reward"]["accuracy"]["value"] == 0


def test_what_is_missing_keeps_its_reason() -> None:
    bare = PolicyRecord(source="x", absent={"kl": "because"})
    found = audit_policies({"x": bare}, resampling=FEW)
    result = found["policies"]["x"]
    assert result["absent"]["kl"] == "because"
    assert "no responses were drawn" in result["absent"]["samples"]
    assert "nothing judged" in result["absent"]["win_rates"]
    assert "no held-out pairs" in result["absent"]["implicit_reward"]
    assert (found["reference"], found["examples"], found["lengths"]) == (None, None, None)
    assert result["verdict"] == []


def test_examples_are_drawn_by_the_seed_and_not_picked() -> None:
    def shown(seed: int) -> list[str]:
        resampling = Resampling(resamples=5, seed=seed)
        whole = audit_policies({"x": policy()}, reference=("b", reference()), prompts=PROMPTS, resampling=resampling)
        assert [one["name"] for one in whole["examples"]["prompts"][0]["responses"]] == ["b", "x"]
        first = whole["examples"]["prompts"][0]
        place = PROMPTS.index(first["prompt"])
        assert first["responses"][1]["text"] == policy().drawn[0].texts[place][0]
        assert first["responses"][1]["wins"]["judge"] == pytest.approx(policy().judged["judge"].forward[place, 0])
        return [one["prompt"] for one in whole["examples"]["prompts"]]

    assert shown(0) == shown(0)
    assert len({tuple(shown(seed)) for seed in range(6)}) > 3


def test_what_cannot_be_audited() -> None:
    with pytest.raises(RecipeError, match="no policy is named"):
        audit_policies({}, resampling=FEW)
    with pytest.raises(RecipeError, match="have one name"):
        audit_policies({"x": policy()}, reference=("x", reference()), resampling=FEW)
    with pytest.raises(DataError, match="equally many"):
        drawn(0, texts=(("a",),) * 12)
