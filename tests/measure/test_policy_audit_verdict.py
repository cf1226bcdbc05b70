from typing import Any

import pytest

from trueup.measure.policy_audit_verdict import headline, verdict


def est(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": value - 0.02 if low is None else low, "high": value + 0.02 if high is None else high}


Json = dict[str, Any]


def judged(rate: Json, controlled: Json, *, excess: float = 0.0, bias: float = 0.0) -> Json:
    consistency = {"excess": est(excess), "position_bias": est(bias), "reversals": est(0.2)}
    found = {"headline": rate, "length_controlled": {"rate": controlled}, "consistency": consistency}
    return {"win_rates": {"j": found}}


def implicit(accuracy: float, *, less_likely: float = 0.2) -> Json:
    return {"implicit_reward": {"accuracy": est(accuracy), "chosen_less_likely": est(less_likely)}}


def told(result: dict[str, Any], reference: dict[str, Any] | None = None, prompts: int = 100) -> list[tuple[str, str]]:
    return [(one.level, one.text) for one in verdict(result, reference, prompts=prompts)]


@pytest.mark.parametrize(
    ("rate", "controlled", "level", "words"),
    [
        (est(0.4), est(0.4), "bad", "loses to the reference by j"),
        (est(0.5), est(0.5), "watch", "cannot be told from the reference"),
        (est(0.6), est(0.5), "watch", "length may explain it"),
        (est(0.6), est(0.6), "good", "preferred to the reference in 60%"),
        (est(0.6), {"value": None, "low": None, "high": None}, "good", "preferred to the reference in 60%"),
    ],
)
def test_win_rates(rate, controlled, level, words) -> None:
    [(found, text)] = told(judged(rate, controlled))
    assert found == level
    assert words in text


def test_a_judge_that_contradicts_itself() -> None:
    [(level, text), _] = told(judged(est(0.6), est(0.6), excess=0.3, bias=-0.3))
    assert level == "watch"
    assert "changes by 30 points on average and 20% change sides; it leans to what stands second" in text
    assert len(told(judged(est(0.6), est(0.6), excess=0.05))) == 1


def look(*, ended: float = 1.0, bleu: float = 0.3) -> list[dict[str, Any]]:
    return [{"finished": est(ended), "diversity": {"self_bleu": est(bleu)}}]


@pytest.mark.parametrize(
    ("result", "reference", "level", "words"),
    [
        ({"kl": {"response": est(-1.0)}}, None, "bad", "mean KL is below 0"),
        ({"length_change": {"ratio": est(1.6)}}, None, "watch", "1.6 times as long"),
        ({"length_change": {"ratio": est(0.5)}}, None, "watch", "50% of the length"),
        ({"samples": look(ended=0.5)}, None, "watch", "50% of the responses were cut"),
        ({"samples": look(bleu=0.6)}, {"samples": look()}, "watch", "says more of the same"),
        ({"entropy": {"token": est(0.4)}}, {"entropy": {"token": est(1.0)}}, "watch", "explores less"),
        (
            implicit(0.3),
            None,
            "bad",
            "the worse response",
        ),
        (implicit(0.5), None, "watch", "from guessing"),
        (implicit(0.7), None, "good", "orders 70%"),
    ],
)
def test_each_rule_speaks_alone(result, reference, level, words) -> None:
    [(found, text)] = told(result, reference)
    assert found == level
    assert words in text


def test_quiet_where_nothing_is_sure() -> None:
    result = {
        "kl": {"response": est(0.0, -0.1, 0.1)}, "length_change": {"ratio": est(1.3, 1.0, 1.6)},
        "samples": look(bleu=0.31), "entropy": {"token": est(0.9)},
    }  # fmt: skip
    assert told(result, {"samples": look(), "entropy": {"token": est(1.0)}}) == []


def test_chosen_responses_that_became_less_likely() -> None:
    found = told(implicit(0.7, less_likely=0.8))
    assert [level for level, _ in found] == ["watch", "good"]
    assert "became less likely in 80%" in found[0][1]


def test_pass_at_k_at_both_ends() -> None:
    change = [est(0.1), est(0.0), est(-0.2)]
    found = told({"pass_at_k": {"k": [1, 2, 4], "difference": change}})
    assert [level for level, _ in found] == ["bad", "good"]
    assert (
        "solves less than the reference in 4 tries: -20 points (-22 to -18); its answers have become narrower"
        in found[0][1]
    )
    assert "solves more than the reference in one try" in found[1][1]
    assert told({"pass_at_k": {"k": [1, 2, 4], "difference": None}}) == []


def test_few_prompts() -> None:
    assert told({}, prompts=5) == [("watch", "only 5 prompts: intervals are wide and may be too narrow still")]
    assert told({}, prompts=0) == []


def test_headline() -> None:
    result = {
        **judged(est(0.6), est(0.6)), "kl": {"response": est(1.5)}, "implicit_reward": {"accuracy": est(0.7)},
        "pass_at_k": {"temperatures": [{"rate": [est(0.25)]}]},
    }  # fmt: skip
    assert headline(result) == (
        "wins 60% (58-62%) against the reference by j; KL 1.50 nats; pass@1 25% (23-27%); implicit reward right in 70% "
        "(68-72%) of pairs"
    )
    assert headline({}) == "nothing beside its responses was measured"
