"""The demo, small: the whole path from generated data to the page."""

import pytest

from trueup.cli import main
from trueup.errors import OutputError
from trueup.recipes.demo import Demo, demo, telling_numbers

TINY = ["--prompts", "48", "--held_out", "24", "--audit_rows", "24", "--epochs", "1", "--width", "32", "--layers", "1"]


def test_demo_makes_the_page_and_names_its_numbers(tmp_path, capsys):
    output = tmp_path / "demo"
    assert main(["demo", "--output", str(output), *TINY]) == 0
    told = capsys.readouterr().out
    assert str(output / "report.html") in told
    assert all(f"{number}." in told for number in (1, 2, 3))
    html = (output / "report.html").read_text(encoding="utf-8")
    assert "Two reward models" in html
    assert "writer: " in html
    for name in ("BT", "BSR"):
        assert (output / name / "model" / "model.safetensors").is_file()
    # A second start does not overwrite unless it is told to.
    assert main(["demo", "--output", str(output), *TINY]) == 2


def test_demo_refuses_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="not empty"):
        demo(Demo(output=tmp_path, overwrite=True))
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_telling_numbers_are_those_of_the_audit():
    estimate = {"value": 0.8}
    split = {"accuracy": estimate, "reward": {"std": {"value": 1.5}}}
    results = {"BT": {"in_domain": split, "mutual_disjoint": {**split, "accuracy": {"value": 0.6}}}}
    hacks = {"BT": {"repeat_all": {"win_rate": {"value": 0.7}}, "empty": {"win_rate": {"value": 0.1}}}}
    lines = telling_numbers(results, hacks)
    assert "BT 80% -> 60%" in lines[0]
    assert "repeat all in 70%" in lines[1]
    assert "BT 1.50" in lines[2]
