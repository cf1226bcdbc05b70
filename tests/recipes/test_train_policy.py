"""`trueup train policy` from the command line: what a run leaves behind, its settings, and what it refuses."""

import json
import re
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM

import trueup
from run_files import logged, same, tensors
from small_policy_runs import LENGTH, ROOT, prompts
from trueup.anchors import ExponentialAverage
from trueup.cli import main
from trueup.measure.stopping import AlarmFired, GoldPeaked, KLBudget, LawPeakPassed
from trueup.objectives import POLICY_OBJECTIVES, POLICY_REGULARIZERS, Tsallis
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.policies.model import load_model_policy
from trueup.recipes.config import dump, load
from trueup.recipes.policy_settings import TrainPolicy, WatchRecipe
from trueup.recipes.train_policy import train_policy


def test_what_a_run_leaves_behind(done):
    names = {path.name for path in done.iterdir()}
    assert names >= {"model", "recipe.yaml", "metrics.jsonl", "report.html", "dropped-train.jsonl", "watch.jsonl"}
    assert not [name for name in names if "partial" in name or name == "stopped.json"]
    (dropped,) = map(json.loads, (done / "dropped-train.jsonl").read_text().splitlines())
    assert (dropped["reason"], dropped["row"].rpartition(":")[2]) == ("too long", "21")
    assert "train.jsonl (20 prompts" in (done / "report.html").read_text()
    side = json.loads((done / "model" / "trueup.json").read_text())
    assert side["data"]["rows"] == 20


def test_two_passes_over_twenty_prompts_are_ten_steps_and_a_checkpoint_each(done):
    assert [path.name for path in sorted(done.glob("checkpoint-*"))] == ["checkpoint-10", "checkpoint-5"]
    assert len(logged(done, "reward")) == 10


def test_it_learns_and_what_it_was_not_told_falls(done):
    looks = [json.loads(line) for line in (done / "watch.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == [0, 5, 10]
    proxy, gold = logged(done, "watch/proxy"), logged(done, "watch/gold")
    assert proxy[-1] > proxy[0] + 1
    assert gold == pytest.approx([-value for value in proxy])
    assert logged(done, "watch/kl")[0] == pytest.approx(0.0, abs=1e-4)
    assert logged(done, "watch/kl")[-1] > 0.1
    assert json.loads((done / "best.json").read_text())["step"] == 0


def test_the_finished_model_is_one_for_plain_transformers(done):
    model, info = AutoModelForCausalLM.from_pretrained(done / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    policy = load_model_policy(str(done), max_new_tokens=4, device="cpu")
    assert policy.sample(["Fruit 3:"], 2, seed=0)[0][0].tokens <= 4
    assert model.config.model_type == "llama"


def test_the_recipe_of_a_run_makes_it_again(done, tmp_path):
    assert main(["train", "policy", "--config", str(done / "recipe.yaml"), "--output", str(tmp_path / "again")]) == 0
    assert same(tensors(tmp_path / "again"), tensors(done))


def test_an_earlier_run_is_not_written_over(done, capsys):
    assert main(["train", "policy", "--config", str(done / "recipe.yaml")]) == 2
    assert f"trueup: {done}: holds an earlier run; add --resume to go on" in capsys.readouterr().err


# On paper


MINIMAL = ["--model", "m", "--output", "o", "--data.train", "d", "--reward", "r"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("[{name: entropy, coefficient: 0.01}, tsallis]", [EntropyBonus(coefficient=0.01), Tsallis()]),
        ("entropy", [EntropyBonus()]),
        ("{name: entropy, coefficient: 0.5}", [EntropyBonus(coefficient=0.5)]),
        ("none", []),
        ("[]", []),
    ],
)
def test_terms_are_a_list_of_choices(words, expected, tmp_path, capsys):
    found = load(TrainPolicy, overrides=[*MINIMAL, "--regularizers", words])
    assert found.regularizers == expected
    assert found.terms == (found.method, *expected)
    assert main(["train", "policy", *MINIMAL, "--regularizers", words, "--print_config"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "r.yaml").write_text(printed)
    again = load(TrainPolicy, config=tmp_path / "r.yaml")
    assert again == found
    assert dump(again) == printed


def test_terms_may_be_named_one_by_one():
    found = load(TrainPolicy, overrides=[*MINIMAL, "--regularizers", "entropy", "--regularizers", "tsallis"])
    assert found.regularizers == [EntropyBonus(), Tsallis()]


@pytest.mark.parametrize("name", POLICY_OBJECTIVES)
def test_a_method_survives_the_file(name, tmp_path):
    values = ["--regularizers", "value_loss"] if name == "ppo" else []
    words = [
        *values,
        "--method",
        name,
        "--anchor",
        "ema",
        "--anchor.decay",
        "0.9",
        "--reward.a",
        "x",
        "--reward.b",
        "y",
    ]
    found = load(TrainPolicy, overrides=[*MINIMAL[:-2], *words, "--reward_weights", "[1, -0.5]"])
    assert found.method == POLICY_OBJECTIVES[name]()
    assert (found.anchor, found.rewards) == (ExponentialAverage(decay=0.9), {"a": "x", "b": "y"})
    (tmp_path / "r.yaml").write_text(dump(found))
    assert load(TrainPolicy, config=tmp_path / "r.yaml") == found


def test_the_help_names_every_choice(capsys):
    assert main(["train", "policy", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Annotated" not in text
    for name in (*POLICY_OBJECTIVES, *POLICY_REGULARIZERS):
        assert re.search(rf"\b{name}\b", text), name


def test_each_reason_to_stop_is_a_rule():
    asked = WatchRecipe(prompts="p", gold="g", kl_budget=3.0, patience=2, level=0.9, law=True, alarm=0.7)
    expected = [KLBudget(3.0), GoldPeaked(patience=2, level=0.9), LawPeakPassed(level=0.9), AlarmFired(threshold=0.7)]
    assert asked.rules == expected
    assert WatchRecipe(prompts="p").rules == []


def test_the_package_exports_the_recipe():
    assert trueup.TrainPolicy is TrainPolicy
    assert trueup.train_policy is train_policy
    assert trueup.audit_policy.__name__ == "audit_policy"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("policy_*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_file_loads_and_says_how_it_is_run(path, tmp_path):
    found = load(TrainPolicy, config=path)
    assert found.output == Path("runs") / path.stem
    assert f"trueup train policy --config recipes/{path.name}" in path.read_text()
    (tmp_path / "again.yaml").write_text(dump(found))
    assert load(TrainPolicy, config=tmp_path / "again.yaml") == found


WRONG = {
    "no prompts": ({"data.train": "EMPTY"}, ["empty.jsonl: the file is empty"]),
    "no such prompts": ({"data.train": "nowhere.jsonl"}, ["nowhere.jsonl: no such file or folder"]),
    "rows without a prompt": ({"data.train": "OTHER"}, ["other.jsonl:1, field `prompt`"]),
    "all too long": ({"data.max_prompt_tokens": "2"}, ["all 12 prompts have more than 2 tokens", "max_prompt_tokens"]),
    "too few for a step": (
        {"batch_size": "7", "minibatches": "2"},
        ["train.jsonl: 12 different prompts", "fewer than the 14 of one rollout", "lower batch_size (7)"],
    ),
    "a reward that is nowhere": ({"reward": "./nowhere"}, ["./nowhere"]),
    "a function that is nowhere": ({"reward": "policy_rewards:lenght"}, ["lenght"]),
    "a module that is nowhere": ({"reward": "no_such_module:f"}, ["no_such_module"]),
    "another number of weights": (
        {"reward_weights": "[1, 2]"},
        ["2 reward_weights for 1 rewards; give each reward one"],
    ),
    "patience without gold": ({"watch.gold": "null"}, ["patience and law watch gold; name it as watch.gold"]),
    "patience of another kind": ({"patience": "2"}, ["write watch.patience"]),
    "a negative KL": ({"kl_coefficient": "-0.1"}, ["kl_coefficient must be at least 0, got -0.1"]),
    "an unknown method": ({"method": "rlo"}, ["unknown name 'rlo'; did you mean `rloo`?"]),
    "an unknown term": ({"regularizers": "[entropi]"}, ["unknown name 'entropi'; did you mean `entropy`?"]),
    "an unknown setting of a term": (
        {"regularizers": "[{name: entropy, weight: 1}]"},
        ["entropy has no setting 'weight'; known: coefficient"],
    ),
    "an anchor that holds nothing": ({"anchor": "ema", "kl_coefficient": "0"}, ["kl_coefficient is 0"]),
    "returns without values": ({"method": "ppo"}, ["write --regularizers value_loss"]),
    "values without returns": ({"regularizers": "value_loss"}, ["write --method ppo, or leave it out"]),
    "evaluations": ({"eval_steps": "3"}, ["eval_steps and group_by_length do nothing here"]),
    "a value head that stands still": ({"value_learning_rate": "0"}, ["value_learning_rate must be positive, got 0"]),
    "watched and trained on": ({"watch.prompts": "TRAIN"}, ["train.jsonl:1: 12 of 12 watched prompts are trained on"]),
    "watched gold that is nowhere": ({"watch.gold": "./nowhere"}, ["./nowhere"]),
    "no samples": ({"samples": "0"}, ["samples must be at least 1, got 0"]),
    "a reference that is nowhere": ({"reference": "./nowhere"}, ["./nowhere: there is no such folder"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_one_clear_message(name, base, tmp_path, capsys):
    changes, fragments = WRONG[name]
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "other.jsonl").write_text('{"colour": "red"}\n')
    fields = {"model": base, "output": tmp_path / "run", "data.train": prompts(tmp_path / "train.jsonl", 12)}
    fields |= {"reward": LENGTH, "batch_size": 4, "samples": 2, "max_new_tokens": 3, "max_steps": 1}
    fields |= {"watch.prompts": prompts(tmp_path / "watch.jsonl", 3, first=50), "watch.gold": LENGTH}
    fields |= {"watch.patience": 2} | changes
    places = {"EMPTY": tmp_path / "empty.jsonl", "OTHER": tmp_path / "other.jsonl", "TRAIN": tmp_path / "train.jsonl"}
    words = [str(word) for field, value in fields.items() for word in (f"--{field}", places.get(value, value))]
    assert main(["train", "policy", *words]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trueup: ")]
    assert len(said) == 1, said
    for fragment in fragments:
        assert fragment in said[0]
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_what_a_run_was_told_is_plain_yaml(done):
    told = yaml.safe_load((done / "recipe.yaml").read_text())
    assert told["regularizers"] == [{"name": "entropy", "coefficient": 0.01}]
    assert (told["method"]["name"], told["watch"]["every"], told["resume"]) == ("rloo", 5, False)
