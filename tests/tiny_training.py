"""Small steps and trainers for tests: a float64 Llama, random rows, and a trainer around them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, TrainingArguments

from tiny_models import ENCODERS, FAMILIES, make_tokenizer
from trueup.data.branches import BranchRow, join
from trueup.data.rows import Origin, Response, Row
from trueup.data.templates import TextFormat
from trueup.models.reward import RewardModel
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.train.reward_trainer import RewardTrainer

VOCABULARY = 97
TOKENIZER = make_tokenizer(pad="<pad>")
FORM = TextFormat(kind="plain", special_tokens=False, append_eos=True)


def tiny_reward_model(
    sharing: str | None = None, *, family: str = "llama", dtype: torch.dtype = torch.float64, **changes: object
) -> RewardModel:
    """A random reward model, always the same."""
    torch.manual_seed(0)
    settings = (FAMILIES | ENCODERS)[family] | {"vocab_size": VOCABULARY, "num_labels": 1, "pad_token_id": 0} | changes
    core = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **settings)).to(dtype)
    for module in core.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return RewardModel(core, sharing=sharing)


def random_rows(count: int, *, seed: int = 0, responses: int | None = None, longest: int = 24) -> list[BranchRow]:
    """Rows of two to four ranked responses (or so many), with margins."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        branches = responses or int(rng.integers(2, 5))
        prompt = rng.integers(1, VOCABULARY, rng.integers(1, longest)).tolist()
        texts = [prompt + rng.integers(1, VOCABULARY, rng.integers(1, longest)).tolist() for _ in range(branches)]
        order = rng.permutation(branches)
        pairs = [(a, b) for a in range(branches) for b in range(branches) if order[a] < order[b]]
        rows.append(join(texts, pairs=pairs, rank=order.tolist(), margin=float(rng.uniform()), index=number))
    return rows


def arguments(folder: Path, **changes: object) -> TrainingArguments:
    """Arguments that write nothing and log every step."""
    settings = {
        "per_device_train_batch_size": 8,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }
    return TrainingArguments(output_dir=str(folder), **(settings | changes))


def make_trainer(
    folder: Path,
    model: RewardModel | None = None,
    *,
    rows=None,
    terms=None,
    budget: int = 200,
    evaluation=None,
    **changes,
) -> RewardTrainer:
    """A trainer of a tiny model on random rows."""
    return RewardTrainer(
        model if model is not None else tiny_reward_model(),
        arguments(folder, **changes),
        terms=terms or [BradleyTerry()],
        train_dataset=rows if rows is not None else random_rows(24),
        eval_dataset=evaluation,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=budget,
    )


def weights(model: RewardModel) -> dict[str, torch.Tensor]:
    """Copies of a model's weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference between two sets of tensors of the same names, relative where they exceed 1."""
    assert one.keys() == other.keys()
    scale = max(1.0, *(float(value.abs().max()) for value in other.values()))
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one) / scale


def step_once(trainer: RewardTrainer, rows: list[BranchRow]) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one training step, without an optimiser."""
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, {"rows": rows})
    return float(loss), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def text_row(prompt: str, *texts: str, scores: list[float] | None = None, margin: float | None = None) -> Row:
    """A row with the first response preferred, or with scores."""
    responses = tuple(
        Response(text=text, score=scores[i]) if scores else Response(text=text, label=i == 0)
        for i, text in enumerate(texts)
    )
    return Row(prompt=prompt, responses=responses, id=prompt, origin=Origin("made.jsonl", 1), margin=margin)


def without_pairs(row: BranchRow) -> BranchRow:
    """A row from which nothing can be learned."""
    return replace(row, pairs=np.zeros((0, 2), np.int64), rank=np.full(len(row.branch_lengths), -1))
