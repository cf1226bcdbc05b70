"""Prompts and responses as the tokenised rows that a model was trained on."""

import logging
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from trueup.data.branches import BranchRow
from trueup.data.rows import Origin, Prompt, Response, Row
from trueup.data.templates import TextFormat
from trueup.data.tokens import Seam, TokenTable, tokenize_rows

logger = logging.getLogger(__name__)


def scored_rows(
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    name: str,
    seam: Seam = "common",
) -> list[BranchRow]:
    """A row for each prompt; sequences beyond the format's length are cut as in training, in one warning by `name`.

    Args:
        prompts: The prompts.
        responses: K_i >= 1 responses to each prompt i.
        tokenizer: The model's tokenizer.
        form: The text that it was trained on.
        name: Who warns.
        seam: Where a row's shared prompt ends: after all that its sequences have in common, or where replies begin.

    Raises:
        DataError: Text that the format cannot take.
    """
    as_rows = [
        Row(
            prompt=prompt,
            responses=tuple(Response(text=text) for text in group),
            id=str(number),
            origin=Origin("prompts", number + 1),
        )
        for number, (prompt, group) in enumerate(zip(prompts, responses, strict=True))
    ]
    table = tokenize_rows(as_rows, tokenizer=tokenizer, form=form, seam=seam)
    found = [_branch_row(table, i, index=i) for i in range(len(table))]
    limit = form.max_length
    long = [row.index for row in found if limit is not None and row.longest > limit]
    if long:
        count = sum(found[i].prompt_length + n > (limit or 0) for i in long for n in found[i].branch_lengths)
        logger.warning(
            "%s: %d of %d responses exceed %d tokens with their prompt and were cut on the %s",
            *(name, count, sum(map(len, responses)), limit, form.truncation_side),
        )
        shorter = tokenize_rows([as_rows[i] for i in long], tokenizer=tokenizer, form=form, seam=seam, truncate=True)
        for place, i in enumerate(long):
            found[i] = _branch_row(shorter, place, index=i)
    return found


def _branch_row(table: TokenTable, number: int, *, index: int) -> BranchRow:
    lengths = table.lengths(number)
    return BranchRow(
        tokens=table.ids(number),
        prompt_length=int(table.prompt_length[number]),
        branch_lengths=lengths,
        pairs=np.zeros((0, 2), np.int64),
        rank=np.full(len(lengths), -1),
        index=index,
    )
