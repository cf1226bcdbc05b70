"""Both sides of the preference benchmark: one set of tokenised pairs, and a clock on each trainer."""

import json
from pathlib import Path
from typing import Any

import harness
import numpy as np
import small_models
import training

BETA = 0.1
SOURCE = "hh-rlhf-harmless/train.jsonl.gz"


def prepare(folder: Path, *, size: str, pairs: int) -> dict[str, Any]:
    """A random policy, and so many pairs in the order of the steps, as rows for us and as token ids for TRL."""
    from trueup.data.formats import read_rows
    from trueup.data.rows import prompt_text

    rows = list(read_rows(harness.data_folder() / SOURCE).rows)
    texts = [prompt_text(row.prompt) + "\n" + response.text for row in rows for response in row.responses]
    parameters = small_models.policy(folder / "model", size, texts)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    dataset = _prepared(folder, rows, order)[0]
    numbers = [order[dataset.keep[i]] for i in range(pairs)]
    dataset = _prepared(folder, rows, numbers)[0]
    made = [_ids(dataset[i]) for i in range(len(dataset))]
    (folder / "pairs.json").write_text(json.dumps({"numbers": numbers, "ids": made}))
    responses = [len(one[name]) for one in made for name in ("chosen_ids", "rejected_ids")]
    return {
        "parameters": parameters,
        "vocabulary": small_models.SIZES[size]["vocab_size"],
        "pairs": len(made),
        "mean_prompt_tokens": float(np.mean([len(one["prompt_ids"]) for one in made])),
        "mean_response_tokens": float(np.mean(responses)),
    }


def _prepared(folder: Path, rows: list[Any], numbers: list[int]) -> tuple[Any, Any, Any]:
    """Data set, tokenizer and format of some rows in this order, none of them dropped where they were chosen before."""
    from trueup.data.templates import infer_format
    from trueup.models.tokenizers import load_tokenizer
    from trueup.train.prepare import prepare_pairs

    tokenizer = load_tokenizer(folder / "model")
    form = infer_format(rows, tokenizer, max_length=training.MAX_LENGTH)
    return prepare_pairs([rows[i] for i in numbers], tokenizer=tokenizer, form=form).dataset, tokenizer, form


def _ids(row: Any) -> dict[str, list[int]]:
    """A pair in TRL's terms."""
    ((chosen, rejected),), cut, whole = row.pairs.tolist(), row.prompt_length, row.sequences()
    return {
        "prompt_ids": row.tokens[:cut].tolist(),
        "chosen_ids": whole[chosen][cut:].tolist(),
        "rejected_ids": whole[rejected][cut:].tolist(),
    }


def train_trueup(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Our trainer; the reference is the policy before its first step, asked once."""
    from transformers import TrainingArguments

    from trueup.data.formats import read_rows
    from trueup.models.policy_checkpoints import new_policy
    from trueup.models.reading import logprobs
    from trueup.objectives import DPO
    from trueup.train.preference_trainer import PreferenceTrainer
    from trueup.train.reference_cache import model_fingerprint, pass_budget

    rows, numbers = list(read_rows(harness.data_folder() / SOURCE).rows), _pairs(folder)["numbers"]
    dataset, tokenizer, form = _prepared(folder, rows, numbers)
    model, clock = new_policy(folder / "model", tokenizer=tokenizer), training.Clock()
    # about as many responses' tokens as one table of logits holds, so that none is made twice
    budget = request.get("token_budget", 1024)
    trainer = PreferenceTrainer(
        model,
        TrainingArguments(
            per_device_train_batch_size=request["step"],
            remove_unused_columns=False,
            **training.arguments(request, folder),
        ),
        terms=[DPO(beta=BETA)],
        train_dataset=dataset,
        tokenizer=tokenizer,
        form=form,
        token_budget=budget,
        callbacks=[clock.callback],
    )
    before, began = harness.peak_memory(), training.now()
    slots = pass_budget(budget, model.device)
    trainer.hold_against(
        lambda rows: logprobs(model, rows, token_budget=slots), model=model_fingerprint(model, adapter=False)
    )
    asked = _since(began)
    trainer.train()
    return _measured(clock, asked, before)


def train_trl(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """TRL's trainer, which gets the same token ids; its reference is asked in each step, or before the first."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class GivenIds(DPOTrainer):
        """Without tokenising: the ids are ours."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    clock, cached = training.Clock(), request.get("cached", False)
    each = request.get("per_pass", request["step"])
    args = DPOConfig(
        per_device_train_batch_size=each,
        gradient_accumulation_steps=request["step"] // each,
        max_length=training.MAX_LENGTH,
        beta=BETA,
        gradient_checkpointing=request.get("checkpointing", False),
        precompute_ref_log_probs=cached,
        **training.arguments(request, folder),
    )
    before, began = harness.peak_memory(), training.now()
    trainer = GivenIds(
        AutoModelForCausalLM.from_pretrained(folder / "model"),
        args=args,
        train_dataset=Dataset.from_list(_pairs(folder)["ids"]),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[clock.callback],
    )
    # Where the reference is asked beforehand, that is part of the trainer's construction.
    asked = _since(began) if cached else {"clock": 0.0, "processor": 0.0}
    trainer.train()
    return _measured(clock, asked, before)


def _since(began: tuple[float, float]) -> dict[str, float]:
    return dict(zip(("clock", "processor"), (b - a for a, b in zip(began, training.now(), strict=True)), strict=True))


def _measured(clock: training.Clock, asked: dict[str, float], loaded_mib: float) -> dict[str, Any]:
    steps = {"clock": clock.seconds, "processor": clock.processor}
    return {"steps": steps, "losses": clock.losses, "reference": asked, "loaded_mib": loaded_mib}


def _pairs(folder: Path) -> Any:
    return json.loads((folder / "pairs.json").read_text())
