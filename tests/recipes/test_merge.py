"""`trueup merge` as it is typed: results, records, and what is refused with exit code 2."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trueup.cli import main
from trueup.errors import RecipeError
from trueup.recipes.merge import MergeEma, MergeLiti, MergeSlerp, MergeSoup, merge_soup

TENSORS = ("model.layers.0.a.weight", "model.layers.0.b.weight", "model.norm.weight")


def model(folder: Path, *values: float) -> Path:
    """A folder with three tensors of two numbers, and next to nothing besides."""
    folder.mkdir()
    pairs = torch.tensor(values, dtype=torch.float64).reshape(3, 2)
    save_file(dict(zip(TENSORS, (row.clone() for row in pairs), strict=True)), folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model(tmp_path / "base", 1, 1, 1, 1, 1, 1)
    model(tmp_path / "a", 3, 1, 1, 1, 2, 1)
    model(tmp_path / "b", 1, 1, 3, 1, 3, 1)
    model(tmp_path / "c", 1, 1, 1, 7, 1, 4)
    return tmp_path


def values(folder: Path) -> list[float]:
    weights = load_file(folder / "model.safetensors")
    return [number for name in TENSORS for number in weights[name].tolist()]


ROOT = 2**0.5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("soup a b", [2, 1, 2, 1, 2.5, 1]),
        ("soup a b c", [5 / 3, 1, 5 / 3, 3, 2, 2]),
        ("soup a b c --weights [1,0,3]", [1.5, 1, 1, 5.5, 1.25, 3.25]),
        ("soup a b --weights 3 --weights 1", [2.5, 1, 1.5, 1, 2.25, 1]),
        ("slerp a b --base base", [1 + ROOT, 1, 1 + ROOT, 1, 2.5, 1]),  # one layer at right angles, a norm in line
        ("slerp a b --base base --share 0", [3, 1, 1, 1, 2, 1]),
        ("slerp a b --base base --share 1", [1, 1, 3, 1, 3, 1]),
        ("slerp a b --base base --groups tensor", [2, 1, 2, 1, 2.5, 1]),  # no tensor moves in both models
        ("liti base a --eta 0", [1, 1, 1, 1, 1, 1]),
        ("liti base a --eta 1", [3, 1, 1, 1, 2, 1]),
        ("liti base a", [1.6, 1, 1, 1, 1.3, 1]),
        ("liti base a --eta 2", [5, 1, 1, 1, 3, 1]),
        ("ema base a b --decay 0.5", [1.5, 1, 2, 1, 2.25, 1]),
        ("ema base a b --decay 0", [1, 1, 3, 1, 3, 1]),
        ("ema base a b --decay 1", [1, 1, 1, 1, 1, 1]),
    ],
)
def test_results_by_hand(place: Path, words: str, expected: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", *words.split(), "--output", "runs/out"]) == 0
    assert values(place / "runs" / "out") == pytest.approx(expected, abs=1e-14)
    count = len([word for word in words.partition(" --weights")[0].split() if word in ("a", "b", "c", "base")])
    assert f"{count} models merged (3 tensors, 6 parameters): runs/out" in capsys.readouterr().out


def test_what_is_recorded(place: Path) -> None:
    assert main(["merge", "slerp", "a", "b", "--base", "base", "--output", "out"]) == 0
    record = json.loads((place / "out" / "merge.json").read_text())
    assert record["method"] == "slerp"
    assert record["settings"] == {"share": None, "groups": "layer", "dtype": None}
    assert [entry["model"] for entry in record["models"]] == ["base", "a", "b"]
    assert len({entry["fingerprint"] for entry in record["models"]}) == 3
    assert record["shares"][TENSORS[0]] == record["shares"][TENSORS[1]] == pytest.approx([1 - ROOT, ROOT / 2, ROOT / 2])
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0] or record["versions"]["torch"]


def test_a_type_for_the_result(place: Path) -> None:
    assert main(["merge", "soup", "a", "b", "--output", "out", "--dtype", "bfloat16"]) == 0
    weights = load_file(place / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert json.loads((place / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_run_directory_stands_for_its_model(place: Path) -> None:
    (place / "run").mkdir()
    (place / "a").rename(place / "run" / "model")
    assert main(["merge", "soup", "run", "b", "--output", "out"]) == 0
    assert values(place / "out") == [2, 1, 2, 1, 2.5, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("soup a --output out", "a merge needs two models or more, got 1"),
        ("soup --output out", "field `models` is missing"),
        ("soup a b --output out --weights [1]", "weights must be one for each of 2 models, got 1"),
        ("soup a b --output out --weights [1,-1]", "weights must be at least 0, finite and not all 0"),
        ("soup a b --output out --weights [0,0]", "weights must be at least 0, finite and not all 0"),
        ("soup a b --output out --weights [.nan,1]", "weights must be at least 0, finite and not all 0"),
        ("soup a b --output out --base c", "unknown field `--base`"),
        ("slerp a b --output out", "field `base` is missing"),
        ("slerp a b c --base base --output out --share 0.5", "share belongs to two models, got 3"),
        ("slerp a b --base base --output out --share 2", "share must be in [0, 1], got 2"),
        ("slerp a b --base base --output out --groups model", "field `groups`"),
        ("liti a b c --output out", "two models are needed, the start and the end, got 3"),
        ("liti a b --output out --eta .inf", "eta must be finite"),
        ("ema a b --output out", "field `decay` is missing"),
        ("ema a b --output out --decay 1.5", "decay must be in [0, 1], got 1.5"),
        ("soup a nowhere --output out", "nowhere: is no folder"),
        ("soup a /no/where --output out", "there is no such folder"),
        ("soup a b --output a", "a: holds the model a that is to be merged"),
        ("soup a b --output . --overwrite", "holds the model a that is to be merged"),
        (
            "soup a b --output c --overwrite",
            "c: is not empty; choose another --output, or --overwrite an",
        ),
        ("soup a b --output a/config.json", "is a file"),
        ("soup a b --output out --dtype int8", "field `dtype`"),
        ("blend a b --output out", "unknown command 'merge blend'"),
    ],
)
def test_what_is_refused(place: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.rglob("*"))
    assert main(["merge", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


def test_only_an_earlier_merge_is_replaced_and_only_when_asked(place: Path) -> None:
    words = "--output out --weights"
    assert main(f"merge soup a b {words} [1,0]".split()) == 0
    assert main(f"merge soup a b {words} [0,1]".split()) == 2
    assert values(place / "out") == values(place / "a")
    assert main(f"merge soup a b {words} [0,1] --overwrite".split()) == 0
    assert values(place / "out") == values(place / "b")
    assert main(["merge", "liti", "a", "out", "--output", "out", "--overwrite"]) == 2


def test_leftovers_of_a_killed_merge_are_removed(place: Path) -> None:
    (place / ".out.partial").mkdir()
    (place / ".out.partial" / "model.safetensors").write_bytes(b"half")
    assert main(["merge", "soup", "a", "b", "--output", "out"]) == 0
    assert not (place / ".out.partial").exists()


def test_in_python(place: Path) -> None:
    merged = merge_soup(MergeSoup(models=["a", "b"], output=place / "out"))
    assert (merged.tensors, merged.parameters, merged.models) == (3, 6, 2)
    with pytest.raises(RecipeError, match="two models or more"):
        MergeSlerp(models=["a"], base="base", output=place / "x")
    with pytest.raises(RecipeError, match="decay"):
        MergeEma(models=["a", "b"], decay=-1, output=place / "x")
    with pytest.raises(RecipeError, match="two models"):
        MergeLiti(models=["a"], output=place / "x")
