"""`trueup train preference`, from a file to a policy: what it writes, what it goes on from, and what it refuses."""

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from kills import Killed
from run_files import log, logged, same, tensors, write
from tiny_models import make_tokenizer, save_base
from trueup.cli import main
from trueup.errors import DataError, OutputError, RecipeError
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.inpo import INPO
from trueup.objectives.preference.modpo import MODPO
from trueup.objectives.preference.simpo import SimPO
from trueup.objectives.supervised.chosen import ChosenLikelihood
from trueup.recipes.preference_settings import PreferenceData, TrainPreference
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_preference import train_preference
from trueup.recipes.train_sft import Demonstrations, TrainSft, train_sft

FRUITS = ("apples", "pears", "plums")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))


def pairs(count: int, first: int = 0):
    """Plums are preferred to the other fruits."""
    return [
        {"prompt": f"Fruit {i}:", "chosen": " plums", "rejected": f" {FRUITS[i % 2]}"}
        for i in range(first, first + count)
    ]


def groups(count: int):
    """Three scored responses to each prompt."""
    return [
        {"prompt": f"Fruit {i}:", "responses": [{"text": f" {f} {i}", "score": s} for s, f in enumerate(FRUITS)]}
        for i in range(count)
    ]


def recipe(base: Path, folder: Path, records=None, **changes) -> TrainPreference:
    data = PreferenceData(train=str(write(folder / "train.jsonl", records or pairs(12))), max_length=24)
    known = {"output": folder / "run", "data": data, "max_steps": 4, "batch_size": 4, "learning_rate": 1e-3}
    return TrainPreference(model=str(base), logging_steps=1, **(known | changes))


# End to end


UNUSABLE = [
    {"prompt": "Fruit 7:", "chosen": " plums", "rejected": " "},
    {"prompt": "Fruit 8:", "chosen": " plums", "rejected": " plums"},
    {"prompt": "How long? " * 20, "chosen": " No", "rejected": " Yes"},
]


@pytest.fixture(scope="module")
def done(base, tmp_path_factory) -> Path:
    """A finished run from the command line; nobody may change it."""
    folder = tmp_path_factory.mktemp("preference")
    train = write(folder / "train.jsonl", [*pairs(16), *UNUSABLE])
    held_out = write(folder / "eval.jsonl", pairs(5, first=30))
    words = ["--model", base, "--output", folder / "run", "--data.train", train, "--data.eval", held_out]
    words += ["--data.max_length", 24, "--data.cache", folder / "cache", "--epochs", 3, "--batch_size", 4]
    words += ["--learning_rate", 1e-3, "--logging_steps", 1, "--method.beta", 0.5, "--regularizers", "sft"]
    assert main(["train", "preference", *map(str, words)]) == 0
    return folder / "run"


def test_what_a_run_leaves_behind(done):
    names = {path.name for path in done.iterdir()}
    assert names >= {"model", "recipe.yaml", "metrics.jsonl", "report.html", "dropped-train.jsonl"}
    assert "dropped-eval.jsonl" not in names
    assert not [name for name in names if "partial" in name]
    assert "train.jsonl (17 rows" in (done / "report.html").read_text()
    told = yaml.safe_load((done / "recipe.yaml").read_text())
    assert told["method"] == {"name": "dpo", "beta": 0.5}
    assert told["regularizers"] == [{"name": "sft", "coefficient": 1.0}]
    side = json.loads((done / "model" / "trueup.json").read_text())
    assert side["dropped"] == {
        "train/empty responses": 1, "train/identical responses": 1, "train/too long": 1
    }  # fmt: skip
    cache = done.parent / "cache"
    assert len(list((cache / "logprobs").iterdir())) == 2
    assert len(list((cache / "tokens").iterdir())) == 2


def test_rows_that_are_not_used_are_listed(done):
    listed = [json.loads(line) for line in (done / "dropped-train.jsonl").read_text().splitlines()]
    expected = [("empty responses", 17), ("identical responses", 18), ("too long", 19)]
    assert [(one["reason"], one["row"]) for one in listed] == expected


def test_it_starts_at_its_reference_and_learns(done):
    lines = [line for line in log(done) if "loss" in line]
    assert len(lines) == 12
    assert lines[0]["loss/dpo"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert lines[-1]["loss/dpo"] < 0.5
    assert lines[-1]["rewards/accuracies"] == 1.0
    assert all(line["padding_share"] == 0.0 for line in lines)


def test_the_held_out_pairs_are_watched(done, base):
    """Each epoch and at the end; what is told of the finished model is what plain transformers says."""
    lines = [line for line in log(done) if "eval_loss" in line]
    assert [line["step"] for line in lines] == [4, 8, 12, 12]
    rewards = [
        [0.5 * (plain(done / "model", one["prompt"], one[side]) - plain(base, one["prompt"], one[side]))
         for side in ("chosen", "rejected")]
        for one in pairs(5, first=30)
    ]  # fmt: skip
    table = torch.tensor(rewards)
    assert lines[-1]["eval_rewards/chosen"] == pytest.approx(float(table[:, 0].mean()), abs=1e-3)
    assert lines[-1]["eval_rewards/rejected"] == pytest.approx(float(table[:, 1].mean()), abs=1e-3)
    margin = table[:, 0] - table[:, 1]
    assert lines[-1]["eval_rewards/accuracies"] == pytest.approx(float((margin > 0).float().mean()))
    assert lines[-1]["eval_loss/dpo"] == pytest.approx(float(torch.log1p(torch.exp(-margin)).mean()), abs=1e-3)


def plain(folder: Path, prompt: str, response: str) -> float:
    """Log-probability of a response and its end, by plain transformers."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer(prompt)["input_ids"]
    ids = [*asked, *tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(ids[len(asked) :])[:, None]).sum())


def test_the_recipe_of_a_run_makes_it_again_without_asking_the_reference(done, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    words = ["train", "preference", "--config", str(done / "recipe.yaml"), "--output", str(tmp_path / "again")]
    assert main(words) == 0
    assert same(tensors(tmp_path / "again"), tensors(done))
    assert caplog.text.count("the reference was asked about these") == 2


# References


def test_another_method_and_an_adapter_share_what_the_reference_said(base, tmp_path, caplog):
    """One entry: of the start, whether all weights or an adapter are trained."""
    caplog.set_level(logging.INFO)
    train_preference(recipe(base, tmp_path, output=tmp_path / "dpo", max_steps=1))
    for name, changes in {
        "inpo": {"method": INPO()},
        "lora": {"lora": LoraRecipe(rank=2)},
        "named": {"reference": str(base)},
    }.items():
        caplog.clear()
        train_preference(recipe(base, tmp_path, output=tmp_path / name, max_steps=1, **changes))
        assert "was asked about these 12 rows before" in caplog.text, name
    assert len(list((tmp_path / "cache" / "logprobs").iterdir())) == 1


def test_a_method_without_reference_asks_none(base, tmp_path):
    train_preference(recipe(base, tmp_path, method=SimPO(), max_steps=1))
    assert not (tmp_path / "cache" / "logprobs").exists()


def test_with_an_adapter_the_reference_is_the_model_without_it(base, tmp_path):
    done = train_preference(recipe(base, tmp_path, lora=LoraRecipe(rank=2, alpha=8), max_steps=5, learning_rate=1e-2))
    assert logged(tmp_path / "run", "loss")[0] == pytest.approx(math.log(2), abs=1e-5)
    assert logged(tmp_path / "run", "loss")[-1] < 0.68
    assert (done.model / "adapter_model.safetensors").is_file()
    assert not (done.model / "model.safetensors").exists()
    moved = load_policy_checkpoint(done.model).model
    start = AutoModelForCausalLM.from_pretrained(base).eval()
    ids = torch.tensor([[1, 70, 80, 90]])
    with torch.no_grad():
        assert float((moved.core(ids).logits - start(ids).logits).abs().max()) > 1e-3


def test_the_reference_may_be_another_model_or_adapter(base, tmp_path):
    first = train_preference(recipe(base, tmp_path, output=tmp_path / "first", learning_rate=1e-2))
    second = recipe(base, tmp_path, output=tmp_path / "second", reference=str(first.model), max_steps=1)
    train_preference(second)
    line = log(tmp_path / "second")[0]
    assert line["rewards/margins"] < -0.01  # the start prefers chosen responses less than what was trained to
    adapted = {"lora": LoraRecipe(rank=2), "learning_rate": 1e-1, "max_steps": 2}
    adapter = train_preference(recipe(base, tmp_path, output=tmp_path / "lora", **adapted))
    third = replace(second, output=tmp_path / "third", reference=str(adapter.model))
    train_preference(third)
    assert log(tmp_path / "third")[0]["rewards/margins"] < -1e-4


def test_a_reference_of_another_vocabulary_is_refused(base, tmp_path):
    other = save_base(tmp_path / "other", make_tokenizer(bos="<b>", pad="<pad>"))
    with pytest.raises(RecipeError, match="has another vocabulary"):
        train_preference(recipe(base, tmp_path, reference=str(other)))
    assert not (tmp_path / "run" / "model").exists()


def test_a_damaged_entry_is_computed_again(base, tmp_path, caplog):
    train_preference(recipe(base, tmp_path, output=tmp_path / "first"))
    (entry,) = (tmp_path / "cache" / "logprobs").iterdir()
    entry.write_bytes(entry.read_bytes()[:-8])
    train_preference(recipe(base, tmp_path, output=tmp_path / "second"))
    assert "are computed again" in caplog.text
    assert same(tensors(tmp_path / "first"), tensors(tmp_path / "second"))


# Data


def test_rows_of_several_responses_give_all_pairs_or_one(base, tmp_path):
    data = recipe(base, tmp_path, groups(4)).data
    found = {}
    for rule in ("all", "best_versus_worst"):
        output = tmp_path / rule
        how = replace(data, pairs=rule)
        train_preference(recipe(base, tmp_path, groups(4), data=how, output=output, max_steps=1))
        found[rule] = log(output)[0]["num_tokens"]
    assert found["best_versus_worst"] == pytest.approx(found["all"] * 2 / 3, rel=0.05)


def test_flipped_labels_are_learned_from_and_never_watched(base, tmp_path):
    held_out = str(write(tmp_path / "eval.jsonl", pairs(6, first=40)))
    asked = recipe(base, tmp_path, max_steps=5)
    asked = replace(asked, data=replace(asked.data, eval=held_out, flip=1.0))
    done = train_preference(asked)
    assert [line["rewards/accuracies"] for line in log(tmp_path / "run") if "loss" in line][-1] == 1.0
    assert done.metrics["eval_rewards/accuracies"] == 0.0


def test_empty_responses_may_be_asked_for(tmp_path):
    empty = {"prompt": "Fruit 9:", "chosen": " plums", "rejected": ""}
    data = PreferenceData(train=str(write(tmp_path / "train.jsonl", [*pairs(3), empty])))
    assert data.selections(seed=0)["train"].summary() == {"empty responses": 1}
    kept = replace(data, drop_empty=False).selections(seed=0)["train"]
    assert (len(kept.kept), kept.summary()) == (4, {})


def test_dialogues_whose_prompts_differ_are_listed(base, tmp_path):
    def dialogue(prompt, answer):
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]

    records = [{"chosen": dialogue("Fruit?", "Plums"), "rejected": dialogue("Fruit?", "Pears")} for _ in range(3)]
    records.append({"chosen": dialogue("Fruit?", "Plums"), "rejected": dialogue("Other?", "Pears")})
    asked = recipe(base, tmp_path, records, max_steps=1)
    done = train_preference(replace(asked, data=replace(asked.data, max_length=100)))
    assert done.dropped == {"train/prompts differ": 1}
    assert load_policy_checkpoint(done.model).form.kind == "chat"


def test_text_is_rendered_as_the_model_was_trained(base, tmp_path):
    """A policy fine-tuned on chat reads plain prompts as a user's turn."""
    dialogue = [
        {"messages": [{"role": "user", "content": f"Fruit {i}"}, {"role": "assistant", "content": "plums"}]}
        for i in range(4)
    ]
    tuned = train_sft(
        TrainSft(
            model=str(base),
            output=tmp_path / "sft",
            data=Demonstrations(train=str(write(tmp_path / "sft.jsonl", dialogue)), max_length=64),
            max_steps=1,
        )
    ).model
    asked = recipe(tuned, tmp_path, max_steps=1)
    done = train_preference(replace(asked, data=replace(asked.data, max_length=50)))
    form = load_policy_checkpoint(done.model).form
    assert (form.kind, form.max_length) == ("chat", 50)


# Rewards of other objectives


def brief(prompts, completions):
    """A reward for every character less."""
    return [-0.1 * len(text) for text in completions]


def not_finite(prompts, completions):
    return [float("nan")] * len(completions)


def test_modpo_takes_the_weighted_rewards_of_the_others(base, tmp_path):
    """At the reference the margin is that of the rewards alone, weighted and divided by the method's weight."""
    method = MODPO(beta=0.5, weight=0.6)
    records = [{"prompt": "Fruit:", "chosen": " plums and pears", "rejected": " plums"}] * 4
    records = [one | {"prompt": f"Fruit {i}:"} for i, one in enumerate(records)]
    asked = recipe(base, tmp_path, records, method=method, reward=f"{__name__}:brief", max_steps=1)
    train_preference(asked)
    margin = -0.4 * -0.1 * len(" and pears") / 0.6
    assert log(tmp_path / "run")[0]["rewards/margins"] == pytest.approx(margin, abs=1e-5)
    assert logged(tmp_path / "run", "loss")[0] == pytest.approx(math.log1p(math.exp(-margin)), abs=1e-5)


def test_a_reward_that_is_not_finite_stops_the_run(base, tmp_path, capsys):
    words = ["--model", base, "--output", tmp_path / "run", "--data.train", write(tmp_path / "t.jsonl", pairs(3))]
    words += ["--method", "modpo", "--reward", f"{__name__}:not_finite"]
    assert main(["train", "preference", *map(str, words)]) == 2
    assert "nan" in capsys.readouterr().err


# Stopped and gone on with


@pytest.mark.parametrize("lora", [None, LoraRecipe(rank=2, dropout=0.3)])
def test_a_killed_run_goes_on_to_the_same_model(lora, base, tmp_path):
    """Bit for bit, whether the reference's log-probabilities are still there or not."""
    asked = recipe(base, tmp_path, save_steps=2, lora=lora, max_steps=5, regularizers=[ChosenLikelihood()])
    train_preference(replace(asked, output=tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_preference(asked, callbacks=[Killed(3)])
    assert not (tmp_path / "run" / "model").exists()
    for entry in (tmp_path / "cache" / "logprobs").iterdir():
        entry.unlink()
    train_preference(replace(asked, resume=True))
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    files = [tmp_path / place / "model" / name for place in ("run", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [line["step"] for line in log(tmp_path / "run") if "loss" in line] == [1, 2, 3, 4, 5]


def test_another_recipe_or_other_data_do_not_go_on(base, tmp_path):
    asked = recipe(base, tmp_path, save_steps=2)
    with pytest.raises(KeyboardInterrupt):
        train_preference(asked, callbacks=[Killed(3)])
    with pytest.raises(OutputError, match="holds an earlier run"):
        train_preference(asked)
    with pytest.raises(RecipeError, match="method"):
        train_preference(replace(asked, resume=True, method=DPO(beta=0.7)))
    write(tmp_path / "train.jsonl", pairs(13))
    with pytest.raises(DataError, match="the rows have changed"):
        train_preference(replace(asked, resume=True))
