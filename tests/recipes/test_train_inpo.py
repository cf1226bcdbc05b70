"""`trueup train inpo`, from prompts to the last policy: what it leaves, and that a stop anywhere changes nothing."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import small_inpo
from kills import Killed
from run_files import same, tensors
from small_inpo import ASKED, FAILS_AFTER, forget, small_recipe, write_prompts
from trueup.cli import main
from trueup.endpoints.failure import EndpointError
from trueup.errors import DataError, OutputError, RecipeError
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.objectives import IPO
from trueup.recipes import inpo_pairs
from trueup.recipes import train_inpo as module
from trueup.recipes.config import dump
from trueup.recipes.inpo_settings import InpoWatch
from trueup.recipes.preference_settings import PreferenceData, TrainPreference
from trueup.recipes.train_inpo import train_inpo
from trueup.recipes.train_preference import train_preference


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    forget()


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """Two watched rounds without a stop; nobody may change them. The recipe, and what was asked and told."""
    folder = tmp_path_factory.mktemp("whole")
    watch = InpoWatch(prompts=str(write_prompts(folder / "watch.jsonl", range(50, 53))), samples=2, resamples=50)
    recipe = small_recipe(base, folder, watch=watch, batch_size=6, epochs=2)
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUEUP_CACHE", str(folder / "cache"))
        found = train_inpo(recipe)
    return recipe, list(ASKED), found


def read(path: Path):
    return json.loads(path.read_text())


def pairs(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]


# What it leaves


def test_each_round_leaves_its_samples_pairs_and_policy(whole):
    recipe, _, found = whole
    rounds = read(recipe.output / "rounds.json")
    assert [one["round"] for one in rounds] == [1, 2]
    assert found.rounds == rounds
    assert found.model == recipe.output / "round-2" / "model"
    for number, told in enumerate(rounds, 1):
        folder = recipe.output / f"round-{number}"
        assert {path.name for path in folder.iterdir()} >= {
            "samples",
            "pairs.jsonl",
            "pairs.json",
            "dropped.jsonl",
            "model",
        }
        made = pairs(folder)
        dropped = [json.loads(line) for line in (folder / "dropped.jsonl").read_text().splitlines()]
        assert all(set(one) == {"id", "prompt", "chosen", "rejected"} for one in made)
        assert told["pairs"] == len(made)
        assert told["dropped"] == dict(Counter(one["reason"] for one in dropped))
        assert told["pairs"] + sum(told["dropped"].values()) == told["prompts"] == 6
        assert told["comparisons"] == 6 * 5
        assert told["dropped_in_training"] == {}
        provenance = read(folder / "pairs.json")
        assert provenance["oracle"] == "small_inpo:prefer"
        assert provenance["drawn"]["policy"] == (
            recipe.model if number == 1 else str(recipe.output / "round-1" / "model")
        )


def test_the_rounds_ask_different_prompts(whole):
    recipe, _, _ = whole
    dealt = read(recipe.output / "prompts.json")["rounds"]
    assert [len(part) for part in dealt] == [6, 6]
    assert len({name for part in dealt for name in part}) == 12
    asked = [{one["prompt"] for one in pairs(recipe.output / f"round-{number}")} for number in (1, 2)]
    assert not asked[0] & asked[1]


def test_a_round_is_held_to_the_start_and_to_the_round_before(whole):
    """The first step's loss over all pairs of a round, by plain transformers: h = (log pi_t - log pi_1) / 3 there."""
    recipe, _, _ = whole
    places = [Path(recipe.model), recipe.output / "round-1" / "model"]
    for number in (1, 2):
        folder, losses = recipe.output / f"round-{number}", []
        for one in pairs(folder):
            h = [
                sum(sign * plain(places[k], one["prompt"], one[side]) for k, sign in ((number - 1, 1), (0, -1))) / 3
                for side in ("chosen", "rejected")
            ]
            losses.append((h[0] - h[1] - 1 / (2 * recipe.eta)) ** 2)
        told = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["loss/inpo"]
        assert told == pytest.approx(sum(losses) / len(losses), rel=1e-5)
        assert (abs(told - 1 / (4 * recipe.eta**2)) < 1e-3) == (number == 1)


def plain(folder: Path, prompt: str, response: str) -> float:
    """Log-probability of a response and its end."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    asked, whole = tokenizer(prompt)["input_ids"], tokenizer(prompt + response)["input_ids"]
    if whole[: len(asked)] != asked or len(whole) == len(asked):
        whole = asked + tokenizer(response, add_special_tokens=False)["input_ids"]
    ids = [*whole, tokenizer.eos_token_id]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(asked) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(ids[len(asked) :])[:, None]).sum())


def test_what_was_gained_is_told(whole):
    recipe, _, found = whole
    first, second = read(recipe.output / "rounds.json")
    assert first["watch"]["previous"] == first["watch"]["start"]
    for told in (first, second):
        for against in ("previous", "start"):
            one = told["watch"][against]
            assert 0 <= one["win_rate"]["low"] <= one["win_rate"]["value"] <= one["win_rate"]["high"] <= 1
            assert one["kl"]["n"] == one["win_rate"]["n"] == 3
    assert second["watch"]["previous"]["kl"] != second["watch"]["start"]["kl"]
    lines = found.summary().splitlines()
    assert lines[0].startswith(f"round 1: {first['pairs']} pairs of 6 prompts")
    assert "against the round before: win rate" in lines[1]
    assert "nats" in lines[2]
    assert lines[-1] == f"policy: {found.model}"


def test_nothing_is_asked_twice(whole):
    _, asked, _ = whole
    assert max(Counter(asked).values()) == 1


def test_the_oracle_is_asked_in_both_orders_and_told_of(whole):
    recipe, asked, _ = whole
    assert {(p, b, a) for p, a, b in asked if a != b} == {one for one in asked if one[1] != one[2]}
    told = read(recipe.output / "oracle.json")
    made = pairs(recipe.output / "round-1")
    excess = []
    for one in made:
        both = (one["chosen"], one["rejected"]), (one["rejected"], one["chosen"])
        excess.append(sum(small_inpo.prefer(["x"], [a], [b])[0] for a, b in both) - 1)
    assert told["comparisons"] == len(made)
    assert told["mean"] == pytest.approx(sum(map(abs, excess)) / len(excess))
    assert told["asked_in_both_orders"] is True


# Limits


def test_with_tau_equal_to_eta_one_round_is_ipo_on_its_pairs(base, tmp_path):
    recipe = small_recipe(base, tmp_path, prompts=6, rounds=1, pairs="iid", samples=None, eta=0.3, tau=0.3)
    found = train_inpo(recipe)
    alone = TrainPreference(
        model=str(base),
        output=tmp_path / "ipo",
        data=PreferenceData(train=str(recipe.output / "round-1" / "pairs.jsonl"), max_length=64, drop_empty=False),
        method=IPO(beta=0.3),
        reference=str(base),
        batch_size=2,
        learning_rate=1e-3,
        schedule="cosine",
        warmup=0.03,
    )
    other = train_preference(alone)
    one, two, start = tensors(found.model.parent), tensors(other.model.parent), load_file(base / "model.safetensors")
    assert max(float((one[name] - start[name]).abs().max()) for name in one) > 1e-4
    for name in one:
        assert torch.allclose(one[name], two[name], atol=1e-7), name


# Stopped and gone on with


def test_a_stop_anywhere_ends_in_the_same_policy(whole, base, tmp_path, monkeypatch, caplog):
    """After drawing, between answers, in the middle of both trainings, and before the last look."""
    recipe, asked, _ = whole
    recipe = replace(recipe, output=tmp_path / "stopped", save_steps=1)
    drawn = []
    real = inpo_pairs.draw_pool
    monkeypatch.setattr(inpo_pairs, "draw_pool", lambda *a, **k: drawn.append(k["ids"]) or real(*a, **k))
    forget()
    FAILS_AFTER[:] = [0]
    with pytest.raises(EndpointError):  # all responses are drawn, and no answer came
        train_inpo(recipe)
    assert "stopped in round 1; the same command with --resume" in caplog.text
    recipe = replace(recipe, resume=True)
    FAILS_AFTER[:] = [30]
    with pytest.raises(EndpointError):  # the first games are decided
        train_inpo(recipe)
    assert 0 < len(ASKED) <= 30
    FAILS_AFTER.clear()
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            train_inpo(recipe, callbacks=[Killed(1, run=f"round-{number}")])
        assert not (recipe.output / f"round-{number}" / "model").exists()
    with monkeypatch.context() as patch:
        patch.setattr(module, "watch_round", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_inpo(recipe)
    found = train_inpo(recipe)
    assert len(drawn) == 2
    assert sorted(ASKED) == sorted(asked)
    first = whole[0].output
    for number in (1, 2):
        ours, theirs = recipe.output / f"round-{number}", first / f"round-{number}"
        assert (ours / "pairs.jsonl").read_bytes() == (theirs / "pairs.jsonl").read_bytes()
        assert same(tensors(ours), tensors(theirs))
    told = json.dumps(found.rounds).replace(str(recipe.output), str(first))
    assert json.loads(told) == read(first / "rounds.json")


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_a_finished_run_gone_on_with_makes_nothing(whole, monkeypatch):
    recipe, _, found = whole
    before = {path: path.stat().st_mtime_ns for path in recipe.output.glob("round-*/model/*")}
    monkeypatch.setattr(module, "train_preference", _interrupted)
    again = train_inpo(replace(recipe, resume=True))
    assert not ASKED
    assert again.rounds == found.rounds
    assert {path: path.stat().st_mtime_ns for path in recipe.output.glob("round-*/model/*")} == before


def test_another_run_is_not_gone_on_with(whole, tmp_path):
    recipe, _, _ = whole
    with pytest.raises(OutputError, match="holds an earlier run"):
        train_inpo(recipe)
    with pytest.raises(RecipeError, match="begun with another recipe: eta"):
        train_inpo(replace(recipe, resume=True, eta=0.2))
    output = tmp_path / "other"
    output.mkdir()
    (output / "prompts.json").write_text((recipe.output / "prompts.json").read_text().replace("row-3", "row-99"))
    (output / "recipe.yaml").write_text(dump(recipe))
    with pytest.raises(DataError, match="the prompts have changed"):
        train_inpo(replace(recipe, output=output, resume=True))


# What cannot be used


def test_what_cannot_be_used_stops_the_run_before_it_draws(base, tmp_path, capsys):
    recipe = small_recipe(base, tmp_path, prompts=5)
    words = ["train", "inpo", "--model", base, "--output", recipe.output, "--data.train", recipe.data.train]
    words = [*map(str, words), "--max_new_tokens", "5"]
    for more, message in (
        (["--oracle", "small_inpo:prefer", "--prompts_per_round", "3"], "too few for 3 rounds of 3"),
        (["--oracle", "small_inpo:nothing"], "small_inpo:nothing: cannot be imported"),
        (["--oracle", "small_inpo:prefer", "--pairs", "best_worst"], "best_worst chooses by a reward"),
        (["--oracle", "small_inpo:prefer", "--watch.prompts", recipe.data.train, "--rounds", "1"], "are trained on"),
        (["--oracle", "small_inpo:prefer", "--samples", "3"], "power of two"),
    ):
        assert main([*words, *more]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert "Traceback" not in told
        assert not recipe.output.exists()


def test_interrupted_it_says_how_to_go_on(base, tmp_path, capsys, monkeypatch):
    recipe = small_recipe(base, tmp_path, prompts=2, rounds=1)
    monkeypatch.setattr(module, "make_pairs", _interrupted)
    words = ["--model", base, "--output", recipe.output, "--data.train", recipe.data.train, "--rounds", 1]
    assert main(["train", "inpo", *map(str, words), "--oracle", "small_inpo:prefer", "--max_new_tokens", "5"]) == 130
    assert "with --resume goes on from what was drawn, compared and learned" in capsys.readouterr().err


def test_the_policy_it_leaves_is_one_that_others_load(whole):
    _, _, found = whole
    checkpoint = load_policy_checkpoint(found.model)
    assert checkpoint.provenance["recipe"]["method"]["name"] == "inpo"
    assert checkpoint.provenance["recipe"]["reference"] == whole[0].model
