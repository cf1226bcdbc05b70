"""A reward model as a reward: scores exactly what it was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from tqdm import tqdm

from trueup.data.branches import BranchRow
from trueup.data.rows import Prompt
from trueup.errors import DataError, NonFiniteError
from trueup.models.branch_model import check_sharing
from trueup.models.checkpoints import Checkpoint
from trueup.models.plan import cut
from trueup.rewards.aggregates import Aggregate, Mean
from trueup.rewards.base import Scores
from trueup.rewards.ensemble import Standardization
from trueup.rewards.scored_rows import scored_rows

# Responses to one prompt that a CPU computes together; with more, activations leave its cache: twice the time.
_MOST_ON_CPU, _MOST = 64, 1024


@dataclass(frozen=True, kw_only=True)
class ModelReward:
    """Scores with a reward model, each prompt computed once for all its responses.

    Template, special tokens, length and truncation side are those stored with the model. A score does not depend on
    what else is scored with it: nothing is ever attended across rows and no pad id is searched for.

    Args:
        checkpoint: The model with its tokenizer and text format.
        name: What reports call it.
        token_budget: Token slots per forward pass.
        keep_hidden: Whether hidden states and norms are returned too.
        progress: Whether a progress bar is shown.
        aggregate: How the members become one reward, where the model is an ensemble.
        standardization: Constants that bring its members to one scale first.
    """

    checkpoint: Checkpoint
    name: str
    token_budget: int = 16_384
    keep_hidden: bool = False
    progress: bool = False
    aggregate: Aggregate = field(default_factory=Mean)
    standardization: Standardization | None = None
    _compared: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Longest rows on which each way of sharing was found to agree with the ordinary computation."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        """Score K_i >= 1 responses to each prompt i.

        Sequences beyond the model's maximum length are cut as in training and counted in one warning.

        Raises:
            DataError: A prompt has no responses, or text that the model's format cannot take.
            NonFiniteError: A reward is NaN or infinite.
        """
        empty = [number for number, group in enumerate(responses, 1) if not group]
        if empty:
            raise DataError("the prompt has no responses", row=empty[0], expected="at least one response to score")
        most = _MOST_ON_CPU if self.checkpoint.model.device.type == "cpu" else _MOST
        pieces = [
            (number, group[at : at + most])
            for number, group in enumerate(responses)
            for at in range(0, len(group), most)
        ]
        scores = self._score([prompts[number] for number, _ in pieces], [group for _, group in pieces])
        return replace(scores, prompt=np.repeat(np.arange(len(responses)), [len(group) for group in responses]))

    def _score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        known = self.checkpoint
        rows = scored_rows(prompts, responses, tokenizer=known.tokenizer, form=known.form, name=self.name)
        model = known.model.eval()
        order = sorted(range(len(rows)), key=lambda i: (rows[i].longest, i))
        self._check_sharing([rows[i] for i in order[len(order) // 2 :][:2]])
        starts = np.concatenate([[0], np.cumsum([len(group) for group in responses], dtype=int)])
        members = np.full((model.members, starts[-1]), np.nan)
        hidden: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]] = []
        for part in self._parts(rows, order):
            where = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in part])
            with torch.inference_mode():
                branches = model(model.layout([rows[i] for i in part]), before_norm=self.keep_hidden)
            rewards = branches.reward[None] if branches.members is None else branches.members
            members[:, where] = rewards.double().cpu().numpy()
            if self.keep_hidden and branches.member_hidden is None:
                norm = branches.before_norm.cpu().numpy() if branches.before_norm is not None else None
                hidden.append((where, branches.hidden.float().cpu().numpy(), norm))
        self._stop_if_not_finite(members.sum(axis=0), prompts, starts)
        return self._scores(members, responses, hidden)

    def _check_sharing(self, rows: Sequence[BranchRow]) -> None:
        """Compare with the ordinary computation once, and again on rows more than twice as long.

        That costs more than scoring a few rows does, and it is code that is in doubt, not the rows.
        """
        model, longest = self.checkpoint.model, max((row.longest for row in rows), default=0)
        if longest > 2 * self._compared.get(model.sharing, 0):
            check_sharing(model, rows)
            self._compared[model.sharing] = longest

    def _parts(self, rows: Sequence[BranchRow], order: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Micro-batches of rows of like length, made chunk by chunk so that planning stays linear."""
        model = self.checkpoint.model
        with tqdm(total=len(rows), desc=f"score with {self.name}", disable=not self.progress, leave=False) as bar:
            for start in range(0, len(order), 256):
                chunk = order[start : start + 256]
                budget, sharing = max(self.token_budget // model.copies, 1), model.sharing
                for part in cut([rows[i] for i in chunk], budget=budget, sharing=sharing):
                    yield tuple(chunk[i] for i in part)
                    bar.update(len(part))

    def _stop_if_not_finite(self, reward: np.ndarray, prompts: Sequence[Prompt], starts: np.ndarray) -> None:
        bad = np.flatnonzero(~np.isfinite(reward))
        if len(bad):
            row = int(np.searchsorted(starts, bad[0], side="right"))
            raise NonFiniteError(
                f"{self.name} gives a reward of {reward[bad[0]]} to a response in row {row} ({len(bad)} in all); "
                "load it in float32, or check the weights"
            )

    def _scores(
        self,
        rewards: np.ndarray,
        responses: Sequence[Sequence[str]],
        hidden: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    ) -> Scores:
        members = rewards if self.standardization is None else self.standardization(rewards)
        several = len(members) > 1
        states = norms = None
        if hidden:
            states = np.zeros((members.shape[1], hidden[0][1].shape[1]), np.float32)
            norms = np.zeros(members.shape[1]) if hidden[0][2] is not None else None
            for where, values, norm in hidden:
                states[where] = values
                if norms is not None and norm is not None:
                    norms[where] = norm
        # Not the branches' lengths: those depend on what a row's responses have in common.
        flat = [text for group in responses for text in group]
        ids = self.checkpoint.tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"] if flat else []
        return Scores(
            reward=self.aggregate(members) if several else members[0],
            prompt=np.repeat(np.arange(len(responses)), np.asarray([len(group) for group in responses], int)),
            length=np.asarray([len(tokens) for tokens in ids], float),
            hidden=states,
            before_norm=norms,
            head=self._head() if hidden else None,
            members=members if several else None,
        )

    def _head(self) -> np.ndarray | None:
        """Weight whose product with a hidden state is the reward, where there is one: a plain mean's."""
        model = self.checkpoint.model
        if model.members > 1 and (self.standardization is not None or not isinstance(self.aggregate, Mean)):
            return None
        return np.asarray(model.head.weight.detach().float().mean(dim=0).cpu())
