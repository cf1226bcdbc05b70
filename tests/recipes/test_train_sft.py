"""`trueup train sft`, from a file to a policy: what it writes, what it goes on from, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from kills import Killed
from run_files import log, same, tensors, write
from tiny_models import CHATML, make_tokenizer, save_base, save_classifier
from trueup.cli import main
from trueup.errors import CheckpointError, DataError, OutputError, RecipeError
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.policies.model import load_model_policy
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_sft import Demonstrations, TrainSft, train_sft

FRUITS = ("apples", "pears", "plums")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))


def fruits(count: int, first: int = 0):
    """Prompts whose numbers say which fruit is the answer."""
    return [{"prompt": f"Fruit {i}:", "completion": f" {FRUITS[i % 3]}"} for i in range(first, first + count)]


def recipe(base: Path, folder: Path, records=None, **changes) -> TrainSft:
    data = Demonstrations(train=str(write(folder / "train.jsonl", records or fruits(12))), max_length=24)
    known = {"output": folder / "run", "data": data, "max_steps": 6, "batch_size": 4, "learning_rate": 1e-2}
    return TrainSft(model=str(base), logging_steps=1, **(known | changes))


# End to end


@pytest.fixture(scope="module")
def done(base, tmp_path_factory) -> Path:
    """A finished run from the command line; nobody may change it."""
    folder = tmp_path_factory.mktemp("sft")
    unusable = [{"prompt": "Fruit 7:", "completion": " "}, {"prompt": "How long? " * 20, "completion": " No"}]
    train = write(folder / "train.jsonl", [*fruits(16), *unusable])
    held_out = write(folder / "eval.jsonl", fruits(5, first=30))
    words = [
        "train",
        "sft",
        "--model",
        base,
        "--output",
        folder / "run",
        "--data.train",
        train,
        "--data.eval",
        held_out,
    ]
    words += ["--data.max_length", 24, "--data.cache", folder / "cache", "--epochs", 3, "--batch_size", 4]
    words += ["--learning_rate", 1e-2, "--logging_steps", 1]
    assert main([str(word) for word in words]) == 0
    return folder / "run"


def test_what_a_run_leaves_behind(done):
    names = {path.name for path in done.iterdir()}
    assert names >= {"model", "recipe.yaml", "metrics.jsonl", "report.html", "dropped-train.jsonl"}
    assert "dropped-eval.jsonl" not in names
    assert not [name for name in names if "partial" in name]
    page = (done / "report.html").read_text()
    assert "train.jsonl (17 rows" in page
    told = yaml.safe_load((done / "recipe.yaml").read_text())
    assert (told["epochs"], told["data"]["max_length"], told["resume"]) == (3.0, 24, False)
    side = json.loads((done / "model" / "trueup.json").read_text())
    assert side["dropped"] == {"train/empty responses": 1, "train/too long": 1}
    assert side["data"]["rows"] == 17


def test_rows_that_are_not_used_are_listed(done):
    listed = [json.loads(line) for line in (done / "dropped-train.jsonl").read_text().splitlines()]
    assert [(one["reason"], one["row"]) for one in listed] == [("empty responses", 17), ("too long", 18)]


def test_it_learns_and_nothing_is_padded(done):
    lines = log(done)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 12
    assert losses[-1] < 0.5 * losses[0]
    assert all(line["padding_share"] == 0.0 for line in lines if "loss" in line)


def test_the_held_out_rows_are_watched(done):
    """Once an epoch, and at the end; the last loss is the finished model's own."""
    losses = [(line["step"], line["eval_loss"]) for line in log(done) if "eval_loss" in line]
    assert [step for step, _ in losses] == [4, 8, 12, 12]
    assert losses[-1] == losses[-2]
    assert losses[-1][1] == pytest.approx(plain_loss(done / "model", fruits(5, first=30)), abs=1e-4)


def plain_loss(folder: Path, records) -> float:
    """By plain transformers: mean over all reply tokens and the end."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for record in records:
        asked = tokenizer(record["prompt"])["input_ids"]
        ids = torch.tensor([[*asked, *tokenizer(record["completion"], add_special_tokens=False)["input_ids"],
                             tokenizer.eos_token_id]])  # fmt: skip
        with torch.no_grad():
            logits = model(ids).logits[0, len(asked) - 1 : -1].log_softmax(-1)
        total -= float(logits.gather(-1, ids[0, len(asked) :, None]).sum())
        count += ids.shape[1] - len(asked)
    return total / count


def test_the_run_is_a_policy(done):
    policy = load_model_policy(str(done), max_new_tokens=6, temperature=0.0, device="cpu")
    answers = [group[0].text.strip() for group in policy.sample([one["prompt"] for one in fruits(16)], 1, seed=0)]
    assert sum(answer in FRUITS for answer in answers) > 12


def test_the_recipe_of_a_run_makes_it_again(done, tmp_path):
    words = ["train", "sft", "--config", str(done / "recipe.yaml"), "--output", str(tmp_path / "again")]
    assert main(words) == 0
    assert same(tensors(tmp_path / "again"), tensors(done))


def test_an_earlier_run_is_not_written_over(done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    words = ["train", "sft", "--config", str(done / "recipe.yaml")]
    assert main(words) == 2
    assert f"trueup: {done}: holds an earlier run; add --resume to go on" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*")} == before


# Ways to train


def test_chat_is_learned_in_the_built_in_template_and_kept_with_the_model(base, tmp_path):
    dialogue = [
        {"messages": [{"role": "user", "content": f"Fruit {i}"}, {"role": "assistant", "content": FRUITS[i % 3]}]}
        for i in range(6)
    ]
    done = train_sft(recipe(base, tmp_path, dialogue, max_steps=2))
    loaded = load_policy_checkpoint(done.model)
    assert loaded.form.kind == "chat"
    assert loaded.tokenizer.apply_chat_template([{"role": "user", "content": "Go"}], tokenize=False,
                                                add_generation_prompt=True) == "<s>User: Go\nAssistant:"  # fmt: skip


def test_an_adapter_is_one_for_plain_peft_too(base, tmp_path):
    before = (base / "model.safetensors").read_bytes()
    done = train_sft(recipe(base, tmp_path, lora=LoraRecipe(rank=2, alpha=8), max_steps=4))
    assert (done.model / "adapter_model.safetensors").is_file()
    assert not (done.model / "model.safetensors").exists()
    assert (base / "model.safetensors").read_bytes() == before
    theirs = AutoPeftModelForCausalLM.from_pretrained(done.model).eval()
    ours = load_policy_checkpoint(done.model).model
    start = AutoModelForCausalLM.from_pretrained(base).eval()
    ids = torch.tensor([[1, 70, 80, 90]])
    with torch.no_grad():
        logits = theirs(ids).logits
        assert torch.allclose(ours.core(ids).logits, logits, atol=1e-5)
        assert float((start(ids).logits - logits).abs().max()) > 1e-2
    assert load_model_policy(str(tmp_path / "run"), max_new_tokens=3, device="cpu").sample(["Fruit:"], 1, seed=0)


def test_from_scratch_needs_a_configuration_alone(base, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((base / name).read_bytes())
    asked = recipe(bare, tmp_path, from_scratch=True, max_steps=1)
    first, again, other = (
        train_sft(replace(asked, output=tmp_path / name, seed=seed)).model.parent
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert same(tensors(first), tensors(again))
    assert not same(tensors(first), tensors(other))


def test_rows_of_several_replies_teach_all_of_them_or_the_best(base, tmp_path):
    pairs = [{"prompt": f"Fruit {i}:", "chosen": " plums", "rejected": f" {'pears ' * (i + 1)}"} for i in range(4)]
    options = {"max_steps": 1, "batch_size": 4}
    data = recipe(base, tmp_path, pairs).data
    tokens = {}
    for which in ("all", "best"):
        output = tmp_path / which
        train_sft(recipe(base, tmp_path, pairs, data=replace(data, which=which), output=output, **options))
        tokens[which] = log(output)[0]["num_tokens"]
    assert tokens["best"] < tokens["all"]
    dropped = (tmp_path / "best" / "dropped-train.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in dropped] == ["response rejected"] * 4


def test_long_rows_can_be_cut_instead(base, tmp_path):
    records = [*fruits(3), {"prompt": "Fruit:", "completion": " plums" * 40}]
    asked = recipe(base, tmp_path, records, max_steps=1)
    done = train_sft(replace(asked, data=replace(asked.data, too_long="truncate")))
    assert done.dropped == {}
    assert log(tmp_path / "run")[0]["num_tokens"] > 24


def test_patience_keeps_the_best_model(base, tmp_path):
    """What is watched is the opposite of what is learned, so that the first evaluation is the best."""
    opposite = [one | {"completion": " boiling water"} for one in fruits(6)]
    options = {"eval_steps": 1, "save_steps": 1, "max_steps": 8, "warmup": 0.0, "learning_rate": 3e-2}
    asked = recipe(base, tmp_path, **options)
    held_out = str(write(tmp_path / "eval.jsonl", opposite))
    done = train_sft(replace(asked, data=replace(asked.data, eval=held_out), patience=1))
    losses = [line["eval_loss"] for line in log(tmp_path / "run") if "eval_loss" in line]
    assert len(losses) < 9
    assert done.metrics["eval_loss"] == pytest.approx(min(losses), abs=1e-6)
    assert max(losses) > min(losses) + 0.05


# Stopped and gone on with


@pytest.mark.parametrize("lora", [None, LoraRecipe(rank=2, dropout=0.3)])
def test_a_killed_run_goes_on_to_the_same_model(lora, base, tmp_path):
    asked = recipe(base, tmp_path, save_steps=2, lora=lora, max_steps=7)
    train_sft(replace(asked, output=tmp_path / "whole"))
    for step in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            train_sft(replace(asked, resume=step == 5), callbacks=[Killed(step)])
        assert not (tmp_path / "run" / "model").exists()
    train_sft(replace(asked, resume=True))
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    files = [tmp_path / place / "model" / name for place in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    steps = [line["step"] for line in log(tmp_path / "run") if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6, 7]


def test_another_recipe_or_other_data_do_not_go_on(base, tmp_path):
    asked = recipe(base, tmp_path, save_steps=2)
    with pytest.raises(KeyboardInterrupt):
        train_sft(asked, callbacks=[Killed(3)])
    with pytest.raises(OutputError, match="holds an earlier run"):
        train_sft(asked)
    with pytest.raises(RecipeError, match=r"learning_rate \(0\.01 before, 0\.02 now\)"):
        train_sft(replace(asked, resume=True, learning_rate=0.02))
    write(tmp_path / "train.jsonl", fruits(13))
    with pytest.raises(DataError, match="the rows have changed"):
        train_sft(replace(asked, resume=True))


# What is refused, in one message and without a model


WRONG = {
    "no usable rows": (
        [{"prompt": "a", "completion": ""}],
        {},
        ["train.jsonl: zero usable rows (1 empty responses)", "at least one response that is not empty"],
    ),
    "all too long": (
        [{"prompt": "How long? " * 20, "completion": " No"}],
        {},
        ["train.jsonl: zero usable rows of 1: 1 too long", "raise data.max_length (24)"],
    ),
    "no demonstrations": ([{"question_id": 3, "year": 4}], {}, ["train.jsonl"]),
    "a missing file": (None, {"data.train": "nowhere.jsonl"}, ["nowhere.jsonl: no such file or folder"]),
    "a missing file to watch": (None, {"data.eval": "nowhere.jsonl"}, ["nowhere.jsonl: no such file or folder"]),
    "an unknown field": (None, {"data.trian": "x"}, ["unknown field `data.trian`; did you mean `data.train`?"]),
    "a reward model": (None, {"model": "REWARD"}, ["no causal language model could be loaded", "lm_head.weight"]),
    "a missing model": (None, {"model": "./nowhere"}, ["./nowhere: there is no such folder"]),
    "layers it does not have": (
        None,
        {"lora.target_modules": "[nothing]"},
        ["lora cannot be used with", "nothing"],
    ),
    "an adapter from scratch": (None, {"lora.rank": "2", "from_scratch": "true"}, ["leave out lora or from_scratch"]),
    "patience without eyes": (None, {"patience": "2"}, ["patience needs data.eval"]),
    "no length": (None, {"data.max_length": "1"}, ["max_length must be at least 2 tokens, got 1"]),
    "a negative rate": (None, {"learning_rate": "-1"}, ["learning_rate must be positive, got -1"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_one_clear_message(name, base, tmp_path, capsys):
    records, changes, fragments = WRONG[name]
    train = write(tmp_path / "train.jsonl", records or fruits(4))
    if changes.get("model") == "REWARD":
        tokenizer = make_tokenizer(bos="<s>", pad="<pad>")
        changes = {"model": str(save_classifier(tmp_path / "reward-model", tokenizer))}
    fields = {"model": str(base), "output": str(tmp_path / "run"), "data.train": str(train), "data.max_length": "24"}
    words = [word for field, value in (fields | changes).items() for word in (f"--{field}", value)]
    assert main(["train", "sft", *words]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trueup: ")]
    assert len(said) == 1, said
    for fragment in fragments:
        assert fragment in said[0]
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_template_that_asks_otherwise_than_it_answers_is_refused(tmp_path):
    other = CHATML + "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
    tokenizer = make_tokenizer(extra=("<|im_start|>", "<|im_end|>"), chat_template=other)
    place = save_base(tmp_path / "base", tokenizer)
    asked = recipe(place, tmp_path)
    with pytest.raises(RecipeError, match="opens a reply with other text"):
        train_sft(replace(asked, data=replace(asked.data, text_format="chat")))
    assert not (tmp_path / "run" / "model").exists()


def test_an_adapter_is_not_trained_on(base, tmp_path):
    done = train_sft(recipe(base, tmp_path, lora=LoraRecipe(rank=2), max_steps=1))
    with pytest.raises(CheckpointError, match="write `trueup merge adapter --model"):
        train_sft(recipe(done.model, tmp_path, output=tmp_path / "second"))
