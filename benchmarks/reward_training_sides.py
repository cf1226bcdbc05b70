"""Both sides of the reward-model benchmark: the steps they take, and the responses they score."""

import json
import time
from pathlib import Path

import harness
import small_models
from training import MAX_LENGTH, Clock, arguments, sequences

HH_STEP, MULTI_STEP = 16, 4
SOURCES = {
    "5m": "hh-rlhf-harmless/train.jsonl.gz",
    "25m": "hh-rlhf-harmless/train.jsonl.gz",
    "multi": "superhf-multi/responses.jsonl.gz",
    "scoring": "superhf-multi/responses.jsonl.gz",
    "scoring_long": "summeval-op/summeval-op.jsonl.gz",
}


def prepare_case(case: str, folder: Path, *, steps: int) -> dict[str, object]:
    """Model and tokenised steps of one case, on disk for both sides."""
    from trueup.data.formats import read_rows
    from trueup.data.pairs import pairs_of
    from trueup.data.rows import prompt_text
    from trueup.data.templates import infer_format
    from trueup.data.tokens import tokenize_rows
    from trueup.models.tokenizers import load_tokenizer

    multi = case not in ("5m", "25m")
    name = SOURCES[case]
    rows = list(read_rows(harness.data_folder() / name).rows)
    size = "25m" if case == "25m" else "5m"
    small_models.reward_model(
        folder / "model", size, [prompt_text(r.prompt) + "\n" + x.text for r in rows for x in r.responses]
    )
    rows = [narrowed for row in rows if (narrowed := narrow(row, case)) is not None]
    tokenizer = load_tokenizer(folder / "model")
    limit = 2048 if case == "scoring_long" else MAX_LENGTH
    form = infer_format(rows, tokenizer, max_length=limit)
    table = tokenize_rows(rows, tokenizer=tokenizer, form=form)
    order = shuffled(len(rows))
    kept = [i for i in order if table.prompt_length[i] + max(table.lengths(i)) <= limit]
    count = steps * (MULTI_STEP if multi else HH_STEP)
    chosen = [
        {
            "sequences": [[int(t) for t in s] for s in sequences(table, i)],
            "pairs": [list(pair) for pair in pairs_of(rows[i])],
        }
        for i in kept[:count]
    ]
    (folder / "rows.json").write_text(json.dumps(chosen))
    unique = sum(int(table.row_start[i + 1] - table.row_start[i]) for i in kept[:count])
    return {
        "model": size,
        "rows": len(chosen),
        "unique_tokens": unique,
        "tokens": sum(len(s) for r in chosen for s in r["sequences"]),
    }


def narrow(row, case):
    """Four responses with different scores for `multi`; 12 responses for scoring; the pair as it is for HH."""
    from dataclasses import replace

    if case in ("5m", "25m"):
        return row
    if case.startswith("scoring"):
        return replace(row, responses=row.responses[:12])
    different = {response.score: response for response in row.responses if response.text.strip()}
    few = sorted(different.values(), key=lambda r: r.source)[:4]
    return replace(row, responses=tuple(few)) if len(few) == 4 else None


def shuffled(count: int) -> list[int]:
    import numpy as np

    return np.random.default_rng(0).permutation(count).tolist()


def train_trueup(folder: Path, rows: list, request: dict) -> dict:
    from transformers import TrainingArguments

    from trueup.data.branches import join
    from trueup.data.templates import TextFormat
    from trueup.models.checkpoints import load_reward_model
    from trueup.objectives import BradleyTerry
    from trueup.train.reward_trainer import RewardTrainer

    trees = [join(r["sequences"], pairs=[tuple(p) for p in r["pairs"]], index=i) for i, r in enumerate(rows)]
    loaded = load_reward_model(folder / "model")
    clock = Clock()
    trainer = RewardTrainer(
        loaded.model,
        TrainingArguments(
            per_device_train_batch_size=request["step"], remove_unused_columns=False, **arguments(request, folder)
        ),
        terms=[BradleyTerry()],
        train_dataset=trees,
        tokenizer=loaded.tokenizer,
        form=TextFormat(kind="chat", special_tokens=True, append_eos=True),
        token_budget=request.get("token_budget", 2_048),
        callbacks=[clock.callback],
    )
    trainer.train()
    return {"seconds": clock.seconds, "losses": clock.losses, "sharing": loaded.model.sharing}


def train_trl(folder: Path, rows: list, request: dict) -> dict:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    # A step's pairs, in the order of its rows: what TRL's format makes of several responses to one prompt.
    pairs = [
        {"chosen_ids": r["sequences"][chosen], "rejected_ids": r["sequences"][rejected]}
        for r in rows
        for chosen, rejected in r["pairs"]
    ]
    per_step = sum(len(r["pairs"]) for r in rows[: request["step"]])
    clock = Clock()
    settings = arguments(request, folder)
    args = RewardConfig(
        per_device_train_batch_size=per_step,
        max_length=MAX_LENGTH,
        gradient_checkpointing=request.get("checkpointing", False),
        **settings,
    )
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=1)
    trainer = RewardTrainer(
        model,
        args,
        train_dataset=Dataset.from_list(pairs),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[clock.callback],
    )
    trainer.train()
    return {"seconds": clock.seconds, "losses": clock.losses}


def score_trueup(folder: Path, rows: list, request: dict) -> dict:
    import torch

    from trueup.data.branches import join
    from trueup.models.checkpoints import load_reward_model
    from trueup.models.plan import cut

    trees = [join(r["sequences"]) for r in rows]
    model = load_reward_model(folder / "model").model
    start = time.perf_counter()
    rewards = [None] * len(trees)
    with torch.inference_mode():
        for part in cut(trees, budget=4_096, sharing=model.sharing):
            chunk = [trees[i] for i in part]
            values = model(model.layout(chunk)).reward.split([len(tree.branch_lengths) for tree in chunk])
            for i, value in zip(part, values, strict=True):
                rewards[i] = value.tolist()
    return {"seconds": [time.perf_counter() - start], "rewards": rewards}


def score_padded(folder: Path, rows: list, request: dict) -> dict:
    """The usual loop: one response a row, sorted by length, padded to the longest of 32."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    flat = [(i, k, s) for i, r in enumerate(rows) for k, s in enumerate(r["sequences"])]
    flat.sort(key=lambda item: len(item[2]))
    rewards = [[0.0] * len(r["sequences"]) for r in rows]
    start = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(flat), 32):
            chunk = flat[first : first + 32]
            width = max(len(s) for _, _, s in chunk)
            ids = torch.tensor([s + [0] * (width - len(s)) for _, _, s in chunk])
            logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits[:, 0].tolist()
            for (i, k, _), value in zip(chunk, logits, strict=True):
                rewards[i][k] = value
    return {"seconds": [time.perf_counter() - start], "rewards": rewards}
