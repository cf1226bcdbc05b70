"""`trueup train policy`, from prompts and a reward to a policy: methods, anchors, watching, and what is left behind."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, TrainerControl, TrainerState

import trueup
from tiny_models import make_tokenizer, save_base
from trueup.anchors import ElasticReset, ExponentialAverage, Soup
from trueup.cli import main
from trueup.measure.stopping import AlarmFired, GoldPeaked, KLBudget, LawPeakPassed
from trueup.objectives import GRPO, POLICY_OBJECTIVES, POLICY_REGULARIZERS, PPO, SuperHF, Tsallis
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.objectives.policy.regularizers.forward_kl_k3 import ForwardKLk3
from trueup.objectives.policy.regularizers.forward_kl_prior_sum import ForwardKLPriorSum
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.policies.model import load_model_policy
from trueup.recipes import train_policy as module
from trueup.recipes.config import dump, load
from trueup.recipes.policy_settings import PromptsRecipe, TrainPolicy, WatchRecipe
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_policy import train_policy
from trueup.train.callbacks import ProgressBar
from trueup.train.step import term_name

ROOT = Path(__file__).resolve().parents[2]
LENGTH, SHORTNESS, REMAINDER = (f"policy_rewards:{name}" for name in ("length", "shortness", "remainder"))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), make_tokenizer(bos="<s>", pad="<pad>"))


def prompts(path: Path, count: int, *, first: int = 0) -> str:
    """A file of prompts."""
    path.write_text("".join(json.dumps({"prompt": f"Fruit {i}:"}) + "\n" for i in range(first, first + count)))
    return str(path)


def recipe(base: Path, folder: Path, **changes) -> TrainPolicy:
    """Two steps of four prompts with two replies each."""
    known = {"output": folder / "run", "max_steps": 2, "batch_size": 4, "samples": 2, "max_new_tokens": 5}
    known |= {"learning_rate": 1e-2, "warmup": 0.0, "logging_steps": 1, "reward": REMAINDER}
    data = PromptsRecipe(train=prompts(folder / "train.jsonl", 12))
    return TrainPolicy(model=str(base), data=data, **(known | changes))


def watch(folder: Path, **changes) -> WatchRecipe:
    held_out = prompts(folder / "watch.jsonl", 5, first=50)
    return WatchRecipe(prompts=held_out, **({"every": 1, "gold": SHORTNESS} | changes))


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def log(run: Path, name: str) -> list[float]:
    """All values of one metric."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def names_logged(run: Path) -> set[str]:
    return {name for line in (run / "metrics.jsonl").read_text().splitlines() for name in json.loads(line)}


# End to end


@pytest.fixture(scope="module")
def done(base, tmp_path_factory) -> Path:
    """A finished run from the command line; nobody may change it."""
    folder = tmp_path_factory.mktemp("policy")
    train = Path(prompts(folder / "train.jsonl", 20))
    with train.open("a") as handle:
        handle.write(json.dumps({"prompt": "How long? " * 20}) + "\n")
    held_out = prompts(folder / "watch.jsonl", 5, first=50)
    words = ["train", "policy", "--model", base, "--output", folder / "run", "--data.train", train]
    words += ["--data.max_prompt_tokens", 30, "--reward", LENGTH, "--epochs", 2, "--batch_size", 4, "--samples", 4]
    words += ["--max_new_tokens", 8, "--learning_rate", 1e-2, "--logging_steps", 1, "--watch.prompts", held_out]
    words += ["--watch.gold", SHORTNESS, "--watch.every", 5]
    words += ["--regularizers", "[{name: entropy, coefficient: 0.01}]"]
    assert main([str(word) for word in words]) == 0
    return folder / "run"


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
    assert len(log(done, "reward")) == 10


def test_it_learns_and_what_it_was_not_told_falls(done):
    looks = [json.loads(line) for line in (done / "watch.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == [0, 5, 10]
    proxy, gold = log(done, "watch/proxy"), log(done, "watch/gold")
    assert proxy[-1] > proxy[0] + 1
    assert gold == pytest.approx([-value for value in proxy])
    assert log(done, "watch/kl")[0] == pytest.approx(0.0, abs=1e-4)
    assert log(done, "watch/kl")[-1] > 0.1
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
    words = ["--method", name, "--anchor", "ema", "--anchor.decay", "0.9", "--reward.a", "x", "--reward.b", "y"]
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


# Methods


METHODS = {
    "ppo": (PPO(), [ValueLoss()]),
    "grpo": (GRPO(), [ForwardKLk3()]),
    "superhf": (SuperHF(), [ForwardKLPriorSum()]),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_with_the_terms_of_their_papers(name, base, tmp_path):
    method, terms = METHODS[name]
    finished = train_policy(recipe(base, tmp_path, method=method, regularizers=terms, passes=2))
    for term in (method, *terms):
        assert len(log(tmp_path / "run", f"loss/{term_name(term)}")) == 2
    assert not same(tensors(tmp_path / "run"), load_file(base / "model.safetensors"))
    assert (finished.model / "value_head.safetensors").is_file() == (name == "ppo")
    _, info = AutoModelForCausalLM.from_pretrained(finished.model, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert {one for one in names_logged(tmp_path / "run") if not re.match("train_|total_flos", one)} <= documented()


def test_the_value_head_may_have_a_learning_rate_of_its_own(base, tmp_path):
    asked = recipe(base, tmp_path, method=PPO(), regularizers=[ValueLoss()], max_steps=1, save_steps=1)
    for name, rate in (("policy's", None), ("same", 1e-2), ("none", 1e-20)):
        train_policy(replace(asked, output=tmp_path / name, value_learning_rate=rate))
    heads = [load_file(tmp_path / name / "model" / "value_head.safetensors") for name in ("policy's", "same", "none")]
    assert same(heads[0], heads[1])
    assert float(heads[0]["weight"].abs().max()) == pytest.approx(1e-2, rel=1e-3)  # Adam's first step
    assert float(heads[2]["weight"].abs().max()) < 1e-15
    assert same(tensors(tmp_path / "policy's"), tensors(tmp_path / "none"))  # a head at zero pushes no state
    assert (tmp_path / "same" / "checkpoint-1" / "value_head.safetensors").is_file()


@pytest.mark.parametrize("anchor", [None, ExponentialAverage(decay=0.5)])
def test_with_an_adapter_the_reference_is_the_model_without_it(anchor, base, tmp_path, monkeypatch):
    made = []
    original = module.new_policy
    monkeypatch.setattr(module, "new_policy", lambda *args, **options: made.append(1) or original(*args, **options))
    asked = recipe(base, tmp_path, lora=LoraRecipe(rank=2, alpha=8), watch=watch(tmp_path), anchor=anchor)
    finished = train_policy(asked)
    assert len(made) == (1 if anchor is None else 2)  # an average needs a place of its own
    assert (finished.model / "adapter_model.safetensors").is_file()
    assert not (finished.model / "model.safetensors").exists()
    assert log(tmp_path / "run", "kl")[0] == pytest.approx(0.0, abs=1e-5)
    assert abs(log(tmp_path / "run", "kl")[1]) > 1e-4
    assert abs(log(tmp_path / "run", "watch/kl")[-1]) > 1e-4


def test_ppo_with_an_adapter_keeps_both(base, tmp_path):
    asked = recipe(base, tmp_path, lora=LoraRecipe(rank=2), method=PPO(), regularizers=[ValueLoss()], max_steps=1)
    finished = train_policy(asked)
    names = {path.name for path in finished.model.iterdir()}
    assert names >= {"adapter_model.safetensors", "value_head.safetensors"}
    assert not any("value" in name for name in load_file(finished.model / "adapter_model.safetensors"))


def test_from_scratch_everything_is_measured_from_the_weights_that_were_drawn(base, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((base / name).read_bytes())
    train_policy(recipe(bare, tmp_path, from_scratch=True, watch=watch(tmp_path), max_steps=1))
    assert log(tmp_path / "run", "kl")[0] == pytest.approx(0.0, abs=1e-5)
    assert log(tmp_path / "run", "watch/kl")[0] == pytest.approx(0.0, abs=1e-5)
    assert abs(log(tmp_path / "run", "watch/kl")[1]) > 1e-4


def test_rewards_are_summed_with_their_weights(base, tmp_path):
    one = train_policy(recipe(base, tmp_path, max_steps=1)).metrics["reward"]
    other = replace(recipe(base, tmp_path, max_steps=1), output=tmp_path / "other", reward=LENGTH)
    both = {"reward": {"a": REMAINDER, "b": LENGTH}, "reward_weights": [2.0, -0.5], "output": tmp_path / "both"}
    summed = train_policy(recipe(base, tmp_path, max_steps=1, **both)).metrics["reward"]
    assert summed == pytest.approx(2.0 * one - 0.5 * train_policy(other).metrics["reward"])
    plain = {"reward": [REMAINDER, LENGTH], "output": tmp_path / "plain"}
    plain_sum = train_policy(recipe(base, tmp_path, max_steps=1, **plain)).metrics["reward"]
    assert plain_sum == pytest.approx(one + train_policy(replace(other, output=tmp_path / "c")).metrics["reward"])


# Anchors


def test_an_average_without_memory_is_the_policy_of_the_last_step(base, tmp_path):
    frozen = recipe(base, tmp_path, max_steps=3)
    train_policy(frozen)
    train_policy(replace(frozen, output=tmp_path / "ema", anchor=ExponentialAverage(decay=0.0)))
    assert log(tmp_path / "ema", "kl") == pytest.approx([0.0] * 3, abs=1e-5)
    assert min(map(abs, log(tmp_path / "run", "kl")[1:])) > 1e-3


def test_an_elastic_reset_that_keeps_all_goes_back_to_the_start(base, tmp_path):
    """With an average that never moves from the start, each jump is one to the start."""
    asked = recipe(base, tmp_path, anchor=ElasticReset(period=2, decay=1.0), save_steps=1)
    train_policy(asked)
    assert same(tensors(tmp_path / "run"), load_file(base / "model.safetensors"))
    between = load_file(tmp_path / "run" / "checkpoint-1" / "model.safetensors")
    assert not same(between, tensors(tmp_path / "run"))


def test_a_soup_of_one_is_the_start_and_of_the_other_is_the_other(base, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path in base.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    known = load_file(base / "model.safetensors")
    moved = {name: value + 0.05 * torch.randn(value.shape) for name, value in known.items()}
    save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    asked = recipe(base, tmp_path)
    runs = {"run": {}, "one": {"anchor": Soup(other=str(other), alpha=1.0)}, "far": {"reference": str(other)}}
    runs["zero"] = {"anchor": Soup(other=str(other), alpha=0.0)}
    for name, changes in runs.items():
        train_policy(replace(asked, output=tmp_path / name, **changes))
    assert same(tensors(tmp_path / "one"), tensors(tmp_path / "run"))
    assert same(tensors(tmp_path / "zero"), tensors(tmp_path / "far"))
    assert log(tmp_path / "far", "kl")[0] > 0.01


# Watching


def test_a_budget_of_kl_stops_the_run(base, tmp_path):
    asked = recipe(base, tmp_path, max_steps=6, learning_rate=3e-2, watch=watch(tmp_path, kl_budget=0.05, every=2))
    finished = train_policy(asked)
    stopped = json.loads((tmp_path / "run" / "stopped.json").read_text())
    assert stopped["rule"] == "KLBudget"
    assert stopped["step"] in (2, 4)
    assert len(log(tmp_path / "run", "reward")) == stopped["step"]
    assert f"stopped early: {finished.stopped}" in finished.summary()
    assert log(tmp_path / "run", "watch/kl")[-1] >= 0.05


def test_gold_that_falls_stops_the_run(base, tmp_path):
    settings = {"reward": LENGTH, "learning_rate": 2e-2, "max_steps": 12, "samples": 4, "max_new_tokens": 8}
    asked = recipe(base, tmp_path, watch=watch(tmp_path, patience=2, samples=4, every=2), **settings)
    finished = train_policy(asked)
    assert finished.stopped is not None
    assert json.loads((tmp_path / "run" / "stopped.json").read_text())["rule"] == "GoldPeaked"
    assert len(log(tmp_path / "run", "reward")) < 12


def test_the_best_checkpoint_is_kept(base, tmp_path, monkeypatch):
    """Gold is best at the second of five looks; rotation, which keeps two checkpoints, spares that one."""
    means = iter([0.0, 2.0, 1.0, 1.0, 1.0])

    class Planned:
        name = "planned"

        def score(self, prompts, responses):
            scores = module.load_reward(LENGTH).score(prompts, responses)
            return replace(scores, reward=scores.reward * 0 + next(means))

    original = module.load_reward
    monkeypatch.setattr(module, "load_reward", lambda name, **o: Planned() if name == "GOLD" else original(name, **o))
    asked = recipe(base, tmp_path, max_steps=4, save_steps=1, keep_checkpoints=2, watch=watch(tmp_path, gold="GOLD"))
    train_policy(asked)
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best == {"step": 1, "gold": 2.0, "checkpoint": "checkpoint-1"}
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-4"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint-1") is not None


# What is logged and shown


def section() -> str:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return page.partition("## Of a policy that learns from its own samples")[2].partition("## ")[0]


def documented() -> set[str]:
    """Names in the online part of the page, in that on the loss, and in that on the run."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([a-z0-9_/]+)`", page))


def test_the_page_names_what_is_logged_and_nothing_else(done, base, tmp_path):
    in_words = set(re.findall(r"`([a-z0-9_/]+)`", "\n".join(re.findall(r"^\| (.*?) \|", section(), re.MULTILINE))))
    losses = {f"loss/{term_name(cls())}" for cls in (*POLICY_OBJECTIVES.values(), *POLICY_REGULARIZERS.values())}
    assert {one for one in in_words if one.startswith("loss/")} == losses
    terms = [cls() for cls in POLICY_REGULARIZERS.values()]
    train_policy(recipe(base, tmp_path, method=PPO(), regularizers=terms, max_steps=1))
    seen = names_logged(tmp_path / "run") | names_logged(done)
    assert {one for one in seen if not re.match("train_|total_flos", one)} <= documented()
    assert {one for one in in_words if not one.startswith("loss/")} <= seen


def test_the_bar_shows_how_a_policy_does():
    shown = []

    class Bar:
        def set_postfix(self, values):
            shown.append(dict(values))

    bar = ProgressBar("policy")
    bar.bar = Bar()
    for logs in ({"reward": 1.5, "kl": 0.25, "entropy": 9.0}, {"watch/gold": 0.5, "watch/kl": 2.0, "watch/ended": 7.0}):
        bar.on_log(None, TrainerState(), TrainerControl(), logs=logs)
    assert shown[0] == {"reward": "1.500", "kl": "0.250"}
    assert shown[1] == shown[0] | {"watch/gold": "0.500", "watch/kl": "2.000"}


# What is refused, in one message and before anything is written


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
