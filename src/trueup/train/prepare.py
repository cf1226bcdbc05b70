"""From rows to a data set: what is learned, what is dropped and why, token ids."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from trueup.data.pairs import PairRule, pairs_of, ranking_of
from trueup.data.rows import Pair, Row
from trueup.data.selection import Dropped
from trueup.data.templates import TextFormat
from trueup.data.tokens import TokenTable, tokenize_rows
from trueup.train.dataset import BranchDataset, Preferences

logger = logging.getLogger(__name__)

Learn = PairRule | Literal["listwise"]
"""What is learned from a row of several responses: all pairs, the best against the worst, or the ranking."""


@dataclass(frozen=True)
class Prepared:
    """A data set ready to train on.

    Args:
        dataset: The rows that remain.
        dropped: Rows that are too long, or whose responses have the same token ids, each with its reason.
        truncated: Rows that are cut to the maximum length instead.
    """

    dataset: BranchDataset
    dropped: tuple[Dropped, ...]
    truncated: int


def preferences_of(row: Row, learn: Learn) -> Preferences:
    """Pairs of a row (for logging in any case) and, for `listwise`, its ranking; tied responses have no rank."""
    rank = [-1] * len(row.responses)
    if learn == "listwise":
        groups = ranking_of(row)
        for place, group in enumerate(group for group in groups if len(group) == 1):
            rank[group[0]] = place
    pairs = pairs_of(row, rule="all" if learn == "listwise" else learn)
    return Preferences(tuple(pairs), tuple(rank))


def prepare(
    rows: Sequence[Row],
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    learn: Learn = "all",
    too_long: Literal["drop", "truncate"] = "drop",
    cache: Path | None = None,
) -> Prepared:
    """Tokenise rows; drop or cut those beyond the format's maximum length, and drop those left without a difference."""
    truncate = too_long == "truncate"
    table = tokenize_rows(rows, tokenizer=tokenizer, form=form, truncate=truncate, cache=cache)
    limit = form.max_length
    sizes = [int(table.prompt_length[i]) + max(table.lengths(i)) for i in range(len(table))]
    wanted = [preferences_of(row, learn) for row in rows]
    dropped: dict[int, Dropped] = {}
    for i, row in enumerate(rows):
        if limit is not None and sizes[i] > limit:
            dropped[i] = Dropped("too long", row.origin, row.id, f"{sizes[i]} tokens, more than {limit}")
        elif _all_alike(table, i, wanted[i].pairs):
            why = "cutting left no difference" if truncate and sizes[i] == limit else "they differ in text alone"
            dropped[i] = Dropped("same tokens", row.origin, row.id, f"the responses have the same token ids: {why}")
    truncated = _cut_rows(table, limit) if truncate and limit is not None else 0
    keep = [i for i in range(len(rows)) if i not in dropped]
    return Prepared(BranchDataset(rows, table, wanted, keep=keep), tuple(dropped.values()), truncated)


def prepare_replies(
    rows: Sequence[Row],
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    too_long: Literal["drop", "truncate"] = "drop",
    cache: Path | None = None,
) -> Prepared:
    """Tokenise demonstrations, all of whose responses are learned from; drop or cut those beyond the maximum length."""
    truncate = too_long == "truncate"
    table = tokenize_rows(rows, tokenizer=tokenizer, form=form, truncate=truncate, cache=cache, seam="reply")
    limit = form.max_length
    dropped: dict[int, Dropped] = {}
    for i, row in enumerate(rows):
        size = int(table.prompt_length[i]) + max(table.lengths(i))
        if limit is not None and size > limit:
            dropped[i] = Dropped("too long", row.origin, row.id, f"{size} tokens, more than {limit}")
    truncated = _cut_rows(table, limit) if truncate and limit is not None else 0
    nothing = [Preferences((), (-1,) * len(row.responses)) for row in rows]
    keep = [i for i in range(len(rows)) if i not in dropped]
    return Prepared(BranchDataset(rows, table, nothing, keep=keep), tuple(dropped.values()), truncated)


def prepare_pairs(
    rows: Sequence[Row],
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    rule: PairRule = "all",
    too_long: Literal["drop", "truncate"] = "drop",
    cache: Path | None = None,
) -> Prepared:
    """Tokenise preferences for a policy, whose log-probabilities are of responses alone.

    Responses that are in no pair are left out before anything is measured or cut. Pairs whose responses have the same
    token ids are dropped; a row that has no other pair, or is too long, goes as a whole.
    """
    pairs_of_row = [(row, pairs_of(row, rule=rule)) for row in rows]
    dropped = [_dropped_without(row) for row, pairs in pairs_of_row if not pairs]
    paired = [_only_paired(row, pairs) for row, pairs in pairs_of_row if pairs]
    unused = sum(len(row.responses) for row, pairs in pairs_of_row if pairs)
    unused -= sum(len(row.responses) for row, _ in paired)
    if unused:
        logger.info("%d responses are in no pair and are not computed", unused)
    rows = [row for row, _ in paired]
    truncate = too_long == "truncate"
    table = tokenize_rows(rows, tokenizer=tokenizer, form=form, truncate=truncate, cache=cache, seam="reply")
    limit = form.max_length
    keep, wanted = [], []
    for i, (row, pairs) in enumerate(paired):
        size = int(table.prompt_length[i]) + max(table.lengths(i))
        apart = [pair for pair in pairs if not _all_alike(table, i, [pair])]
        wanted.append(Preferences(tuple(apart), (-1,) * len(row.responses)))
        if limit is not None and size > limit:
            dropped.append(Dropped("too long", row.origin, row.id, f"{size} tokens, more than {limit}"))
        elif not apart:
            dropped.append(Dropped("same tokens", row.origin, row.id, "the responses have the same token ids"))
        else:
            keep.append(i)
            dropped += [_same_tokens(row, pair) for pair in pairs if pair not in apart]
    truncated = _cut_rows(table, limit) if truncate and limit is not None else 0
    return Prepared(BranchDataset(rows, table, wanted, keep=keep, paired_only=True), tuple(dropped), truncated)


def _only_paired(row: Row, pairs: Sequence[Pair]) -> tuple[Row, list[Pair]]:
    """The row without responses that are in no pair, and its pairs by their new numbers."""
    used = sorted({index for pair in pairs for index in pair})
    place = {index: number for number, index in enumerate(used)}
    kept = replace(row, responses=tuple(row.responses[index] for index in used))
    return kept, [Pair(place[pair.chosen], place[pair.rejected]) for pair in pairs]


def _dropped_without(row: Row) -> Dropped:
    return Dropped("no preference", row.origin, row.id, "no response is preferred to another")


def _same_tokens(row: Row, pair: Pair) -> Dropped:
    detail = f"the responses {pair.chosen + 1} and {pair.rejected + 1} of those compared have the same token ids"
    return Dropped("response pair of the same tokens", row.origin, row.id, detail)


def _all_alike(table: TokenTable, row: int, pairs: Sequence[Pair]) -> bool:
    """Whether no pair of a row has two different sequences, so that nothing can be learned from it."""
    lengths = table.lengths(row)
    if any(lengths[chosen] != lengths[rejected] for chosen, rejected in pairs):
        return False
    ends = int(table.prompt_length[row]) + np.cumsum(lengths)
    ids = table.ids(row)
    branches = [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return bool(pairs) and all(np.array_equal(branches[chosen], branches[rejected]) for chosen, rejected in pairs)


def _cut_rows(table: TokenTable, limit: int) -> int:
    """Rows with a sequence of exactly the maximum length: cut, or just fitting."""
    return sum(int(table.prompt_length[i]) + max(table.lengths(i)) >= limit for i in range(len(table)))
