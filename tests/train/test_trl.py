"""Three optimiser steps of TRL's RewardTrainer and of ours on the same batches give the same losses and weights."""

import warnings

import pytest
import torch
from datasets import Dataset

from tiny_models import make_tokenizer
from tiny_training import make_trainer, random_rows, tiny_reward_model
from trl_settings import PLAIN, RATE, STEP_ROWS, STEPS
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.centering import Centering

ROWS = random_rows(20, seed=3, responses=2)


def ours(folder, coefficient, **changes):
    terms = [BradleyTerry()] + ([Centering(coefficient=coefficient)] if coefficient else [])
    model = tiny_reward_model("trees", dtype=torch.float32)
    trainer = make_trainer(folder, model, rows=ROWS, terms=terms, budget=200, learning_rate=RATE, **changes)
    assert len(trainer._plan(ROWS[:STEP_ROWS])[1]) > 1
    trainer.train()
    return trainer.state.log_history, dict(trainer.model.pretrained.state_dict())


def theirs(folder, coefficient, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trl = pytest.importorskip("trl")
        args = trl.RewardConfig(output_dir=str(folder), center_rewards_coefficient=coefficient, **(PLAIN | changes))
        sequences = [row.sequences() for row in ROWS]
        pairs = [
            {"chosen_ids": own[row.pairs[0][0]].tolist(), "rejected_ids": own[row.pairs[0][1]].tolist()}
            for row, own in zip(ROWS, sequences, strict=True)
        ]
        core = tiny_reward_model("separate", dtype=torch.float32).pretrained
        trainer = trl.RewardTrainer(
            core, args, train_dataset=Dataset.from_list(pairs), processing_class=make_tokenizer(pad="<pad>")
        )
        trainer.train()
    return trainer.state.log_history, dict(core.state_dict())


@pytest.mark.parametrize(("coefficient", "changes"), [(None, {}), (0.01, {}), (None, {"max_grad_norm": 0.5})])
def test_three_steps_are_trl_s(coefficient, changes, tmp_path):
    """In the ordinary shuffled order, whose last step of the epoch has only four rows."""
    logs, weights = ours(tmp_path / "ours", coefficient, **changes)
    expected_logs, expected = theirs(tmp_path / "theirs", coefficient, **changes)
    named = ("loss", "accuracy", "margin", "mean_reward", "min_reward", "max_reward", "num_tokens", "grad_norm")
    for line, wanted in zip(logs[:STEPS], expected_logs[:STEPS], strict=True):
        assert line["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        for name in named:
            assert line[name] == pytest.approx(wanted[name], abs=1e-4), name
    assert weights.keys() == expected.keys()
    assert all(torch.allclose(weights[name], expected[name], atol=1e-4) for name in weights)
    start = tiny_reward_model("separate", dtype=torch.float32).pretrained.state_dict()
    assert max(float((weights[name] - start[name]).abs().max()) for name in start) > 2e-3
