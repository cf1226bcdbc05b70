import json

import numpy as np
import pytest

from trueup.data.watched import Watched
from trueup.errors import DataError, RecipeError
from trueup.measure.bootstrap import Resampling
from trueup.measure.policy_run import SCHEMA, RunRecord, audit_runs
from trueup.measure.policy_run_examples import examples
from trueup.measure.policy_run_verdict import headline, verdict

from .watched_runs import law_run, with_texts

D = np.linspace(0, 6, 11)
FEW = Resampling(resamples=200)


@pytest.fixture(scope="module")
def audit():
    over = with_texts(law_run(1.0, 0.6, d=D))
    fine = law_run(1.0, 0.1, d=D, seed=2)
    still = Watched(**{name: getattr(fine, name) for name in ("steps", "proxy", "gold", "kl")}, ended=fine.ended)
    bare = Watched(steps=fine.steps, proxy=fine.proxy[:, :1, :1])
    return audit_runs(
        {
            "over": RunRecord(watched=over, source="a", stopped={"step": 5, "rule": "KLBudget", "reason": "far"}),
            "fine": RunRecord(watched=still, source="b"),
            "log": RunRecord(
                watched=bare,
                source="c",
                training={"entropy": ([1, 2], [2.0, 0.5]), "equal_groups": ([1, 2], [0.0, 0.9])},
            ),
        },
        resampling=FEW,
        created_by={"recipe": "x"},
    )


def texts(result, level: str) -> str:
    return " | ".join(one["text"] for one in result["verdict"] if one["level"] == level)


def test_the_mapping_is_json_and_complete(audit) -> None:
    assert json.loads(json.dumps(audit, allow_nan=False)) == audit
    assert audit["schema"] == SCHEMA
    over = audit["runs"]["over"]
    assert (over["prompts"], over["samples"], len(over["steps"])) == (40, 4, 11)
    assert over["d"] == pytest.approx(D, abs=0.1)
    assert len(over["gold_gain"]) == 11
    assert over["gold_gain"][0] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 40}
    assert over["law"]["peak_d"]["value"] == pytest.approx(np.exp(1 / 0.6 - 1), rel=0.05)
    assert over["absent"] == {}
    assert set(over["drift"]) == {"repetition", "distinct_2", "similarity_to_start", "similarity_between_prompts"}
    assert over["best"]["step"] == 10 * int(np.argmax([one["value"] for one in over["gold"]]))


def test_an_over_optimised_run_is_called_so(audit) -> None:
    bad = texts(audit["runs"]["over"], "bad")
    assert "over-optimised: gold peaks near KL 3." in bad
    assert "below the initial policy's" in bad
    assert "answers to different prompts become alike" in bad
    watch = texts(audit["runs"]["over"], "watch")
    assert "responses grow longer: 20 tokens" in watch
    assert "repeat themselves" in watch
    assert "stopped at step 5: far" in texts(audit["runs"]["over"], "good")
    assert "gold peaks at KL 3." in headline(audit["runs"]["over"])


def test_a_run_that_still_rises_is_not(audit) -> None:
    fine = audit["runs"]["fine"]
    assert "still rising" in texts(fine, "good")
    assert texts(fine, "bad") == ""
    assert fine["drift"] == {}
    assert fine["examples"] is None
    assert fine["absent"]["examples"]


def test_a_bare_log_says_what_it_lacks(audit) -> None:
    log = audit["runs"]["log"]
    watch = texts(log, "watch")
    assert "gold was not watched" in watch
    assert "KL to the initial policy is not known" in watch
    assert "entropy falls from 2.00 to 0.50" in watch
    assert "90% of the last groups" in watch
    assert log["law"] is None
    assert "no gold is known" in log["absent"]["law"]
    assert log["proxy_gain"][-1]["low"] is None
    assert "no gold" in headline(log)


def test_kl_below_zero_is_called_impossible() -> None:
    watched = law_run(1.0, 0.6, d=D)
    watched.kl[1:] -= 50
    result = audit_runs({"x": RunRecord(watched=watched, source="s")}, resampling=FEW)["runs"]["x"]
    assert "mean KL is below 0 at step 10" in texts(result, "bad")
    healthy = law_run(1.0, 0.6, d=D)
    result = audit_runs({"x": RunRecord(watched=healthy, source="s")}, resampling=FEW)["runs"]["x"]
    assert "below 0" not in texts(result, "bad")


def test_the_worst_comes_first_and_a_saved_audit_is_judged_again(audit) -> None:
    for result in audit["runs"].values():
        levels = [one["level"] for one in result["verdict"]]
        assert levels == sorted(levels, key=("bad", "watch", "good").index)
        assert [tuple(one) for one in verdict(result)] == [(one["level"], one["text"]) for one in result["verdict"]]


def test_examples_show_where_gold_falls_most() -> None:
    watched = with_texts(law_run(1.0, 0.6, d=D))
    watched.gold[-1, 7, 0] -= 50
    watched.gold[-1, 3, 0] -= 20
    found = examples(watched, most=2)
    assert [one["prompt"] for one in found["prompts"]] == ["prompt 7", "prompt 3"]
    peak = int(np.argmax(watched.by_prompt("gold").mean(axis=1)))
    assert [one["step"] for one in found["prompts"][0]["choices"]] == [0, 10 * peak, 100]
    assert found["prompts"][0]["choices"][-1]["gold"] == pytest.approx(watched.gold[-1, 7, 0])
    without = Watched(steps=watched.steps, proxy=watched.proxy, prompts=watched.prompts, responses=watched.responses)
    gains = watched.proxy[-1, :, 0] - watched.proxy[0, :, 0]
    assert examples(without, most=1)["prompts"][0]["prompt"] == f"prompt {np.argmax(gains)}"


def test_nothing_to_audit() -> None:
    with pytest.raises(RecipeError, match="no run"):
        audit_runs({}, resampling=FEW)
    with pytest.raises(DataError, match="no watched step"):
        audit_runs({"x": RunRecord(watched=Watched(steps=np.zeros(0, np.int64)), source="s")}, resampling=FEW)
