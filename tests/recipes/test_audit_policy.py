import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from trueup.cli import main
from trueup.data.watched import WatchedPoint, write_points
from trueup.errors import DataError, RecipeError
from trueup.recipes.audit_policy import AuditPolicy, audit_policy, read_run

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measure.watched_runs import law_run, with_texts

D = np.linspace(0, 5, 7)


def run_folder(folder: Path, *, beta: float = 0.6, seed: int = 0) -> Path:
    watched = with_texts(law_run(1.0, beta, d=D, prompts=10, samples=2, seed=seed))
    table = {name: getattr(watched, name).tolist() for name in ("proxy", "gold", "kl", "tokens", "ended")}
    points = [
        WatchedPoint(
            step=int(step), prompts=watched.prompts, responses=watched.responses[k],
            **{name: tuple(map(tuple, values[k])) for name, values in table.items()},
        )
        for k, step in enumerate(watched.steps)
    ]  # fmt: skip
    folder.mkdir(parents=True)
    write_points(folder / "watch.jsonl", points)
    lines = [{"step": k, "reward": 0.1 * k, "kl": 0.2 * k, "entropy": 2.0} for k in range(1, 50)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.yaml").write_text("model: m\n")
    (folder / "stopped.json").write_text('{"step": 60, "rule": "KLBudget", "reason": "far enough"}')
    assert len(asdict(points[0])["proxy"]) == 10
    return folder


def test_several_runs_in_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run_folder(tmp_path / "a" / "run"), run_folder(tmp_path / "fine", beta=0.05, seed=1)
    log = tmp_path / "verl.jsonl"
    record = {"critic/score/mean": 1.0, "actor/kl_loss": 0.1, "response_length/mean": 20.0}
    log.write_text("".join(json.dumps({"step": k, "data": record}) + "\n" for k in range(5)))
    words = ["audit", "policy", f"over={first}", str(second), str(log), "--resamples", "100"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "over: step 60, KL 24.87 nats" in told
    assert "- over-optimised: gold peaks near KL" in told
    assert "+ it was stopped at step 60: far enough" in told
    assert "verl.jsonl: step 4, KL 2.00 nats: no gold" in told
    assert f"report: {tmp_path / 'out' / 'report.html'}" in told
    audit = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert list(audit["runs"]) == ["over", "fine", "verl.jsonl"]
    assert audit["runs"]["over"]["training"]["entropy"]["values"][0] == 2.0
    assert audit["runs"]["verl.jsonl"]["notes"][0] == "Read as a log of verl"
    assert "Did each of these 3 runs go too far?" in (tmp_path / "out" / "report.html").read_text()
    assert main([*words, "--output", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "audit.json").read_text())
    assert again["runs"] == audit["runs"]


def test_a_run_that_was_not_watched_is_read_from_its_training_log(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    (folder / "watch.jsonl").unlink()
    record = read_run(folder)
    assert record.watched.mean_kl[-1] == pytest.approx(0.2 * 49)
    assert "Nothing was watched" in record.notes[0]
    assert record.training["proxy"][1][0] == pytest.approx(0.1)


def test_a_file_of_the_run_names_the_run(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "mine")
    recipe = AuditPolicy(runs=[str(folder / "watch.jsonl")], output=tmp_path / "out", resamples=50)
    assert list(audit_policy(recipe).audit["runs"]) == ["mine"]


def test_what_cannot_be_audited(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        audit_policy(AuditPolicy(runs=[str(tmp_path / "nothing")], output=tmp_path / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no log in this folder"):
        audit_policy(AuditPolicy(runs=[str(tmp_path / "empty")], output=tmp_path / "out"))
    a, b = run_folder(tmp_path / "a" / "run"), run_folder(tmp_path / "b" / "run")
    with pytest.raises(RecipeError, match="both called 'run'"):
        audit_policy(AuditPolicy(runs=[str(a), str(b)], output=tmp_path / "out"))
    (a / "stopped.json").write_text("{")
    with pytest.raises(DataError, match=r"stopped.json: is not JSON"):
        read_run(a)
    (b / "watch.jsonl").write_text("")
    with pytest.raises(DataError, match="no watched step"):
        audit_policy(AuditPolicy(runs=[str(b)], output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    for wrong, fragment in (
        ({"runs": []}, "no run is named"),
        ({"runs": ["r"], "dialect": "x"}, "dialect must be"),
        ({"runs": ["r"], "level": 2.0}, "level must lie"),
        ({"runs": ["r"], "resamples": 0}, "resamples must be"),
    ):
        with pytest.raises(RecipeError, match=fragment):
            AuditPolicy(**wrong)
