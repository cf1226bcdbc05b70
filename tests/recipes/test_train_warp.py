"""`trueup train warp`: everything is made once, and after a stop what is missing is made."""

import json
from dataclasses import replace

import pytest

from tiny_models import make_tokenizer, save_base
from trueup.cli import main
from trueup.errors import OutputError, RecipeError
from trueup.recipes import train_warp as module
from trueup.recipes.policy_settings import PromptsRecipe, WatchRecipe
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_warp import FRONT, TrainWarp, train_warp

QUESTIONS = [f"question {i}" for i in range(10)]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "warp_judge.py").write_text(
        "def judge(prompts, completions):\n    return [float(len(text) % 7) for text in completions]\n"
    )
    for name, texts in (("train", QUESTIONS[:6]), ("watch", QUESTIONS[6:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    base = save_base(tmp_path / "base", make_tokenizer(pad="<pad>"))
    return TrainWarp(
        model=str(base),
        output=tmp_path / "warp",
        data=PromptsRecipe(train=str(tmp_path / "train.jsonl")),
        reward="warp_judge:judge",
        watch=WatchRecipe(prompts=str(tmp_path / "watch.jsonl"), every=100, samples=2),
        iterations=2,
        runs=2,
        front=[0.5, 1.0],
        batch_size=2,
        samples=2,
        max_new_tokens=4,
        max_steps=1,
        learning_rate=1e-3,
    )


def test_everything_is_made_and_a_stop_costs_only_what_was_missing(recipe, monkeypatch):
    done = []
    real = module.train_policy

    def stopping(piece, *, callbacks=()):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((piece.output.parent.name, piece.output.name, piece.seed, piece.model))
        return real(piece, callbacks=callbacks)

    monkeypatch.setattr(module, "train_policy", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_warp(recipe)
    assert [one[:3] for one in done] == [
        ("iteration-1", "run-1", 0),
        ("iteration-1", "run-2", 1),
        ("iteration-2", "run-1", 2),
    ]
    assert done[2][3] == str(recipe.output / "iteration-2" / "start")

    again = []
    monkeypatch.setattr(module, "train_policy", lambda piece, *, callbacks=(): again.append(piece.seed) or real(piece))
    with pytest.raises(OutputError, match="--resume"):
        train_warp(recipe)
    found = train_warp(replace(recipe, resume=True))
    assert again == [3]
    assert set(found.front) == {0.5, 1.0}
    measured = json.loads((recipe.output / FRONT).read_text())
    assert measured["0.5"].keys() == {"kl", "reward"}
    assert all((folder / "model.safetensors").is_file() for folder in found.front.values())


def test_adapters_are_refused(recipe):
    with pytest.raises(RecipeError, match="merges whole models"):
        replace(recipe, lora=LoraRecipe())


def test_from_the_command_line(recipe, capsys):
    words = ["train", "warp", "--model", recipe.model, "--output", str(recipe.output), "--reward", "warp_judge:judge"]
    words += ["--data.train", recipe.data.train, "--iterations", "0"]
    assert main(words) == 2
    assert "iterations and runs must be at least 1" in capsys.readouterr().err
