"""The demo, small: the whole path from generated data to the page."""

import pytest

from trueup.cli import main
from trueup.errors import OutputError
from trueup.recipes.demo import Demo, demo, telling_numbers

TINY = {
    "policy_prompts": 120,
    "policy_epochs": 1,
    "prompts": 48,
    "held_out": 24,
    "audit_rows": 24,
    "epochs": 1,
    "width": 32,
    "layers": 1,
    "members": 2,
    "pool_prompts": 4,
    "samples": 8,
    "threads": 1,
}


def test_demo_makes_the_page_and_names_its_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "demo"
    words = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    assert main(["demo", "--output", str(output), *words]) == 0
    told = capsys.readouterr().out
    assert str(output / "report.html") in told
    assert all(f"{number}." in told for number in (1, 2, 3))
    html = (output / "report.html").read_text(encoding="utf-8")
    for words_of_the_page in (
        "optimised against a reward model",
        "writer: ",
        "gold prefers",
        "What does the policy say?",
    ):
        assert words_of_the_page in html
    for name in ("BT", "BSR", "ensemble"):
        assert (output / name / "model" / "model.safetensors").is_file()
    # A second start does not overwrite unless it is told to.
    assert main(["demo", "--output", str(output), *words]) == 2


def test_demo_refuses_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="not empty"):
        demo(Demo(output=tmp_path, overwrite=True))
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_telling_numbers_are_those_of_the_measurements():
    estimate = {"value": 0.8}
    split = {"accuracy": estimate}
    results = {"BT": {"in_domain": split, "mutual_disjoint": {"accuracy": {"value": 0.6}}}}
    hacks = {"BT": {"repeat_all": {"win_rate": {"value": 0.7}}, "empty": {"win_rate": {"value": 0.1}}}}
    gains = [{"value": value} for value in (0.0, 0.5, -0.25)]
    optimized = {"n": [1, 8, 64], "results": {"BT": {"gold_gain": gains}}}
    lines = telling_numbers(optimized, {"results": results, "hacks": hacks})
    assert "BT +0.50 at best, -0.25 at n = 64" in lines[0]
    assert "BT 80% -> 60%" in lines[1]
    assert "repeat all in 70%" in lines[2]
