"""One training of `bsr_four_shifts.py`: build, train, score, and boil the scores down to numbers."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import four_shifts_data as data
import four_shifts_encoder as encoder
import four_shifts_models as models
import numpy as np
import torch
from four_shifts_plan import TRACE_EPOCHS, Run
from scipy import stats

from trueup.data.branches import BranchRow
from trueup.data.rows import Row
from trueup.measure.bootstrap import Resampling
from trueup.measure.dispersion import hidden_norm, within_prompt_std
from trueup.measure.effective_rank import effective_rank
from trueup.measure.ranking import kendall_tau, pair_wins
from trueup.measure.rm_bench import rm_bench
from trueup.measure.scored import ScoredSplit
from trueup.models.plan import cut
from trueup.models.reward import RewardModel
from trueup.objectives import REWARD_OBJECTIVES, REWARD_REGULARIZERS
from trueup.train.reward_step import reward_batch
from trueup.train.step import Step, reduce_loss, statistics
from trueup.types import RewardObjective

STEP_ROWS = 16
WARM_UP = 10
BUDGET = 16_384
ONCE = Resampling(resamples=1)
LEARNING_RATE = {"decoder": 3e-4, "decoder-lm": 3e-4, "minilm": 2e-4}


def settings() -> str:
    """Fingerprint of everything that is fixed in the code, so that stored results of other settings are not used."""
    fixed = (LEARNING_RATE, STEP_ROWS, WARM_UP, data.SETTINGS, models.SETTINGS, encoder.SETTINGS, TRACE_EPOCHS)
    return hashlib.sha256(repr(fixed).encode()).hexdigest()[:12]


def terms_of(run: Run) -> list[RewardObjective]:
    """The loss as the library's objectives."""
    if run.method in ("hinge", "norm"):
        return [REWARD_OBJECTIVES[{"hinge": "hinge", "norm": "logit_normalized"}[run.method]]()]
    terms = [REWARD_OBJECTIVES["bradley_terry"]()]
    if run.method == "dr":
        terms.append(REWARD_REGULARIZERS["direct_rewards"]())
    elif run.method == "centring":
        terms.append(REWARD_REGULARIZERS["centering"](coefficient=run.coefficient))
    elif run.method == "bsr":
        terms.append(REWARD_REGULARIZERS["bsr"](coefficient=run.coefficient, reduction=run.reduction))
    return terms


@lru_cache(maxsize=2)
def material(model: str, name: str, sample: data.Sample, cache: Path) -> tuple[Any, Any, Any]:
    """Splits, tokenizer and token rows; neighbouring runs of one seed share them."""
    rows = data.read("superhf-multi/responses.jsonl.gz") if name == "superhf" else None
    splits = data.five_splits(rows, sample) if rows is not None else data.preference_splits(name, sample)
    tokenizer = models.tokenizer_for(model, splits, cache)
    form = data.text_format(splits["train"], tokenizer, model=model, name=name)
    return splits, tokenizer, data.tokenise(splits, tokenizer, form)


def execute(run: Run, cache: Path) -> dict[str, Any]:
    """Train and evaluate one configuration; repeatable up to the rounding of float32 matrix products."""
    sample = data.Sample(seed=run.seed, share=run.share, responses=run.responses, noise=run.noise)
    splits, tokenizer, tokens = material(run.model, run.data, sample, cache)
    started = time.perf_counter()
    torch.manual_seed(run.seed)
    model = models.build(run, tokenizer, cache)
    follow = Follower(run, model, splits, tokens)
    fit(model, tokens["train"], run=run, after_epoch=follow)
    return follow.result() | {
        "key": run.key,
        "settings": settings(),
        "seconds": round(time.perf_counter() - started, 1),
    }


def fit(model: RewardModel, rows: Sequence[BranchRow], *, run: Run, after_epoch: Callable[[int, float], None]) -> None:
    """AdamW at a constant rate after a warm-up, no gradient clipping, steps of 16 prompts in seeded order."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    rate = LEARNING_RATE[run.model]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=run.weight_decay, fused=True)
    terms, order = terms_of(run), np.random.default_rng(run.seed)
    after_epoch(0, float("nan"))
    step = 0
    for epoch in range(1, run.epochs + 1):
        shuffled, losses = order.permutation(len(rows)), []
        for start in range(0, len(rows), STEP_ROWS):
            step += 1
            optimizer.param_groups[0]["lr"] = rate * min(step / WARM_UP, 1.0)
            chunk = [rows[i] for i in shuffled[start : start + STEP_ROWS]]
            losses.append(one_step(model, chunk, terms, optimizer))
        after_epoch(epoch, float(np.mean(losses)))


def one_step(
    model: RewardModel,
    rows: Sequence[BranchRow],
    terms: Sequence[RewardObjective],
    optimizer: torch.optim.Optimizer,
) -> float:
    """The library's step in a single micro-batch: count, forward, the step's sums, loss."""
    model.train()
    step = Step.count(rows)
    everything = tuple(sorted(range(len(rows)), key=lambda i: rows[i].longest))
    branches = models.forward(model, [rows[i] for i in everything])
    sums = statistics(terms, [reward_batch(step, everything, branches)], add=lambda tensor: tensor)
    loss = reduce_loss(step, terms, reward_batch(step, everything, branches), sums)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


class Follower:
    """Validates after every epoch, keeps the best weights, and evaluates where the run asks for it."""

    def __init__(
        self,
        run: Run,
        model: RewardModel,
        splits: Mapping[str, Sequence[Row]],
        tokens: Mapping[str, Sequence[BranchRow]],
    ) -> None:
        self.run, self.model, self.splits, self.tokens = run, model, splits, tokens
        self.validation: list[float] = []
        self.means: list[float] = []
        self.spreads: list[float] = []
        self.losses: list[float] = []
        self.epochs: dict[str, Any] = {}
        self.best, self.best_weights = 0, self._weights()

    def __call__(self, epoch: int, loss: float) -> None:
        """Look at the model after an epoch (0: before the first)."""
        seen = score(self.model, self.splits["validation"], self.tokens["validation"], name="validation")
        wins = pair_wins(seen)
        self.means.append(float(seen.reward.mean()))
        self.spreads.append(float(seen.reward.std()))
        accuracy = float(wins[:, 0].sum() / wins[:, 1].sum())
        self.losses.append(loss)
        if epoch > 0 and (epoch == 1 or accuracy > max(self.validation[1:])):
            self.best, self.best_weights = epoch, self._weights()
        self.validation.append(accuracy)
        untrained = epoch == 0 and self.run.model == "minilm" and self.run.method == "bt"
        if epoch == self.run.epochs or untrained or (self.run.trace and epoch in TRACE_EPOCHS):
            self.epochs[str(epoch)] = self._everything()

    def result(self) -> dict[str, Any]:
        """Everything that was seen; `best` holds the weights of the best validation epoch."""
        if self.best == self.run.epochs:
            best = self.epochs[str(self.best)]
        else:
            self._restore()
            best = self._everything()
        return {
            "validation": self.validation,
            "validation_mean": self.means,
            "validation_std": self.spreads,
            "losses": self.losses,
            "best_epoch": self.best,
            "epochs": self.epochs,
            "best": best,
            "train_rows": len(self.tokens["train"]),
        }

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters() if weight.requires_grad}

    def _restore(self) -> None:
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if name in self.best_weights:
                    weight.copy_(self.best_weights[name])

    def _everything(self) -> dict[str, Any]:
        names = [name for name in self.splits if name != "validation"]
        table = {}
        for name in names:
            split = score(self.model, self.splits[name], self.tokens[name], name=name)
            table[name] = numbers(split) if name != "rm_bench" else bench_numbers(split)
        return table | {"head_norm": float(self.model.head.weight.detach().norm())}


@torch.inference_mode()
def score(model: RewardModel, rows: Sequence[Row], tokens: Sequence[BranchRow], *, name: str) -> ScoredSplit:
    """Rewards and hidden states of all responses of a split."""
    model.eval()
    reward: list[Any] = [None] * len(tokens)
    hidden, norms = list(reward), list(reward)
    for part in cut(tokens, budget=BUDGET // 2, sharing=model.sharing):
        chunk = [tokens[i] for i in part]
        branches = models.forward(model, chunk, before_norm=True)
        sizes = [len(row.branch_lengths) for row in chunk]
        for target, values in ((reward, branches.reward), (hidden, branches.hidden), (norms, branches.before_norm)):
            for i, value in zip(part, values.float().split(sizes), strict=True):
                target[i] = value.numpy()
    counts = [len(row.branch_lengths) for row in tokens]
    starts = np.concatenate([[0], np.cumsum(counts)])
    pairs = [row.pairs + start for row, start in zip(tokens, starts[:-1], strict=True)]
    return ScoredSplit(
        name=name,
        reward=np.concatenate(reward).astype(np.float64),
        prompt=np.repeat(np.arange(len(tokens)), counts),
        pairs=np.concatenate(pairs),
        length=np.array([n for row in tokens for n in row.branch_lengths], float),
        gold=data.gold_of(rows),
        hidden=np.concatenate(hidden),
        before_norm=np.concatenate(norms).astype(np.float64),
        subset=tuple(row.subset for row in rows),
    )


def numbers(split: ScoredSplit) -> dict[str, float]:
    """What is kept of a split: order, spread and norms."""
    wins, tau = pair_wins(split), kendall_tau(split)
    known = tau[np.isfinite(tau)]
    norm = hidden_norm(split.hidden)
    return {
        "accuracy": float(wins[:, 0].sum() / wins[:, 1].sum()),
        "tau": float(known.mean()) if len(known) else float("nan"),
        "pooled": float(stats.spearmanr(split.reward, split.gold).statistic) if len(known) else float("nan"),
        "prompts": split.prompts,
        "responses": len(split.reward),
        "reward_mean": float(split.reward.mean()),
        "reward_std": float(split.reward.std()),
        "reward_within": within_prompt_std(split, resampling=ONCE).value,
        "norm_mean": float(norm.mean()),
        "norm_std": float(norm.std()),
        "norm_skew": skew(norm),
        "raw_norm_mean": float(split.before_norm.mean()),
        "raw_norm_std": float(split.before_norm.std()),
        "raw_norm_skew": skew(split.before_norm),
        "effective_rank": effective_rank(split.hidden).value,
    }


def skew(values: np.ndarray) -> float:
    """Third standardised moment; 0 where nothing varies."""
    scale = values.std()
    return float((((values - values.mean()) / scale) ** 3).mean()) if scale > 1e-9 * abs(values.mean()) else 0.0


def bench_numbers(split: ScoredSplit) -> dict[str, float]:
    """RM-Bench chat by difficulty; the first three responses of a row are the right ones."""
    correct = np.arange(len(split.reward)) % 6 < 3
    table = rm_bench(split, correct, resampling=ONCE)
    return {name: estimate.value for name, estimate in table.domains["chat"].items()}
