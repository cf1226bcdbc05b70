"""Adapters trained together end where each would end alone."""

import json
import re

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForSequenceClassification

from tiny_models import make_tokenizer, save_base
from tiny_training import FORM, TOKENIZER, arguments, largest_difference, make_trainer, random_rows, weights
from trueup.models.checkpoints import new_reward_model
from trueup.models.lora_checkpoints import member_folders
from trueup.models.lora_members import with_lora_members
from trueup.models.reward import RewardModel
from trueup.models.tokenizers import load_tokenizer
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.recipes.data import DataRecipe
from trueup.recipes.train_reward import TrainReward, train_reward
from trueup.recipes.train_settings import EnsembleRecipe, LoraRecipe
from trueup.rewards.aggregates import UncertaintyWeighted, WorstCase
from trueup.rewards.load import load_reward
from trueup.rewards.model import ModelReward
from trueup.rewards.saved_ensemble import save_ensemble
from trueup.train.ensemble_step import Bootstrap
from trueup.train.lora_trainer import LoraEnsembleTrainer

COUPLED = [BradleyTerry(), BatchSumToZero(coefficient=0.1)]
MEMBERS = 3
ROWS = random_rows(24)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"), make_tokenizer(), num_hidden_layers=3)


def lora_trainer(folder, base, *, bootstrap=False, **changes):
    generator = torch.Generator().manual_seed(0)
    lora = LoraConfig(r=4, target_modules="all-linear")
    one = new_reward_model(base, tokenizer=load_tokenizer(base), generator=generator, lora=lora)
    return LoraEnsembleTrainer(
        with_lora_members(one, MEMBERS, layers=2, generator=generator),
        arguments(folder, **changes),
        terms=COUPLED,
        train_dataset=ROWS,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=900,  # a third of it for each member
        bootstrap=Bootstrap(seed=5, members=MEMBERS) if bootstrap else None,
    )


def alone(base, folder):
    """A member on its own in PEFT, to go on training."""
    core = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    core.resize_token_embeddings(len(load_tokenizer(folder)), mean_resizing=False)
    return RewardModel(PeftModel.from_pretrained(core, folder, is_trainable=True))


@pytest.mark.parametrize(("optim", "clip"), [("adamw_torch", 0.0), ("sgd", 0.05)])
def test_each_member_is_trained_as_if_alone(tmp_path, base, clip, optim):
    """Three steps with the same rows, clipped far below the gradient's norm or not at all."""
    # Adam without an epsilon would divide rounding errors by themselves.
    options = {"optim": optim, "learning_rate": 1e-2, "max_grad_norm": clip, "adam_epsilon": 1e-3}
    trainer = lora_trainer(tmp_path, base, **options)
    trainer.save_model(str(tmp_path / "before"))
    trainer.train()
    together = weights(trainer.model)
    for number, folder in enumerate(member_folders(tmp_path / "before", MEMBERS)):
        single = alone(base, folder)
        before = weights(single)
        make_trainer(tmp_path / "alone", single, rows=ROWS, terms=COUPLED, budget=300, **options).train()
        moved = 0.0
        for name, value in weights(single).items():
            mine = name.removeprefix("pretrained.base_model.model.")
            if "lora_A" in mine or "lora_B" in mine:
                place = mine.replace("lora_A.default.weight", "down").replace("lora_B.default.weight", "up")
            elif "score.modules_to_save" in mine:
                place = "score.weight"
            else:
                continue
            own = together[f"pretrained.{place}"][number]
            assert torch.allclose(own, value.view(own.shape), atol=2e-5), name
            moved = max(moved, float((value - before[name]).abs().max()))
        assert moved > 2e-4


def test_resuming_changes_nothing(tmp_path, base):
    whole = lora_trainer(tmp_path, base, bootstrap=True, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = lora_trainer(tmp_path, base, bootstrap=True)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert largest_difference(weights(resumed.model), weights(whole.model)) == 0.0


def test_the_recipe_trains_adapters_that_load_as_one_reward(tmp_path, base, monkeypatch):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "train.jsonl"
    pairs = [{"prompt": f"{i}: ", "chosen": "plum " * (i + 2), "rejected": "pear " * (i + 1)} for i in range(16)]
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = train_reward(
        TrainReward(
            model=str(base),
            output=tmp_path / "run",
            data=DataRecipe(train=str(data), eval=str(data)),
            ensemble=EnsembleRecipe(size=MEMBERS, kind="lora", layers=2, aggregate=WorstCase()),
            lora=LoraRecipe(rank=2),
            batch_size=8,
            epochs=8,
            learning_rate=1e-2,
        )
    )
    assert done.metrics["eval_accuracy"] > 0.9
    card = (done.model / "README.md").read_text()
    assert "an ensemble of 3 adapters" in card
    assert "logits" not in card
    names = {}
    exec(re.search(r"```python\n(.*?)```", card, re.S)[1].replace("path/to/this/model", str(done.model)), names)
    assert np.isfinite(names["reward"])
    asked = ["1: "], [["plum plum", "pear", "plum"]]
    reward = load_reward(str(tmp_path / "run"), keep_hidden=True)
    assert isinstance(reward, ModelReward)  # all members in one pass
    scores = reward.score(*asked)
    assert np.array_equal(scores.reward, scores.members.min(axis=0))
    assert scores.hidden is None
    assert scores.head is None
    separate = [load_reward(str(folder)) for folder in member_folders(done.model, MEMBERS)]
    assert np.allclose(scores.members, [one.score(*asked).reward for one in separate], atol=1e-5)
    save_ensemble(done.model, members=member_folders(done.model, 2), aggregate=UncertaintyWeighted())
    fewer = load_reward(str(tmp_path / "run")).score(*asked)
    assert np.allclose(fewer.members, scores.members[:2], atol=1e-5)
    assert np.allclose(fewer.reward, UncertaintyWeighted()(fewer.members))
