"""A-LoL and its relatives by `trueup train preference`: what responses weigh, what is left out, and what is refused."""

import json
from dataclasses import replace
from functools import cache
from math import ceil
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kills import Killed
from run_files import logged, read, write
from trueup.cli import main
from trueup.data.replies import encode_prompts
from trueup.data.rows import Origin, Response, Row
from trueup.data.templates import infer_format
from trueup.errors import DataError, NonFiniteError, RecipeError
from trueup.models.tokenizers import load_tokenizer
from trueup.objectives.advantage.a_lol import ALol
from trueup.objectives.advantage.a_lol_ref_free import ALolRefFree
from trueup.objectives.advantage.r_lol import RLol
from trueup.objectives.advantage.wbc import WBC
from trueup.recipes.advantage_rows import _with_responses
from trueup.recipes.advantage_settings import AdvantageRecipe, ValueRecipe
from trueup.recipes.advantages import _rewards
from trueup.recipes.preference_settings import PreferenceData, TrainPreference
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_preference import train_preference
from trueup.rewards.base import Scores
from trueup.train.prepare import prepare_replies
from trueup.train.priority import priority_rows
from trueup.train.prompt_values import prompt_ids

FRUITS = ("plums", "pears", "figs")
VALUES = ValueRecipe(prompts=8, samples=2, max_new_tokens=3, epochs=2)
ASKED: list[int] = []


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    ASKED.clear()


def long_is_good(prompts, completions):
    ASKED.append(len(completions))
    return [min(len(text), 16) / 16 for text in completions]


def score(prompts, completions):
    return [float(len(text)) - 6 for text in completions]


def constant(prompts, completions):
    return [0.5] * len(completions)


def nothing(prompts, completions):
    return [0.0] * len(completions)


def not_finite(prompts, completions):
    return [float("nan")] * len(completions)


LONG = f"{__name__}:long_is_good"


def pairs(count: int, first: int = 0):
    """Chosen responses of many lengths."""
    return [
        {"prompt": f"Fruit {i}:", "chosen": " " + "plums"[: 1 + i % 5] * (1 + i % 4), "rejected": " figs"}
        for i in range(first, first + count)
    ]


def demonstrations(count: int):
    return [{"prompt": f"Fruit {i}:", "completion": f" {FRUITS[i % 3]} {'p' * (i % 7)}"} for i in range(count)]


def groups(count: int):
    """Three responses that share their beginning, unlike in length."""
    return [
        {"prompt": f"Fruit {i}:", "responses": [{"text": " p" + "p" * (5 * s), "score": s} for s in range(3)]}
        for i in range(count)
    ]


def recipe(base: Path, folder: Path, records=None, **changes) -> TrainPreference:
    data = PreferenceData(train=str(write(folder / "train.jsonl", records or pairs(12))), max_length=40)
    known = {"output": folder / "run", "data": data, "max_steps": 2, "batch_size": 4, "learning_rate": 1e-3}
    known |= {"method": ALol(), "reward": LONG, "advantage": AdvantageRecipe(value=VALUES), "logging_steps": 1}
    return TrainPreference(model=str(base), **(known | changes))


def weights(run: Path) -> bytes:
    return next((run / "model").glob("*model.safetensors")).read_bytes()


@cache
def loaded(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def plain(folder: Path, prompt: str, response: str) -> float:
    """Log-probability of a response and its end, by plain transformers."""
    model, tokenizer = loaded(folder)
    asked = tokenizer(prompt)["input_ids"]
    ids = [*asked, *tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(ids[len(asked) :])[:, None]).sum())


# End to end


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory) -> Path:
    """A finished run from the command line; nobody may change it."""
    folder = tmp_path_factory.mktemp("advantage")
    words = ["--model", base, "--output", folder / "run", "--data.train", write(folder / "train.jsonl", pairs(20))]
    words += ["--data.eval", write(folder / "eval.jsonl", pairs(5, first=30)), "--data.cache", folder / "cache"]
    words += ["--data.max_length", 40, "--method", "a_lol", "--reward", LONG, "--epochs", 2, "--batch_size", 4]
    words += ["--learning_rate", 1e-3, "--logging_steps", 1]
    for name in ("prompts", "samples", "max_new_tokens", "epochs"):
        words += [f"--advantage.value.{name}", getattr(VALUES, name)]
    assert main(["train", "preference", *map(str, words)]) == 0
    return folder / "run"


def test_advantages_are_rewards_less_values(finished):
    found = read(finished / "advantages.jsonl")
    assert [one["split"] for one in found] == ["train"] * 20 + ["eval"] * 5
    for one, record in zip(found, [*pairs(20), *pairs(5, first=30)], strict=True):
        assert one["reward"] == min(len(record["chosen"]), 16) / 16  # of the chosen response alone
        assert one["advantage"] == one["reward"] - one["value"]
        assert 0 < one["value"] < 1
    about = json.loads((finished / "advantages.json").read_text())["fit"]
    assert (about["development_prompts"], about["samples"], len(about["errors"])) == (8, 2, 3)


def test_what_is_not_better_is_dropped_counted_and_listed(finished):
    found = [one["advantage"] for one in read(finished / "advantages.jsonl") if one["split"] == "train"]
    positive = sum(one > 1e-6 for one in found)
    assert 0 < positive < 20
    listed = [one["row"] for one in read(finished / "dropped-train.jsonl") if one["reason"] == "no positive advantage"]
    assert listed == [i + 1 for i, one in enumerate(found) if one <= 1e-6]
    assert {one["reason"] for one in read(finished / "dropped-eval.jsonl")} == {"response rejected"}
    side = json.loads((finished / "model" / "trueup.json").read_text())
    assert side["advantages"]["kept_share"] == positive / 20
    assert side["advantages"]["mean_reward"] - side["advantages"]["mean_value"] == pytest.approx(np.mean(found))
    assert side["dropped"]["train/no positive advantage"] == 20 - positive
    assert f"{positive} of 20" in (finished / "report.html").read_text()
    assert len(logged(finished, "loss")) == 2 * ceil(positive / 4)


def test_the_first_step_is_the_formula_on_rows_drawn_by_advantage(finished, base):
    kept = [
        (one["advantage"], record)
        for one, record in zip(read(finished / "advantages.jsonl"), pairs(20), strict=False)
        if one["advantage"] > 1e-6
    ]
    drawn = [kept[i] for i in priority_rows([one for one, _ in kept], step=0, count=4, seed=0)]
    expected = [-weight * plain(base, one["prompt"], one["chosen"]) for weight, one in drawn]
    assert logged(finished, "loss")[0] == pytest.approx(np.mean(expected), rel=1e-4)
    best = max(kept, key=lambda one: one[0])[1]
    before, after = (plain(folder, best["prompt"], best["chosen"]) for folder in (base, finished / "model"))
    assert after > before + 1


# The prompt's tokens


@pytest.mark.parametrize("text", ["Fruit: ", "Fruit:"])
def test_values_read_prompts_and_nothing_of_responses(text, base):
    tokenizer = load_tokenizer(str(base))
    shared = (Response(text="plums and pears"), Response(text="plums and figs"))
    rows = [
        Row(prompt=f"{text}{i}", responses=one, id=str(i), origin=Origin("f", i))
        for i, one in enumerate([shared, shared[:1], (Response(text="plums"), Response(text="plums plums"))])
    ]
    form = infer_format(rows, tokenizer, max_length=64, kind="plain")
    dataset = prepare_replies(rows, tokenizer=tokenizer, form=form).dataset
    found = prompt_ids([dataset[i] for i in range(3)])
    assert found == encode_prompts([row.prompt for row in rows], tokenizer=tokenizer, form=form)


# Which responses


def test_single_responses_are_enough(base, tmp_path):
    done = train_preference(recipe(base, tmp_path, demonstrations(14)))
    found = [one["advantage"] > 1e-6 for one in read(tmp_path / "run" / "advantages.jsonl")]
    assert len(found) == 14
    assert done.metrics["kept_share"] == sum(found) / 14
    assert sum(found) > 0


def test_all_responses_may_be_used_and_each_is_kept_by_itself(base, tmp_path):
    asked = recipe(base, tmp_path, groups(6), max_steps=1)
    asked = replace(asked, data=replace(asked.data, responses="all"))
    done = train_preference(asked)
    found = read(tmp_path / "run" / "advantages.jsonl")
    assert [one["response"] for one in found] == [1, 2, 3] * 6
    worse = [i for i, one in enumerate(found) if one["advantage"] <= 1e-6]
    assert 0 < len(worse) < 18
    reasons = ("train/response without positive advantage", "train/no positive advantage")
    rows_lost = sum(all(3 * row + place in worse for place in range(3)) for row in range(6))
    assert done.dropped.get(reasons[1], 0) == rows_lost
    assert done.dropped.get(reasons[0], 0) == len(worse) - 3 * rows_lost
    kept = [sum(found[3 * row + k]["advantage"] for k in range(3) if 3 * row + k not in worse) for row in range(6)]
    kept = [one for one in kept if one > 0]
    drawn = priority_rows(kept, step=0, count=4, seed=0)
    whole = [row for row in range(6) if not all(3 * row + place in worse for place in range(3))]
    terms = [
        -found[3 * whole[i] + k]["advantage"] * plain(base, f"Fruit {whole[i]}:", " p" + "p" * (5 * k))
        for i in drawn
        for k in range(3)
        if 3 * whole[i] + k not in worse
    ]
    assert logged(tmp_path / "run", "loss")[0] == pytest.approx(np.mean(terms), rel=1e-4)


def test_some_responses_of_a_row_keep_their_tokens(base):
    tokenizer = load_tokenizer(str(base))
    rows = [
        Row(
            prompt=f"Fruit {i}:",
            responses=tuple(Response(text=f" {fruit} {i}") for fruit in FRUITS),
            id=str(i),
            origin=Origin("f", i),
        )
        for i in range(4)
    ]
    form = infer_format(rows, tokenizer, max_length=64, kind="plain")
    dataset = prepare_replies(rows, tokenizer=tokenizer, form=form).dataset
    wanted = [np.array(one, bool) for one in ([1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1])]
    part = _with_responses(dataset, wanted)
    assert [len(part.text(i).responses) for i in range(len(part))] == [2, 1, 3]
    for number, (old, kept) in enumerate((i, one) for i, one in enumerate(wanted) if one.any()):
        expected = [ids.tolist() for ids, use in zip(dataset[old].sequences(), kept, strict=True) if use]
        assert [ids.tolist() for ids in part[number].sequences()] == expected
        assert part.describe(part[number].index)["prompt"] == f"Fruit {old}:"


def test_flipped_labels_choose_the_other_response(base, tmp_path):
    asked = recipe(base, tmp_path, method=WBC(), advantage=None, max_steps=1)
    train_preference(replace(asked, data=replace(asked.data, flip=1.0)))
    assert {one["reward"] for one in read(tmp_path / "run" / "advantages.jsonl")} == {len(" figs") / 16}


# Rewards in the place of advantages


def test_rewards_weigh_by_themselves(base, tmp_path):
    train_preference(recipe(base, tmp_path, method=RLol(), advantage=None, max_steps=1))
    found = read(tmp_path / "run" / "advantages.jsonl")
    assert not any("value" in one for one in found)
    earned, records = [one["reward"] for one in found], pairs(12)
    drawn = priority_rows(earned, step=0, count=4, seed=0)
    expected = [-earned[i] * plain(base, records[i]["prompt"], records[i]["chosen"]) for i in drawn]
    assert logged(tmp_path / "run", "loss")[0] == pytest.approx(np.mean(expected), rel=1e-4)
    assert ASKED == [12]


def test_without_priority_every_row_is_learned_from_once_an_epoch(base, tmp_path):
    how = AdvantageRecipe(priority=False)
    train_preference(
        recipe(base, tmp_path, method=WBC(), advantage=how, max_steps=None, batch_size=12, learning_rate=1e-9)
    )
    found, records = read(tmp_path / "run" / "advantages.jsonl"), pairs(12)
    expected = [-one["reward"] * plain(base, r["prompt"], r["chosen"]) for one, r in zip(found, records, strict=True)]
    assert logged(tmp_path / "run", "loss") == [pytest.approx(np.mean(expected), rel=1e-4)]


def test_scores_of_reward_models_are_squashed(base, tmp_path):
    how = AdvantageRecipe(scale="sigmoid", reward_max=2.0)
    train_preference(recipe(base, tmp_path, method=WBC(), reward=f"{__name__}:score", advantage=how, max_steps=1))
    for one, record in zip(read(tmp_path / "run" / "advantages.jsonl"), pairs(12), strict=True):
        assert one["reward"] == pytest.approx(2 / (1 + np.exp(6.0 - len(record["chosen"]))), rel=1e-12)


def test_several_rewards_are_added_with_their_weights(base, tmp_path):
    rewards = {"long": LONG, "same": f"{__name__}:constant"}
    asked = recipe(base, tmp_path, method=WBC(), reward=rewards, advantage=AdvantageRecipe(reward_max=2.0), max_steps=1)
    assert asked.weights == [1.0, 1.0]
    train_preference(replace(asked, reward_weights=[0.5, 1.0]))
    for one, record in zip(read(tmp_path / "run" / "advantages.jsonl"), pairs(12), strict=True):
        assert one["reward"] == pytest.approx(0.5 * min(len(record["chosen"]), 16) / 16 + 0.5)


# References


def test_an_adapter_has_the_values_of_its_base(base, tmp_path):
    train_preference(recipe(base, tmp_path, output=tmp_path / "whole", max_steps=1))
    train_preference(recipe(base, tmp_path, output=tmp_path / "lora", max_steps=1, lora=LoraRecipe(rank=2)))
    found = [[one["value"] for one in read(tmp_path / name / "advantages.jsonl")] for name in ("whole", "lora")]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert logged(tmp_path / "whole", "loss")[0] == pytest.approx(logged(tmp_path / "lora", "loss")[0], rel=1e-4)


def test_values_may_be_those_of_another_reference_and_other_prompts(base, tmp_path):
    other = recipe(base, tmp_path, output=tmp_path / "moved", method=WBC(), advantage=None, learning_rate=0.1)
    moved = train_preference(replace(other, max_steps=1)).model
    prompts = write(tmp_path / "development.jsonl", [{"prompt": f"Other {i}?"} for i in range(6)])
    how = AdvantageRecipe(value=replace(VALUES, development=str(prompts)))
    for name, reference in (("own", None), ("other", str(moved))):
        output = tmp_path / name
        asked = recipe(base, tmp_path, output=output, reference=reference, method=ALolRefFree(), advantage=how)
        train_preference(replace(asked, max_steps=1))
        assert json.loads((output / "advantages.json").read_text())["fit"]["development_prompts"] == 6
    own, other = ([one["value"] for one in read(tmp_path / name / "advantages.jsonl")] for name in ("own", "other"))
    assert max(abs(a - b) for a, b in zip(own, other, strict=True)) > 1e-4


# Stopped and gone on with


def test_a_killed_run_goes_on_to_the_same_model(base, tmp_path, caplog):
    """Nothing is scored or drawn again, unless what was found is damaged; then it is found again."""
    asked = recipe(base, tmp_path, save_steps=2, max_steps=4)
    train_preference(replace(asked, output=tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_preference(asked, callbacks=[Killed(3)])
    copytree(tmp_path / "run", tmp_path / "damaged")
    path = tmp_path / "damaged" / "advantages.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    ASKED.clear()
    train_preference(replace(asked, resume=True))
    assert not ASKED
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    train_preference(replace(asked, resume=True, output=tmp_path / "damaged"))
    assert "computed again" in caplog.text
    assert path.read_bytes() == content
    assert weights(tmp_path / "damaged") == weights(tmp_path / "whole")


def test_what_another_run_left_is_not_taken(base, tmp_path):
    """Without --resume everything is found anew."""
    (tmp_path / "run").mkdir()
    cloning = recipe(base, tmp_path, method=WBC(), advantage=None, max_steps=1)
    train_preference(replace(cloning, output=tmp_path / "first"))
    for name in ("advantages.jsonl", "advantages.json"):
        (tmp_path / "run" / name).write_bytes((tmp_path / "first" / name).read_bytes())
    ASKED.clear()
    train_preference(cloning)
    assert ASKED == [12]


# Refused


@pytest.mark.parametrize(
    ("reward", "changes", "error", "words"),
    [
        ("constant", {}, DataError, "none of 12 responses has a positive advantage"),
        ("nothing", {"method": WBC(), "advantage": None}, DataError, "the reward of all 12 responses is 0"),
        ("score", {}, DataError, r"train.jsonl:1: .*expected rewards in \[0, 1\]; set advantage.scale to sigmoid"),
        ("not_finite", {}, RecipeError, "not_finite returned nan for response 0"),
        (
            "constant",
            {"advantage": AdvantageRecipe(value=replace(VALUES, max_new_tokens=39))},
            DataError,
            "0 of 12 different prompts leave room",
        ),
    ],
)
def test_what_cannot_be_weighed_is_one_clear_message(reward, changes, error, words, base, tmp_path):
    with pytest.raises(error, match=words):
        train_preference(recipe(base, tmp_path, reward=f"{__name__}:{reward}", **changes))
    assert not (tmp_path / "run" / "model").exists()


class Broken:
    """A reward that gives the second of three responses no number."""

    name = "broken"

    def score(self, prompts, responses):
        return Scores(reward=np.array([0.1, np.nan, 0.2]), prompt=np.array([0, 1, 1]), length=np.ones(3))


def test_a_reward_model_s_nan_names_the_row(base, tmp_path):
    origins = [Origin("f.jsonl", 4), Origin("f.jsonl", 9)]
    with pytest.raises(NonFiniteError, match=r"f.jsonl:9: a reward of a response"):
        _rewards(recipe(base, tmp_path), Broken(), ["a", "b"], [["x"], ["y", "z"]], origins=origins)


def test_rows_without_text_are_refused(base, tmp_path):
    with pytest.raises(DataError, match="zero usable rows"):
        train_preference(recipe(base, tmp_path, [{"prompt": "Fruit:", "completion": " "}]))
