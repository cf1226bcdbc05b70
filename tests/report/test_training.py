import json

from trueup.report.page import render
from trueup.report.training import curves_of, read_log, training_page

LOG = (
    {"step": 10, "loss": 0.7, "accuracy": 0.5, "reward_std": 1.0},
    {"step": 10, "eval_accuracy": 0.55},
    {"step": 20, "loss": 0.6, "accuracy": 0.6, "reward_std": 1.0},
)


def test_curves_hold_what_was_logged_and_when():
    curves = curves_of(LOG)
    assert list(curves["loss"].steps) == [10, 20]
    assert list(curves["loss"].values) == [0.7, 0.6]
    assert list(curves["accuracy on held-out pairs"].steps) == [10]
    assert "mean reward" not in curves


def test_the_page_shows_curves_and_last_values(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LOG))
    html = render(training_page("a run", read_log(path), facts={"seed": "0"}, recipe="model: x"))
    assert "<svg" in html
    assert "0.6" in html


def test_a_run_too_short_to_log_says_so():
    html = render(training_page("a run", ({"step": 1, "train_runtime": 1.0},), facts={}, recipe=""))
    assert "too short" in html
    assert "<svg" not in html
