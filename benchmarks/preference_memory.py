"""Memory of one step on preferences as the vocabulary grows: logits are never held whole.

    python benchmarks/preference_memory.py [--quick] [--json FILE] [--only 8k 32k 128k]

DPO on random pairs with a random Llama of two layers and width 64, whose embeddings are tied, at three vocabularies and
nothing else changed. *Beyond* is the peak of the process less what it held before the first step and less the
gradient of the table, which both grow with the vocabulary in any program; *whole* is what one pass would take to
hold all of its logits once, in float32. The rows, the micro-batches and the number of tokens are the same in all cases.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness

VOCABULARIES = {"8k": 2**13, "32k": 2**15, "128k": 2**17}
WIDTH, SLOTS = 64, 2048
# Peaks may differ by what allocators round up, and by one chunk of logits.
ALLOWED_MIB = 192.0


def worker(request: dict[str, Any]) -> dict[str, Any]:
    """Three steps in this process, and its peak."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

    from trueup.models.policy import PolicyModel
    from trueup.objectives import DPO
    from trueup.train.known_rows import KnownRow
    from trueup.train.preference_trainer import PreferenceTrainer

    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    vocabulary, rng = request["vocabulary"], np.random.default_rng(0)
    shape = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("llama", vocab_size=vocabulary, tie_word_embeddings=True, **shape)
    model = PolicyModel(AutoModelForCausalLM.from_config(config))
    lengths, prompt = (128, 128), 64
    rows = [
        KnownRow(
            # The same ids at every vocabulary, so that nothing but the width of the logits changes.
            tokens=rng.integers(0, VOCABULARIES["8k"], prompt + sum(lengths)).astype(np.int32),
            prompt_length=prompt,
            branch_lengths=lengths,
            pairs=np.asarray([[0, 1]]),
            rank=np.full(2, -1),
            index=number,
            tokens_of={"reference": torch.full((sum(lengths),), -9.0)},
        )
        for number in range(request["rows"])
    ]
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=request["rows"], max_steps=3, learning_rate=1e-3,
            optim="sgd", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            dataloader_pin_memory=False, remove_unused_columns=False, logging_steps=1,
        )  # fmt: skip
        trainer = PreferenceTrainer(
            model, args, terms=(DPO(),), train_dataset=rows, tokenizer=None, form=None, token_budget=SLOTS
        )
        before = harness.peak_memory()
        trainer.train()
    parts = trainer._plan(rows)[1]
    tokens = max(sum(sum(rows[i].branch_lengths) for i in part) for part in parts)
    table = vocabulary * WIDTH * 4 / 2**20
    peak = harness.peak_memory()
    return {
        "peak_mib": peak,
        "before_mib": before,
        "beyond_mib": peak - before - table,
        "whole_mib": tokens * vocabulary * 4 / 2**20,
        "tokens_of_a_pass": tokens,
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
    }


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(json.loads(sys.argv[2]))))
        return
    wanted = harness.arguments(__doc__ or "")
    names = wanted.only or list(VOCABULARIES)
    rows = 12 if wanted.quick else 32
    repeats = wanted.repeats or (1 if wanted.quick else 3)

    def measure(name: str) -> dict[str, Any]:
        request = {"vocabulary": VOCABULARIES[name], "rows": rows, "threads": wanted.threads}
        return harness.in_process(Path(__file__), request, threads=wanted.threads)

    runs = harness.alternate({name: lambda name=name: measure(name) for name in names}, repeats=repeats)
    figures = ("peak_mib", "before_mib", "beyond_mib", "whole_mib", "tokens_of_a_pass")
    cases = {
        name: {figure: harness.median([run[figure] for run in many]) for figure in figures}
        for name, many in runs.items()
    }
    beyond = [case["beyond_mib"] for case in cases.values()]
    spread = max(beyond) - min(beyond)
    check = {"name": "flat in the vocabulary", "passed": spread <= ALLOWED_MIB, "spread_mib": spread}
    harness.finish({"cases": cases, "threads": wanted.threads, "checks": [check]}, wanted.json)


if __name__ == "__main__":
    main()
