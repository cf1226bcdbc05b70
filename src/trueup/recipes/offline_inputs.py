"""Held-out prompts and pairs, and whether they are held out."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trueup.data.demonstrations import PromptFile, read_prompts
from trueup.data.fingerprint import fingerprint
from trueup.data.formats import read_rows
from trueup.data.replies import encode_prompts
from trueup.data.rows import Origin, Prompt, Row, prompt_text
from trueup.data.selection import select
from trueup.errors import DataError, TrueupError
from trueup.policies.base import Policy
from trueup.policies.model import ModelPolicy
from trueup.recipes.offline_policies import Made
from trueup.recipes.offline_settings import OfflineInputs, Seen

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What policies are measured on.

    Args:
        prompts: Prompts that are answered.
        rows: Rows with pairs, those of one prompt together.
        sources: What the report says of where both come from.
        notes: What a reader should know of them.
    """

    prompts: tuple[Prompt, ...] = ()
    rows: tuple[Row, ...] = ()
    sources: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def held_out(recipe: OfflineInputs, policies: Sequence[Made], *, reference: Made | None = None) -> HeldOut:
    """Read prompts and pairs, and hold them against what each policy was trained on.

    Raises:
        DataError: A source cannot be used, or a policy was trained on its prompts.
    """
    sources: dict[str, object] = {}
    notes: list[str] = []
    prompts: dict[Prompt, Origin] = {}
    rows: tuple[Row, ...] = ()
    if recipe.prompts is not None:
        file = read_prompts(recipe.prompts, split=recipe.prompts_split, limit=recipe.prompts_limit)
        prompts = dict(zip(file.prompts, file.origins, strict=True))
        sources["prompts"] = {"source": file.source, "fingerprint": file.fingerprint}
        notes += _problems(file)
    if recipe.pairs is not None:
        rows, more = _read_pairs(recipe, recipe.pairs)
        sources["pairs"] = {"source": recipe.pairs, "fingerprint": fingerprint(rows)}
        notes += more
    for policy in (*policies, *([reference] if reference is not None else [])):
        trained, why = trained_on(policy)
        rule: Seen = recipe.seen if policy is not reference else "keep"
        notes += [why] if why and policy is not reference else []
        known = {prompt: origin for prompt, origin in prompts.items() if asked(prompt) in trained}
        seen_rows = {row.id: row.origin for row in rows if asked(row.prompt) in trained}
        for what, found, count in (("prompts", known, len(prompts)), ("rows of pairs", seen_rows, len(rows))):
            notes += _judge_seen(what, list(found.values()), count, policy=policy, rule=rule)
        if rule == "drop":
            prompts = {prompt: origin for prompt, origin in prompts.items() if prompt not in known}
            rows = tuple(row for row in rows if row.id not in seen_rows)
    return HeldOut(prompts=tuple(prompts), rows=rows, sources=sources, notes=tuple(notes))


def _problems(file: PromptFile) -> list[str]:
    if not file.problems:
        return []
    reasons = ", ".join(sorted({problem.reason for problem in file.problems}))
    return [f"{len(file.problems)} records of {file.source} hold no usable prompt ({reasons})"]


def _read_pairs(recipe: OfflineInputs, source: str) -> tuple[tuple[Row, ...], list[str]]:
    file = read_rows(source, split=recipe.pairs_split, limit=recipe.pairs_limit)
    chosen = select(file.rows, problems=file.problems)
    left_out = ", ".join(f"{count} {reason}" for reason, count in chosen.summary().items())
    if not chosen.kept:
        raise DataError(
            f"zero usable rows ({left_out or 'no rows at all'})",
            file=source,
            expected="rows with at least two different responses and a preference between them",
        )
    number: dict[Prompt, int] = {}
    for row in chosen.kept:
        number.setdefault(row.prompt, len(number))
    rows = tuple(sorted(chosen.kept, key=lambda row: number[row.prompt]))
    return rows, [f"Not used of the pairs: {left_out}"] if left_out else []


def asked(prompt: Prompt) -> str:
    """Text by which prompts are compared: a single turn of a user is as good as its text, white space collapsed."""
    if not isinstance(prompt, str) and len(prompt) == 1 and prompt[0].role == "user":
        return " ".join(prompt[0].content.split())
    return " ".join(prompt_text(prompt).split())


def trained_on(policy: Made) -> tuple[frozenset[str], str]:
    """Prompts that a policy was trained on, and a note where they cannot be looked up."""
    data = policy.recipe.get("data")
    if not isinstance(data, Mapping) or not data.get("train"):
        return frozenset(), f"What {policy.name} was trained on is not known, so nothing says that prompts are held out"
    try:
        found = {asked(prompt) for part in (data, *_earlier(policy)) for prompt in _prompts_in(part)}
    except TrueupError as error:
        logger.info("%s", error)
        note = f"The data that {policy.name} was trained on ({data['train']}) cannot be read here, so whether prompts "
        return frozenset(), note + "are held out was not checked"
    return frozenset(found), ""


def _earlier(policy: Made) -> list[dict[str, str]]:
    return [{"train": str(path), "format": "preference"} for path in policy.earlier]


def _prompts_in(data: Mapping[str, Any]) -> Iterable[Prompt]:
    """Prompts of the data that a recipe names: rows, or prompts alone."""
    source, limit = str(data["train"]), data.get("limit")
    if "format" in data:
        rows = read_rows(source, format=str(data["format"]), split=data.get("train_split"), limit=limit).rows
        return [row.prompt for row in rows]
    return read_prompts(source, split=data.get("split"), limit=limit).prompts


def _judge_seen(what: str, found: Sequence[Origin], count: int, *, policy: Made, rule: Seen) -> list[str]:
    if not found:
        return []
    words = f"{len(found)} of {count} {what} are among those that {policy.name} was trained on"
    if rule == "refuse" or (rule == "drop" and len(found) == count):
        raise DataError(
            words,
            file=found[0].file,
            row=found[0].row,
            expected=f"{what} that are held out",
            cure="name others" if rule == "drop" else "name others, or leave these out by --seen drop",
        )
    return [f"{words}: {'they are left out' if rule == 'drop' else 'they are measured all the same'}"]


def short_enough(
    prompts: Sequence[Prompt], policies: Iterable[Policy], *, max_new_tokens: int, source: str
) -> tuple[tuple[Prompt, ...], int]:
    """Prompts that leave every model room for an answer, and how many do not.

    Raises:
        DataError: None is left.
    """
    kept = list(prompts)
    for policy in policies if prompts else ():
        limit = policy.checkpoint.form.max_length if isinstance(policy, ModelPolicy) else None
        if limit is None or not isinstance(policy, ModelPolicy):
            continue
        ids = encode_prompts(kept, tokenizer=policy.checkpoint.tokenizer, form=policy.checkpoint.form)
        kept = [prompt for prompt, one in zip(kept, ids, strict=True) if len(one) + max_new_tokens <= limit]
        if not kept:
            raise DataError(
                f"no prompt leaves {policy.name} room for {max_new_tokens} more tokens within its {limit}",
                file=source,
                cure="lower max_new_tokens, or name shorter prompts",
            )
    return tuple(kept), len(prompts) - len(kept)
