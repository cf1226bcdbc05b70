"""Reward-model training against TRL's RewardTrainer: the same model, the same batches, the same losses.

    python benchmarks/reward_training.py [--quick] [--json FILE] [--only 5m 25m multi scoring scoring_long]

Cases: `5m` and `25m` train on HH pairs (16 a step, at most 1024 tokens); `multi` trains on all 6 pairs of 4 responses
(4 prompts a step). `scoring` and `scoring_long` score 12 responses a prompt, forward only, against a length-sorted
padded loop: the first has short prompts (one chat turn), the second long ones (product reviews).
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import harness

HH_STEP, MULTI_STEP, MAX_LENGTH = 16, 4, 1024
SIZES = {
    "5m": {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 5},
    "25m": {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6},
}
SOURCES = {
    "5m": "hh-rlhf-harmless/train.jsonl.gz",
    "25m": "hh-rlhf-harmless/train.jsonl.gz",
    "multi": "superhf-multi/responses.jsonl.gz",
    "scoring": "superhf-multi/responses.jsonl.gz",
    "scoring_long": "summeval-op/summeval-op.jsonl.gz",
}
TOLERANCE = 2e-4


def build_model(folder: Path, size: str, texts: list[str]) -> None:
    """A random Llama reward model with a tokenizer of its own."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    shape = SIZES[size]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=shape["vocab_size"], special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=2048
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape,
        num_attention_heads=shape["hidden_size"] // 64,
        num_key_value_heads=shape["hidden_size"] // 64,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        num_labels=1,
        problem_type="regression",
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare_case(case: str, folder: Path, *, steps: int) -> dict[str, object]:
    """Model and tokenised steps of one case, on disk for both sides."""
    from trueup.data.formats import read_rows
    from trueup.data.pairs import pairs_of
    from trueup.data.rows import prompt_text
    from trueup.data.templates import infer_format
    from trueup.data.tokens import tokenize_rows
    from trueup.models.checkpoints import load_tokenizer

    multi = case not in SIZES
    name = SOURCES[case]
    rows = list(read_rows(harness.data_folder() / name).rows)
    size = "25m" if case == "25m" else "5m"
    build_model(folder / "model", size, [prompt_text(r.prompt) + "\n" + x.text for r in rows for x in r.responses])
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

    if case in SIZES:
        return row
    if case.startswith("scoring"):
        return replace(row, responses=row.responses[:12])
    different = {response.score: response for response in row.responses if response.text.strip()}
    few = sorted(different.values(), key=lambda r: r.source)[:4]
    return replace(row, responses=tuple(few)) if len(few) == 4 else None


def sequences(table, i):
    import numpy as np

    from trueup.data.branches import BranchRow

    return BranchRow(
        tokens=table.ids(i),
        prompt_length=int(table.prompt_length[i]),
        branch_lengths=table.lengths(i),
        pairs=np.zeros((0, 2), int),
        rank=np.zeros(0, int),
    ).sequences()


def shuffled(count: int) -> list[int]:
    import numpy as np

    return np.random.default_rng(0).permutation(count).tolist()


def worker(request: dict) -> dict:
    """One measurement, in a process of its own."""
    import torch

    torch.set_num_threads(request["threads"])
    folder = Path(request["folder"])
    rows = json.loads((folder / "rows.json").read_text())
    measure = {
        ("train", "trueup"): train_trueup,
        ("train", "trl"): train_trl,
        ("score", "trueup"): score_trueup,
        ("score", "padded"): score_padded,
    }[request["task"], request["side"]]
    result = measure(folder, rows, request)
    return result | {"peak_mib": harness.peak_memory()}


class Clock:
    """Times of whole optimiser steps, and their losses."""

    def __init__(self):
        from transformers import TrainerCallback

        clock = self
        self.seconds, self.losses, self.started = [], [], 0.0

        class Callback(TrainerCallback):
            def on_step_begin(self, args, state, control, **_):
                clock.started = clock.started or time.perf_counter()

            def on_step_end(self, args, state, control, **_):
                now = time.perf_counter()
                clock.seconds.append(now - clock.started)
                clock.started = now  # the next step's clock includes its loading

            def on_log(self, args, state, control, logs=None, **_):
                if "loss" in logs and "train_runtime" not in logs:
                    clock.losses.append(float(logs["loss"]))

        self.callback = Callback()


def common(request: dict, folder: Path) -> dict:
    return {
        "output_dir": str(folder / f"run-{request['side']}"),
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": request.get("bf16", False),
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
        "seed": 0,
    }


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
            per_device_train_batch_size=request["step"], remove_unused_columns=False, **common(request, folder)
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
    arguments = common(request, folder)
    args = RewardConfig(
        per_device_train_batch_size=per_step,
        max_length=MAX_LENGTH,
        gradient_checkpointing=request.get("checkpointing", False),
        **arguments,
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


def floor_seconds(facts: dict, steps: int) -> float:
    """Unique tokens x FLOPs a token (forward and backward of all linear layers), at the measured matmul rate."""
    shape = SIZES[facts["model"]]
    d, ff = shape["hidden_size"], shape["intermediate_size"]
    per_token = 6 * shape["num_hidden_layers"] * (4 * d * d + 3 * d * ff)
    rate = harness.matmul_rate(4096, d, ff)
    return facts["unique_tokens"] / steps * per_token / rate


def run_training(case: str, options) -> dict:
    step = MULTI_STEP if case == "multi" else HH_STEP
    steps = 3 if options.quick or case == "25m" else 8
    repeats = options.repeats or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = prepare_case(case, folder, steps=steps)
        request = {"task": "train", "folder": name, "step": step, "threads": options.threads}

        def side(**extra):
            return lambda: harness.in_process(Path(__file__), request | extra, threads=options.threads)

        sides = {
            "trueup": side(side="trueup"),
            "trl_fastest": side(side="trl"),
            "trl_defaults": side(side="trl", checkpointing=True),
        }
        results = harness.alternate(sides, repeats=repeats)
        floor = floor_seconds(facts, steps)
    return summarize_training(case, facts, results, floor, rows_per_step=step)


def summarize_training(case: str, facts: dict, results: dict, floor: float, *, rows_per_step: int) -> dict:
    # The first step pays for the first call of every kernel.
    seconds = {name: [harness.median(r["seconds"][1:]) for r in runs] for name, runs in results.items()}
    memory = {name: harness.median([r["peak_mib"] for r in runs]) for name, runs in results.items()}
    ours = seconds["trueup"]
    paired = {
        name: harness.median([other / own for own, other in zip(ours, seconds[name], strict=True)])
        for name in ("trl_fastest", "trl_defaults")
    }
    losses = {name: runs[0]["losses"] for name, runs in results.items()}
    worst = max(abs(a - b) for a, b in zip(losses["trueup"], losses["trl_fastest"], strict=True))
    return {
        "case": case,
        "ratio": paired["trl_fastest"],
        "ratio_against_defaults": paired["trl_defaults"],
        "memory_ratio": memory["trueup"] / memory["trl_fastest"],
        "median_step_seconds": {name: harness.median(values) for name, values in seconds.items()},
        "rows_per_second": {name: rows_per_step / harness.median(values) for name, values in seconds.items()},
        "peak_mib": memory,
        "floor_step_seconds": floor,
        "share_of_matmul_rate": floor / harness.median(ours),
        "repeats": seconds,
        "data": facts,
        "losses": losses,
        "checks": [
            {
                "name": f"{case}: equal loss at every step",
                "passed": worst < TOLERANCE,
                "largest_difference": worst,
                "tolerance": TOLERANCE,
            }
        ],
    }


def run_scoring(case: str, options) -> dict:
    repeats = options.repeats or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = 60 if case == "scoring" else 24
        facts = prepare_case(case, folder, steps=(prompts // 2 if options.quick else prompts) // MULTI_STEP)
        request = {"task": "score", "folder": name, "threads": options.threads}

        def side(label):
            return lambda: harness.in_process(Path(__file__), request | {"side": label}, threads=options.threads)

        results = harness.alternate({"trueup": side("trueup"), "padded": side("padded")}, repeats=repeats)
    seconds = {name: [r["seconds"][0] for r in runs] for name, runs in results.items()}
    ours, theirs = results["trueup"][0]["rewards"], results["padded"][0]["rewards"]
    worst = max(abs(a - b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True))
    return {
        "case": case,
        "ratio": harness.median([b / a for a, b in zip(seconds["trueup"], seconds["padded"], strict=True)]),
        "median_seconds": {name: harness.median(values) for name, values in seconds.items()},
        "peak_mib": {name: harness.median([r["peak_mib"] for r in runs]) for name, runs in results.items()},
        "repeats": seconds,
        "data": facts,
        "checks": [
            {
                "name": f"{case}: equal rewards",
                "passed": worst < 1e-4,
                "largest_difference": worst,
                "tolerance": 1e-4,
            }
        ],
    }


def main() -> None:
    options = harness.arguments(__doc__)
    cases = options.only or list(SOURCES)
    parts = [
        run_scoring(case, options) if case.startswith("scoring") else run_training(case, options) for case in cases
    ]
    harness.finish(
        {
            "benchmark": "reward_training",
            "threads": options.threads,
            "ratio": parts[0]["ratio"],
            "cases": {part["case"]: part for part in parts},
            "checks": [check for part in parts for check in part["checks"]],
        },
        options.json,
    )


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--worker":
        print(json.dumps(worker(json.loads(sys.argv[2]))))
    else:
        main()
