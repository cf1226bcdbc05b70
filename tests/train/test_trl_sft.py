"""Three optimiser steps of TRL's SFTTrainer and of ours on the same demonstrations give the same losses and weights."""

import warnings

import pytest
import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar, enable_progress_bar

from tiny_models import LLAMA_LIKE, make_tokenizer
from tiny_policies import tiny_policy
from tiny_training import arguments
from trl_settings import PLAIN, RATE, STEP_ROWS, STEPS
from trueup.data.rows import Message, Origin, Response, Row
from trueup.data.templates import infer_format
from trueup.objectives.supervised.sft import NegativeLogLikelihood
from trueup.train.policy_trainer import PolicyTrainer
from trueup.train.prepare import prepare_replies

FRUITS = ("apples", "pears and plums", "an egg, boiled", "three fruits, no more", "the capital of France")
CHAT = LLAMA_LIKE + "{% if add_generation_prompt %}<|role|>assistant:{% endif %}"
TEXTS = [(f"{'Name it. ' * (i % 4)}Number {i}:", f" {' and '.join(FRUITS[: i % 5 + 1])} {i}") for i in range(20)]


def demonstrations(kind):
    """Tokenizer, rows of ours and records of theirs; the last step of the epoch has only four."""
    if kind == "plain":
        tokenizer = make_tokenizer(bos="<s>", pad="<pad>")
        asked, records = [p for p, _ in TEXTS], [{"prompt": p, "completion": c} for p, c in TEXTS]
    else:
        extra = ("<|role|>",)
        tokenizer = make_tokenizer(bos="<s>", eos="<|eot_id|>", pad="<pad>", extra=extra, chat_template=CHAT)
        asked = [(Message("user", p),) for p, _ in TEXTS]
        records = [
            {
                "prompt": [{"role": "user", "content": p}],
                "completion": [{"role": "assistant", "content": c.strip()}],
            }
            for p, c in TEXTS
        ]
    rows = [
        Row(
            prompt=prompt,
            responses=(Response(text=text if kind == "plain" else text.strip()),),
            id=str(number),
            origin=Origin("made", number),
        )
        for number, (prompt, (_, text)) in enumerate(zip(asked, TEXTS, strict=True))
    ]
    return tokenizer, rows, records


def ours(folder, tokenizer, rows, **changes):
    form = infer_format(rows, tokenizer, max_length=None)
    model = tiny_policy(dtype=torch.float32, vocab_size=len(tokenizer))
    trainer = PolicyTrainer(
        model,
        arguments(folder, per_device_train_batch_size=STEP_ROWS, max_steps=STEPS, learning_rate=RATE, **changes),
        terms=(NegativeLogLikelihood(),),
        train_dataset=prepare_replies(rows, tokenizer=tokenizer, form=form).dataset,
        tokenizer=tokenizer,
        form=form,
        token_budget=150,
    )
    assert len(trainer._plan([trainer.train_dataset[i] for i in range(STEP_ROWS)])[1]) > 1
    trainer.train()
    return trainer.state.log_history, dict(model.core.state_dict())


def theirs(folder, tokenizer, records, **changes):
    disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trl = pytest.importorskip("trl")
        args = trl.SFTConfig(output_dir=str(folder), completion_only_loss=True, **(PLAIN | changes))
        core = tiny_policy(dtype=torch.float32, vocab_size=len(tokenizer), sharing="separate").core
        trainer = trl.SFTTrainer(core, args, train_dataset=Dataset.from_list(records), processing_class=tokenizer)
        trainer.train()
    enable_progress_bar()
    return trainer.state.log_history, dict(core.state_dict())


@pytest.mark.parametrize(("kind", "changes"), [("plain", {}), ("chat", {"max_grad_norm": 0.5})])
def test_three_steps_are_trl_s(kind, changes, tmp_path):
    """From text to weights, in the ordinary shuffled order."""
    tokenizer, rows, records = demonstrations(kind)
    logs, weights = ours(tmp_path / "ours", tokenizer, rows, **changes)
    expected_logs, expected = theirs(tmp_path / "theirs", tokenizer, records, **changes)
    for line, wanted in zip(logs[:STEPS], expected_logs[:STEPS], strict=True):
        assert line["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        assert line["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
        assert line["num_tokens"] == wanted["num_tokens"]
    assert weights.keys() == expected.keys()
    assert max(float((weights[name] - expected[name]).abs().max()) for name in weights) < 2e-5
    start = tiny_policy(dtype=torch.float32, vocab_size=len(tokenizer)).core.state_dict()
    assert max(float((weights[name] - start[name]).abs().max()) for name in start) > 2e-3
