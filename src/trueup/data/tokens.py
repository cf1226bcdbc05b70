"""Tokenised data sets: made once in parallel, kept on disk by content, mapped into memory ever after."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tokenizers
import transformers
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from trueup.data.branches import shared_prefix
from trueup.data.replies import encode_replies
from trueup.data.rows import Response, Row
from trueup.data.templates import TextFormat, encode, render_row
from trueup.files import sync_tree

logger = logging.getLogger(__name__)

Array = np.ndarray
Columns = tuple[list[int], list[int], list[int], list[int], list[int]]
Seam = Literal["common", "reply"]
_CHUNK = 512
# Below this a second process costs more than it saves (each must import transformers).
_PARALLEL_FROM = 20_000
_NAMES = ("tokens", "row_start", "prompt_length", "branch_start", "branch_length")
_SUMS = "checksums.json"


@dataclass(frozen=True)
class TokenTable:
    """Token ids of many rows as five flat arrays, which may be memory maps.

    Row i holds `tokens[row_start[i]:row_start[i + 1]]`: its shared prompt of `prompt_length[i]` tokens, then its
    branches, whose lengths are `branch_length[branch_start[i]:branch_start[i + 1]]`.
    """

    tokens: Int[Array, " s"]
    row_start: Int[Array, " rows1"]
    prompt_length: Int[Array, " rows"]
    branch_start: Int[Array, " rows1"]
    branch_length: Int[Array, " branches"]

    def __len__(self) -> int:
        return len(self.prompt_length)

    def ids(self, row: int) -> Int[Array, " s"]:
        """Ids of one row, shared prompt first."""
        return self.tokens[self.row_start[row] : self.row_start[row + 1]]

    def lengths(self, row: int) -> tuple[int, ...]:
        """Lengths of one row's branches."""
        return tuple(int(n) for n in self.branch_length[self.branch_start[row] : self.branch_start[row + 1]])


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of everything about a tokenizer that can change ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    parts = (type(tokenizer).__name__, state, str(tokenizer.chat_template), str(tokenizer.special_tokens_map))
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def rows_fingerprint(rows: Sequence[Row]) -> str:
    """Hash of all text that is tokenised."""
    digest = hashlib.sha256()
    for row in rows:
        prompt = row.prompt if isinstance(row.prompt, str) else [list(turn) for turn in row.prompt]
        digest.update(json.dumps([prompt, [response.text for response in row.responses]]).encode())
    return digest.hexdigest()


def tokenize_rows(
    rows: Sequence[Row],
    *,
    tokenizer: PreTrainedTokenizerBase,
    form: TextFormat,
    truncate: bool = False,
    cache: Path | None = None,
    workers: int | None = None,
    seam: Seam = "common",
) -> TokenTable:
    """Token ids of all rows; read from `cache` where the same text, tokenizer and format were tokenised before.

    Args:
        rows: What to tokenise.
        tokenizer: A transformers tokenizer.
        form: The text format.
        truncate: Whether sequences are cut to the format's length (off in training, where long rows are dropped).
        cache: Folder of tokenised data sets, or None to keep nothing.
        workers: Processes; by default all cores for large data and one otherwise.
        seam: Where a row's shared prompt ends: after all that its sequences have in common, or where replies begin.
    """
    fold = partial(_fold_chunk, tokenizer=tokenizer, form=form, truncate=truncate, seam=seam)
    if cache is None:
        return _build(rows, fold, workers=workers)
    key_parts = (
        tokenizers.__version__,
        rows_fingerprint(rows),
        tokenizer_fingerprint(tokenizer),
        json.dumps(form.to_dict()),
        str(truncate),
        seam,
    )
    key = hashlib.sha256("|".join((*key_parts, transformers.__version__)).encode()).hexdigest()[:32]
    folder = cache / key
    known = _load(folder)
    if known is not None:
        logger.info("%d rows were tokenised before: %s", len(rows), folder)
        return known
    table = _build(rows, fold, workers=workers)
    try:
        _save(table, folder)
    except OSError as error:
        logger.warning("%s: tokenised rows cannot be kept (%s): the next start tokenises again", cache, error.strerror)
        return table
    logger.info("tokenised %d rows into %s", len(rows), folder)
    return _load(folder) or table


def _load(folder: Path) -> TokenTable | None:
    """The table in a folder as memory maps, or None where it is absent or damaged."""
    if not folder.is_dir():
        return None
    try:
        sums = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NAMES}
        whole = all(sums[name] == _checksum(array) for name, array in arrays.items())
    except (OSError, ValueError, LookupError, TypeError, EOFError):
        whole = False
    if not whole:
        logger.warning("%s: the tokenised rows are damaged and are made again", folder)
        return None
    return TokenTable(**arrays)


def _checksum(array: Array) -> str:
    """Type, shape and CRC-32: fast enough for every start, and sees any damage by a disk."""
    return f"{array.dtype.str} {array.shape} {zlib.crc32(np.ascontiguousarray(array).data):08x}"


def _save(table: TokenTable, folder: Path) -> None:
    """Write all arrays under a temporary name, then move the folder into place; damaged ones give way."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        for name in _NAMES:
            np.save(temporary / f"{name}.npy", getattr(table, name))
        sums = {name: _checksum(getattr(table, name)) for name in _NAMES}
        (temporary / _SUMS).write_text(json.dumps(sums), encoding="utf-8")
        sync_tree(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # another process may have been first, with the same content
            raise


def _build(rows: Sequence[Row], fold: Callable[[Sequence[Row]], Columns], *, workers: int | None) -> TokenTable:
    if workers is None:
        workers = (os.cpu_count() or 1) if len(rows) >= _PARALLEL_FROM else 1
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            return _concatenate(pool.map(fold, map(_texts_alone, chunks)))
    return _concatenate(map(fold, chunks))


def _texts_alone(rows: Sequence[Row]) -> list[Row]:
    """Rows without what tokenising does not read, some of which cannot go to another process."""
    return [replace(row, responses=tuple(Response(text=one.text) for one in row.responses)) for row in rows]


def _fold_chunk(
    rows: Sequence[Row], *, tokenizer: PreTrainedTokenizerBase, form: TextFormat, truncate: bool, seam: Seam
) -> Columns:
    """Flat ids, row sizes, prompt lengths, branch counts and branch lengths of a few rows."""
    split = encode_replies if seam == "reply" else _split_at_common
    ids: list[int] = []
    sizes, prompts, counts, lengths = [], [], [], []
    for prompt, branches in split(rows, tokenizer=tokenizer, form=form, truncate=truncate):
        before = len(ids)
        ids.extend(prompt)
        for branch in branches:
            ids.extend(branch)
            lengths.append(len(branch))
        sizes.append(len(ids) - before)
        prompts.append(len(prompt))
        counts.append(len(branches))
    return ids, sizes, prompts, counts, lengths


def _split_at_common(
    rows: Sequence[Row], *, tokenizer: PreTrainedTokenizerBase, form: TextFormat, truncate: bool
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Each row's sequences, cut after all that they have in common."""
    texts = [text for row in rows for text in render_row(row, tokenizer=tokenizer, form=form)]
    encoded = iter(encode(texts, tokenizer=tokenizer, form=form, truncate=truncate))
    for row in rows:
        sequences = [next(encoded) for _ in row.responses]
        shared = shared_prefix(sequences)
        yield sequences[0][:shared], [sequence[shared:] for sequence in sequences]


def _concatenate(parts: Iterator[Columns]) -> TokenTable:
    columns: tuple[list[Array], ...] = ([], [], [], [], [])
    for part in parts:
        for column, values in zip(columns, part, strict=True):
            column.append(np.asarray(values, np.int32))
    ids, sizes, prompts, counts, lengths = (
        np.concatenate(column) if column else np.zeros(0, np.int32) for column in columns
    )
    return TokenTable(
        tokens=ids,
        row_start=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
        prompt_length=prompts,
        branch_start=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        branch_length=lengths,
    )
