"""The command line under `accelerate launch`, and what accelerate makes of our model."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from safetensors.torch import load_file

from tiny_models import make_tokenizer, save_base
from tiny_training import arguments, largest_difference, tiny_reward_model
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.recipes.config import dump
from trueup.recipes.data import DataRecipe
from trueup.recipes.train_reward import TrainReward, train_reward
from trueup.train.devices import prepare_for_devices

WORDS = ("apples", "pears", "plums", "Paris", "France", "capital", "egg", "boil", "water", "name", "three")
RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def words(generator: random.Random, longest: int) -> str:
    return " ".join(generator.choices(WORDS, k=generator.randint(2, longest)))


@pytest.mark.slow
def test_two_launched_processes_train_the_model_of_one(tmp_path, monkeypatch):
    """22 rows in steps of 8: the last step has 6, which no even sharing out could divide without repeating rows."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    generator = random.Random(0)
    rows = [{name: words(generator, 20) for name in ("prompt", "chosen", "rejected")} for _ in range(22)]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = save_base(tmp_path / "base", make_tokenizer())
    recipe = TrainReward(
        model=str(base),
        output=tmp_path / "alone",
        data=DataRecipe(train=str(data), eval=str(data)),
        regularizer=BatchSumToZero(coefficient=0.1, group_size=3),
        batch_size=8,
        token_budget=160,
        learning_rate=1e-3,
        logging_steps=1,
    )
    launch(tmp_path, replace(recipe, output=tmp_path / "together"))
    train_reward(recipe)
    alone, together = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("alone", "together"))
    assert largest_difference(together, alone) < 1e-5
    logs = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("alone", "together")]
    assert len(logs[0]) == len(logs[1])
    for one, two in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        timeless = [name for name in one if "per_second" not in name and "runtime" not in name]
        assert [two[name] for name in timeless] == pytest.approx([one[name] for name in timeless], abs=1e-5)
    assert (tmp_path / "together" / "checkpoint-3" / "rng_state_1.pth").is_file()


def launch(folder: Path, recipe: TrainReward) -> None:
    """Run a recipe on two CPU processes, by the launch configuration that comes with the project."""
    config = yaml.safe_load((RECIPES / "accelerate_ddp.yaml").read_text())
    on_cpu = {"use_cpu": True, "num_processes": 2, "mixed_precision": "no"}
    (folder / "launch.yaml").write_text(yaml.safe_dump(config | on_cpu))
    (folder / "recipe.yaml").write_text(dump(recipe))
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    command += ["--config_file", str(folder / "launch.yaml"), "--main_process_port", "0", "-m", "trueup"]
    command += ["train", "reward", "--config", str(folder / "recipe.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_fsdp_shards_layer_by_layer(family, tmp_path):
    """accelerate's policy picks exactly the layers of our wrapped model, whatever the family calls them."""
    model = tiny_reward_model(family=family)
    prepare_for_devices(model, arguments(tmp_path))
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    plugin.set_auto_wrap_policy(model)
    policy = fsdp2_prepare_auto_wrap_policy(plugin, model)
    chosen = [name for name, module in model.named_modules() if policy(module)]
    trunk = {"llama": "model.layers", "gpt2": "transformer.h", "bert": "bert.encoder.layer"}[family]
    layers = [f"pretrained.{trunk}.{number}" for number in range(2)]
    assert [name for name in chosen if name.startswith(f"pretrained.{trunk}.")] == layers
    assert set(chosen) - set(layers) <= {"pretrained.bert.embeddings"}


def test_encoders_alone_may_leave_weights_unused(tmp_path):
    for family, unused in (("llama", False), ("bert", True)):
        args = arguments(tmp_path)
        prepare_for_devices(tiny_reward_model(family=family), args)
        assert args.ddp_find_unused_parameters is unused
