import json
from pathlib import Path

import pytest
import yaml

from trueup.errors import CheckpointError, DataError, RecipeError
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.h_dpo import HDPO
from trueup.objectives.preference.inpo import INPO
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.recipes.offline_policies import Made, in_words, made, name_of, reference_of, same_place
from trueup.recipes.run_recipe import read_recipe, refuse_unmeasured


def finished(folder: Path, recipe: dict, *, side: dict | None = None) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    if side is not None:
        form = {"kind": "plain", "special_tokens": True, "append_eos": True}
        (folder / "model" / "trueup.json").write_text(json.dumps({"recipe": side, "text_format": form}))
    return folder


RECIPE = {"model": "base", "method": {"name": "dpo", "beta": 0.3}, "data": {"train": "t.jsonl"}}


def test_a_run_is_known_by_its_recipe_and_its_model_by_its_side_file(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", RECIPE)
    for place in (run, run / "model"):
        found = made("x", str(place))
        assert found.objective == DPO(beta=0.3)
        assert found.trained == "dpo (beta 0.3)"
        assert found.start == "base"
    sided = finished(tmp_path / "sided", RECIPE, side=RECIPE | {"method": {"name": "inpo", "eta": 0.1}})
    moved = (sided / "model").rename(tmp_path / "moved")
    assert made("x", str(moved)).objective == INPO(eta=0.1)
    assert made("x", "org/name") == Made(name="x", place="org/name")


def test_the_start_is_what_it_was_held_against_or_began_from() -> None:
    assert Made(name="x", place="x", recipe=RECIPE | {"reference": "held"}).start == "held"
    assert Made(name="x", place="x", recipe=RECIPE | {"from_scratch": True}).start is None
    assert Made(name="x", place="x").start is None


def test_methods_of_another_kind_imply_no_reward() -> None:
    for method in ({"name": "sft"}, "rloo", None):
        assert Made(name="x", place="x", recipe={"method": method}).objective is None
    assert Made(name="x", place="x", recipe={"method": "dpo"}).objective == DPO()
    with pytest.raises(RecipeError, match="does not fit the method dpo"):
        _ = Made(name="x", place="p", recipe={"method": {"name": "dpo", "gamma": 1}}).objective


def test_of_a_run_in_rounds_the_last_one_is_meant(tmp_path: Path) -> None:
    run = tmp_path / "inpo"
    run.mkdir()
    (run / "recipe.yaml").write_text(yaml.safe_dump({"rounds": 11, "oracle": "o"}))
    for number in (1, 2, 10):
        finished(run / f"round-{number}", RECIPE | {"model": f"round {number - 1}"})
    (run / "round-11").mkdir()
    found = made("x", str(run))
    assert found.place == str(run / "round-10")
    assert found.recipe["model"] == "round 9"
    assert found.earlier == tuple(run / f"round-{number}" / "pairs.jsonl" for number in (1, 2))
    assert made("x", str(run / "round-1" / "model")).earlier == ()


def test_damaged_and_unfinished_runs(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("model: m")
    with pytest.raises(CheckpointError, match="no finished model"):
        made("x", str(tmp_path / "begun"))
    run = finished(tmp_path / "run", RECIPE)
    (run / "recipe.yaml").write_text("{")
    with pytest.raises(CheckpointError, match="no recipe that can be read"):
        made("x", str(run))
    (run / "recipe.yaml").write_text("- a")
    assert read_recipe(run / "recipe.yaml") == {}


def test_the_reference_is_what_is_stated_or_what_all_say(tmp_path: Path) -> None:
    a, b = (Made(name=name, place=name, recipe=RECIPE) for name in "ab")
    assert reference_of({"a": a, "b": b}, stated=None) == Made(name="base", place="base")
    assert reference_of({"a": a}, stated="mine=org/other") == Made(name="mine", place="org/other")
    assert reference_of({"x": Made(name="x", place="x")}, stated=None) is None
    with pytest.raises(RecipeError, match="both called 'a'"):
        reference_of({"a": a}, stated="a=org/other")
    assert reference_of({"base": a}, stated=None).name == "reference"
    other = Made(name="c", place="c", recipe=RECIPE | {"model": "elsewhere"})
    with pytest.raises(RecipeError, match=r"come from different places \(a from base, c from elsewhere\)"):
        reference_of({"a": a, "c": other}, stated=None)
    gone = Made(name="g", place="g", recipe=RECIPE | {"model": str(tmp_path / "gone")})
    with pytest.raises(RecipeError, match="gone, which is not there; name it as --reference"):
        reference_of({"g": gone}, stated=None)


def test_names(tmp_path: Path) -> None:
    assert name_of("runs/dpo/model") == "dpo"
    assert name_of("runs/dpo") == "dpo"
    assert name_of("package.module:function") == "function"
    run = finished(tmp_path / "run", RECIPE)
    assert same_place(str(run), str(run / "model"))
    assert not same_place(str(run), "org/name")


def test_what_has_no_record_is_refused_and_what_has_one_is_not(tmp_path: Path) -> None:
    for name, recipe in (("dpo", RECIPE), ("inpo", {"rounds": 2, "oracle": "o", "samples": 8})):
        with pytest.raises(DataError, match="without a record of its own samples; name held-out --prompts"):
            refuse_unmeasured(finished(tmp_path / name, recipe))
    refuse_unmeasured(finished(tmp_path / "rloo", {"method": {"name": "rloo"}, "samples": 4, "reward": "r"}))
    refuse_unmeasured(tmp_path / "nothing")


def test_methods_in_words() -> None:
    assert in_words("h_dpo", HDPO(beta=0.1, alpha=0.9)) == "h_dpo (beta 0.1, alpha 0.9)"
    assert in_words("inpo", INPO()) == "inpo (eta 0.005)"
    assert in_words("sft", NegativeLogLikelihood()) == "sft"
