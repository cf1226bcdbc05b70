"""Preferences for tests: rows of two to four judged responses, and a trainer of a tiny policy on them."""

import numpy as np
import torch

from tiny_policies import tiny_policy
from tiny_training import TOKENIZER, arguments
from trueup.data.rows import Origin, Response, Row
from trueup.data.templates import TextFormat
from trueup.train.dataset import BranchDataset
from trueup.train.preference_trainer import PreferenceTrainer
from trueup.train.prepare import prepare_pairs

FORM = TextFormat(kind="plain", special_tokens=False, append_eos=True, max_length=80)
WORDS = ("apples", "pears", "plums", "an egg", "boiling water", "Paris", "the capital", "France", "seven minutes")


def judged(count: int, *, seed: int = 0, responses: int | None = None) -> list[Row]:
    """Rows of two to four responses (or so many), all different; about half of each row is preferred."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        kind = int(rng.integers(2, 5)) if responses is None else responses
        texts = [f" {number} {place} " + " ".join(rng.choice(WORDS, rng.integers(1, 6))) for place in range(kind)]
        preferred = rng.permutation(kind) < max(kind // 2, 1)
        rows.append(
            Row(
                prompt=f"Name {' and '.join(rng.choice(WORDS, rng.integers(1, 5)))}:",
                responses=tuple(
                    Response(text=text, label=bool(good)) for text, good in zip(texts, preferred, strict=True)
                ),
                id=str(number),
                origin=Origin("made.jsonl", number + 1),
            )
        )
    return rows


def preferences(rows: list[Row]) -> BranchDataset:
    """The rows as token ids."""
    return prepare_pairs(rows, tokenizer=TOKENIZER, form=FORM).dataset


def with_random_reference(dataset: BranchDataset, *names: str, seed: int = 0) -> BranchDataset:
    """The same rows with made-up log-probabilities, float64."""
    generator = torch.Generator().manual_seed(seed)
    known = {
        name: [
            -3 - torch.rand(sum(dataset[i].branch_lengths), generator=generator, dtype=torch.float64)
            for i in range(len(dataset))
        ]
        for name in names or ("reference",)
    }
    return dataset.with_known(tokens_of=known)


def policy(**changes: object):
    """A policy in float64 throughout, over the vocabulary of the rows."""
    return tiny_policy("gpt2", **({"vocab_size": len(TOKENIZER)} | changes))


def make(folder, dataset, *, terms, model=None, evaluation=None, budget: int = 300, **changes) -> PreferenceTrainer:
    """A trainer of a tiny policy."""
    return PreferenceTrainer(
        model if model is not None else policy(),
        arguments(folder, **changes),
        terms=terms,
        train_dataset=dataset,
        eval_dataset=evaluation,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=budget,
    )
