"""Three optimiser steps of TRL's DPOTrainer and of ours on the same pairs give the same losses and weights."""

import copy
import math
import warnings

import pytest
import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar, enable_progress_bar

from small_preferences import judged
from tiny_models import make_tokenizer
from tiny_policies import tiny_policy
from tiny_training import arguments
from trl_settings import PLAIN, RATE, STEP_ROWS, STEPS
from trueup.data.templates import infer_format
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.robust_dpo import RobustDPO
from trueup.train.preference_trainer import PreferenceTrainer
from trueup.train.prepare import prepare_pairs
from trueup.train.reference_cache import model_fingerprint
from trueup.train.references import ModelReference

ROWS = judged(20, seed=8, responses=2)
TOKENIZER = make_tokenizer(bos="<s>", pad="<pad>")
FORM = infer_format(ROWS, TOKENIZER, max_length=None)


def start(**options):
    return tiny_policy(dtype=torch.float32, vocab_size=len(TOKENIZER), **options)


def reference(**options):
    """Another model than the policy at its start, so that the first loss is not log 2."""
    model = start(**options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return model


def ours(folder, term, held, **changes):
    dataset = prepare_pairs(ROWS, tokenizer=TOKENIZER, form=FORM).dataset
    model, settings = start(), {"learning_rate": RATE} | changes
    trainer = PreferenceTrainer(
        model,
        arguments(folder, per_device_train_batch_size=STEP_ROWS, max_steps=STEPS, **settings),
        terms=(term,),
        train_dataset=dataset,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=150,
    )
    assert len(trainer._plan([dataset[i] for i in range(STEP_ROWS)])[1]) > 1
    compute = ModelReference(held, token_budget=300).logprobs
    trainer.hold_against(compute, model=model_fingerprint(held, adapter=True), folder=folder / "cache")
    trainer.train()
    return trainer.state.log_history, dict(model.core.state_dict())


def theirs(folder, settings, held, **changes):
    disable_progress_bar()
    records = []
    for row in ROWS:
        chosen, rejected = (next(r.text for r in row.responses if r.label is label) for label in (True, False))
        records.append({"prompt": row.prompt, "chosen": chosen, "rejected": rejected})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trl = pytest.importorskip("trl")
        args = trl.DPOConfig(output_dir=str(folder), **(PLAIN | settings | changes))
        core = start(sharing="separate").core
        trainer = trl.DPOTrainer(
            core,
            ref_model=copy.deepcopy(held.core),
            args=args,
            train_dataset=Dataset.from_list(records),
            processing_class=TOKENIZER,
        )
        trainer.train()
    enable_progress_bar()
    return trainer.state.log_history, dict(core.state_dict())


@pytest.mark.parametrize(
    ("term", "settings", "changes"),
    [
        (DPO(beta=0.2), {"beta": 0.2}, {}),
        (RobustDPO(beta=0.3, label_smoothing=0.1), {"beta": 0.3, "loss_type": ["robust"], "label_smoothing": 0.1},
         {"max_grad_norm": 0.5, "optim": "sgd", "learning_rate": 0.05}),
    ],
)  # fmt: skip
def test_three_steps_are_trl_s(term, settings, changes, tmp_path):
    """From text to weights, in the ordinary shuffled order, against a reference that is another model."""
    logs, weights = ours(tmp_path / "ours", term, reference(), **changes)
    expected_logs, expected = theirs(tmp_path / "theirs", settings, reference(sharing="separate"), **changes)
    named = [f"{kind}/{side}" for kind in ("rewards", "logps") for side in ("chosen", "rejected")]
    for line, wanted in zip(logs[:STEPS], expected_logs[:STEPS], strict=True):
        assert line["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        assert line["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
        assert line["rewards/accuracies"] == wanted["rewards/accuracies"]
        for name in (*named, "rewards/margins"):
            assert line[name] == pytest.approx(wanted[name], abs=1e-4), name
        assert line["num_tokens"] == wanted["num_tokens"]
    assert abs(logs[0]["loss"] - math.log(2)) > 1e-2
    assert weights.keys() == expected.keys()
    assert max(float((weights[name] - expected[name]).abs().max()) for name in weights) < 2e-5
    begun = start().core.state_dict()
    assert max(float((weights[name] - begun[name]).abs().max()) for name in begun) > 1e-3
