"""INPO with adapters: each round trains a new one on the policy of the round before, and leaves a whole policy."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from recipes.test_train_inpo import pairs, plain
from run_files import same, tensors
from small_inpo import small_recipe
from trueup.recipes import train_inpo as module
from trueup.recipes.run_settings import LoraRecipe
from trueup.recipes.train_inpo import train_inpo


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """Two rounds without a stop, at a rate that moves the policy."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUEUP_CACHE", str(folder / "cache"))
        recipe = small_recipe(
            base, folder, lora=LoraRecipe(rank=2, alpha=8), batch_size=6, epochs=2, learning_rate=0.02
        )
        return recipe, train_inpo(recipe)


def policies(output: Path) -> list[Path]:
    return [output / f"round-{number}" / "merged" for number in (1, 2)]


def test_each_round_leaves_a_whole_policy(whole, base):
    recipe, found = whole
    first, second = policies(recipe.output)
    assert found.model == second
    assert [one["model"] for one in found.rounds] == [str(first), str(second)]
    told = json.loads((recipe.output / "round-2" / "pairs.json").read_text())
    assert told["drawn"]["policy"] == str(first)
    adapter = json.loads((recipe.output / "round-2" / "model" / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(first.resolve())
    weights = [AutoModelForCausalLM.from_pretrained(place).state_dict() for place in (base, first, second)]
    for before, after in itertools.pairwise(weights):
        assert max(float((before[name] - after[name]).abs().max()) for name in before) > 1e-3


def test_a_round_is_held_to_the_start_and_to_the_round_before(whole):
    """The first step's loss over all pairs of a round, by plain transformers: h = (log pi_t - log pi_1) / 3 there."""
    recipe, _ = whole
    first, _ = policies(recipe.output)
    folder, losses = recipe.output / "round-2", []
    for one in pairs(folder):
        h = [
            (plain(first, one["prompt"], text) - plain(Path(recipe.model), one["prompt"], text)) / 3
            for text in (one["chosen"], one["rejected"])
        ]
        losses.append((h[0] - h[1] - 1 / (2 * recipe.eta)) ** 2)
    told = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["loss/inpo"]
    assert told == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert abs(told - 1 / (4 * recipe.eta**2)) > 1e-2


def test_a_stop_before_an_adapter_is_merged_changes_nothing(whole, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    recipe = replace(whole[0], output=tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_merged", stop)
        with pytest.raises(KeyboardInterrupt):
            train_inpo(recipe)
    assert (recipe.output / "round-1" / "model").is_dir()
    train_inpo(replace(recipe, resume=True))
    for one, other in zip(policies(recipe.output), policies(whole[0].output), strict=True):
        assert same(tensors(one.parent, "merged"), tensors(other.parent, "merged"))
