"""What supervised fine-tuning learns from, and what policies answer: demonstrations, and prompts alone."""

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from trueup.data.demonstration_formats import instruction_prompt, sharegpt_turns, stated_prompt, without_reply
from trueup.data.fields import Fields
from trueup.data.fingerprint import prompt_record
from trueup.data.formats import FORMATS, detect_format, same_shape, unique_names
from trueup.data.pairs import has_labels, judgements_of
from trueup.data.readers import read_records
from trueup.data.rowfile import Problem
from trueup.data.rows import Origin, Prompt, Row
from trueup.data.selection import Dropped, Selection
from trueup.errors import DataError, RecipeError

__all__ = ["PromptFile", "Which", "read_prompts", "select_demonstrations"]

Which = Literal["all", "best"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """The prompts of one source, each once, in the source's order.

    Args:
        prompts: Text or chat turns that end before the reply.
        ids: A unique name for each prompt.
        origins: Where each was read first.
        source: What was read.
        fingerprint: SHA-256 of names and prompts, in hexadecimal.
        problems: Records that were read but hold no usable prompt.
        repeated: How many records repeat an earlier one's prompt.
    """

    prompts: tuple[Prompt, ...]
    ids: tuple[str, ...]
    origins: tuple[Origin, ...]
    source: str
    fingerprint: str
    problems: tuple[Problem, ...] = ()
    repeated: int = 0


def select_demonstrations(
    rows: Iterable[Row], *, which: Which, problems: Sequence[Problem] = (), drop_duplicates: bool = False
) -> Selection:
    """Keep the responses that supervised fine-tuning learns from.

    Always dropped: responses without text, and a text that occurs again among a row's responses. A row that has no
    response left is dropped whole.

    Args:
        rows: What was read.
        which: "all" responses of a row, or the "best": those labelled preferred, or, in rows without labels, those
            with the highest score; ties keep all tied. Rows that state no preference keep all.
        problems: Records that reading could not use; they are listed first.
        drop_duplicates: Also drop responses that an earlier row gives to the same prompt.

    Raises:
        RecipeError: `which` is neither.
    """
    if which not in get_args(Which):
        raise RecipeError(f"which must be one of {', '.join(get_args(Which))}, got {which}")
    dropped = [Dropped(one.reason, one.origin, None, one.detail) for one in problems]
    kept: list[Row] = []
    first: dict[tuple[Prompt, str], Origin] = {}
    for row in rows:
        if not drop_duplicates:
            first.clear()
        removed = _left_out(row, which, first)
        if len(removed) == len(row.responses):
            dropped.append(_whole_row(row, removed))
            continue
        dropped += removed.values()
        left = tuple(one for index, one in enumerate(row.responses) if index not in removed)
        kept.append(replace(row, responses=left) if removed else row)
    return Selection(tuple(kept), tuple(dropped))


def _left_out(row: Row, which: Which, first: dict[tuple[Prompt, str], Origin]) -> dict[int, Dropped]:
    """What is not learned from, by response index; `first` says where each text was met, and learns this row's."""
    written = {index for index, one in enumerate(row.responses) if one.text.strip()}
    wanted = _best_of(row, written) if which == "best" else written
    removed = {}
    for index, one in enumerate(row.responses):
        detail = f"response {index + 1} of {len(row.responses)}"
        if index not in written:
            reason = "response empty"
        elif index not in wanted:
            reason = "response rejected" if one.label is False else "response not the best"
        elif (row.prompt, one.text) in first:
            reason = "response repeated"
            detail = f"{detail}, the same as one at {first[row.prompt, one.text]}"
        else:
            first[row.prompt, one.text] = row.origin
            continue
        removed[index] = Dropped(reason, row.origin, row.id, detail)
    return removed


def _best_of(row: Row, written: set[int]) -> set[int]:
    judgements = judgements_of(row)
    if not judgements:
        return written
    judged = {index: judgement for index, judgement in judgements.items() if index in written}
    best = 1.0 if has_labels(row) else max(judged.values(), default=None)
    return {index for index, judgement in judged.items() if judgement == best}


def _whole_row(row: Row, removed: dict[int, Dropped]) -> Dropped:
    """One entry for a row of which nothing is left."""
    reasons = {one.reason for one in removed.values()}
    if reasons <= {"response empty"}:
        return Dropped("empty responses", row.origin, row.id, f"all {len(row.responses)} responses are empty")
    repeated = next((one for one in removed.values() if one.reason == "response repeated"), None)
    if repeated is not None:
        return Dropped("duplicate row", row.origin, row.id, repeated.detail)
    return Dropped("no chosen response", row.origin, row.id, f"none of {len(row.responses)} responses is the best")


def read_prompts(source: str | Path, *, split: str | None = None, limit: int | None = None) -> PromptFile:
    """Read the prompts of any known format, or of records that hold a prompt alone.

    A prompt alone is `prompt` (text or chat messages), `messages` or `conversations` that end before the reply, or
    an `instruction` or `question`. Replies beside them are not looked at. Repeated prompts are kept once.

    Args:
        source: A file, a folder, or a hub id, as `read_records` takes it.
        split: Which split of a folder or hub id.
        limit: Use no more than this many different prompts.

    Raises:
        DataError: The source or one of its records has no prompt that can be used; file, row and field are named.
        RecipeError: `limit` makes no sense.
    """
    if limit is not None and limit < 1:
        raise RecipeError(f"limit must be at least 1, got {limit}")
    records = (Fields(origin, values) for origin, values in read_records(source, split=split))
    first = next(records)
    shape = _prompt_shape(first)
    found: dict[Prompt, tuple[str, Origin]] = {}
    problems: list[Problem] = []
    repeated = 0
    for record in same_shape(itertools.chain([first], records), shape):
        prompt = _prompt_of(record, shape)
        if isinstance(prompt, Problem):
            problems.append(prompt)
        elif prompt in found:
            repeated += 1
        else:
            found[prompt] = (record.optional_name("id", "prompt_id") or "", record.origin)
        if len(found) == limit:
            break
    return _prompt_file(source, found, problems=problems, repeated=repeated)


def _prompt_shape(record: Fields) -> str:
    """The format whose prompt the record has, whether or not it has the replies of that format."""
    name = detect_format(record.values)
    if name is not None and name != "text":
        return name
    if record.has("prompt"):
        return "prompt-response"
    if record.first_of("instruction", "question") is not None:
        return "alpaca"
    others = "`messages`, `conversations`, `instruction` or `question`"
    raise record.wrong("prompt", expected=f"a prompt, here or in {others}")


def _prompt_of(record: Fields, shape: str) -> Prompt | Problem:
    if shape in {"prompt-completion", "prompt-response"}:
        return stated_prompt(record)
    if shape == "alpaca":
        return instruction_prompt(record)
    if shape in {"conversation", "sharegpt"}:
        turns = record.messages("messages") if shape == "conversation" else sharegpt_turns(record)
        return without_reply(turns) or Problem("no prompt", record.origin, "the dialogue holds a reply alone")
    row = FORMATS[shape].parse(record)
    return row if isinstance(row, Problem) else row.prompt


def _prompt_file(
    source: str | Path, found: dict[Prompt, tuple[str, Origin]], *, problems: list[Problem], repeated: int
) -> PromptFile:
    if not found:
        one = problems[0]
        text = f"zero usable prompts; the first of {len(problems)} problems is at row {one.origin.row}: {one.reason}"
        raise DataError(f"{text} ({one.detail})", file=source, cure="mend the data")
    if repeated:
        _LOG.info("%s: %d records repeat a prompt; each prompt is kept once", source, repeated)
    ids = tuple(unique_names(name for name, _ in found.values()))
    return PromptFile(
        prompts=tuple(found),
        ids=ids,
        origins=tuple(origin for _, origin in found.values()),
        source=str(source),
        fingerprint=_fingerprint(ids, found),
        problems=tuple(problems),
        repeated=repeated,
    )


def _fingerprint(ids: Iterable[str], prompts: Iterable[Prompt]) -> str:
    digest = hashlib.sha256()
    for id, prompt in zip(ids, prompts, strict=True):
        line = json.dumps([id, prompt_record(prompt)], ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
