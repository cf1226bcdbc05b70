from pathlib import Path

import pytest

from trueup.errors import RecipeError
from trueup.recipes.places import fingerprint_of, named_places


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("runs/bt", {"bt": "runs/bt"}),
        ("runs/bt/", {"bt": "runs/bt/"}),
        ("owner/name", {"name": "owner/name"}),
        ("my.module:function", {"function": "my.module:function"}),
        ("http://host:8000/score?model=a", {"score": "http://host:8000/score?model=a"}),
        ("judge=http://host/v1?model=a", {"judge": "http://host/v1?model=a"}),
        (["a=x/m", "b=y/m"], {"a": "x/m", "b": "y/m"}),
        (["x/m", "x/m"], {"m": "x/m"}),
        ({"bt": "x"}, {"bt": "x"}),
        ([], {}),
    ],
)
def test_places_by_label(names: str | list[str] | dict[str, str], expected: dict[str, str]) -> None:
    assert named_places(names) == expected


@pytest.mark.parametrize("names", [["x/m", "y/m"], ["a/b=x"], {"a=b": "x"}, {"": "x"}])
def test_labels_that_say_nothing_are_refused(names: list[str] | dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="LABEL="):
        named_places(names)


def test_a_fingerprint_follows_the_files_and_not_the_place(tmp_path: Path) -> None:
    for name, weights in (("one", b"1" * 3_000_000), ("same", b"1" * 3_000_000), ("other", b"1" * 2_999_999 + b"2")):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "model.safetensors").write_bytes(weights)
        (tmp_path / name / "metrics.json").write_text(name)
    prints = {name: fingerprint_of(str(tmp_path / name)) for name in ("one", "same", "other")}
    assert prints["one"] == prints["same"] != prints["other"]
    assert fingerprint_of(str(tmp_path / "one" / "model")) == prints["one"]


def test_functions_and_settings_files_have_fingerprints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def f(): ...")
    (tmp_path / "judge.yaml").write_text("kind: judge")
    before = fingerprint_of("mine:f"), fingerprint_of("judge.yaml")
    assert None not in before
    (tmp_path / "mine.py").write_text("def f(): return 1")
    assert fingerprint_of("mine:f") != before[0]
    assert fingerprint_of("judge.yaml") == before[1]
    assert fingerprint_of("trueup.measure.repetition:repetition") is not None


@pytest.mark.parametrize("place", ["owner/name", "http://host/x", "no_such_module_here:f", "a..b:f"])
def test_what_is_elsewhere_has_none(place: str) -> None:
    assert fingerprint_of(place) is None
