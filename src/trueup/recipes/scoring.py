"""From rows and a reward to what measures read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool

from trueup.data.pairs import judgements_of, pairs_of
from trueup.data.rows import Pair, Prompt, Row, prompt_text
from trueup.errors import DataError, RecipeError
from trueup.measure.audit import HackScores
from trueup.measure.hacking import EditedResponses, edit_responses
from trueup.measure.scored import ScoredSplit
from trueup.rewards.base import Reward


def score_split(reward: Reward, name: str, rows: Sequence[Row]) -> ScoredSplit:
    """Score all responses of a split."""
    scores = reward.score([row.prompt for row in rows], [[r.text for r in row.responses] for row in rows])
    starts = _starts(rows)
    pairs = [Pair(a + start, b + start) for row, start in zip(rows, starts, strict=True) for a, b in pairs_of(row)]
    gold = np.asarray([np.nan if r.score is None else r.score for row in rows for r in row.responses])
    return ScoredSplit(
        name=name,
        reward=scores.reward,
        prompt=scores.prompt,
        pairs=np.asarray(pairs, np.int64).reshape(-1, 2),
        length=scores.length,
        gold=gold if np.isfinite(gold).any() else None,
        hidden=scores.hidden,
        before_norm=scores.before_norm,
        head=scores.head,
        subset=tuple(row.subset for row in rows) if any(row.subset for row in rows) else None,
        ids=tuple(row.id for row in rows),
    )


def right_answers(rows: Sequence[Row]) -> Bool[np.ndarray, " responses"] | None:
    """Which responses are labelled right, where every response is labelled; benchmarks are told by that."""
    labels = [response.label for row in rows for response in row.responses]
    return None if any(label is None for label in labels) else np.asarray(labels, bool)


def _starts(rows: Sequence[Row]) -> list[int]:
    return np.concatenate([[0], np.cumsum([len(row.responses) for row in rows])])[:-1].astype(int).tolist()


@dataclass(frozen=True)
class Battery:
    """Good responses of a split and what each hack makes of them.

    Args:
        split: Name of the split.
        prompts: The prompts, one for each original.
        originals: The best response to each.
        edits: Edited responses by hack.
    """

    split: str
    prompts: tuple[Prompt, ...]
    originals: tuple[str, ...]
    edits: dict[str, EditedResponses]


def make_battery(split: str, rows: Sequence[Row], *, prompts: int, seed: int) -> Battery | None:
    """Edit the best response of some prompts; None where the data name no best response."""
    good = [(row.prompt, best) for row in rows if (best := _best(row)) is not None]
    if len(good) < 2:
        return None
    chosen = np.random.default_rng(seed).permutation(len(good))[:prompts]
    kept = [good[i] for i in sorted(chosen)]
    asked = [_last_user_turn(prompt) for prompt, _ in kept]
    edits = edit_responses(asked, [text for _, text in kept], seed=seed)
    return Battery(split, tuple(prompt for prompt, _ in kept), tuple(text for _, text in kept), edits)


def _best(row: Row) -> str | None:
    judged = judgements_of(row)
    usable = [i for i in judged if row.responses[i].text.strip()]
    if len(set(judged.values())) < 2 or not usable:
        return None
    best = max(usable, key=lambda i: judged[i])
    return row.responses[best].text


def _last_user_turn(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return next((turn.content for turn in reversed(prompt) if turn.role == "user"), prompt_text(prompt))


def score_battery(reward: Reward, battery: Battery) -> tuple[HackScores, ...]:
    """Score originals and all edits, every prompt computed once for all its variants."""
    variants: list[list[str]] = [[text] for text in battery.originals]
    places: dict[str, list[int]] = {}
    for name, edited in battery.edits.items():
        places[name] = [len(variants[i]) for i in edited.index]
        for i, text in zip(edited.index, edited.texts, strict=True):
            variants[i].append(text)
    grouped = reward.score(battery.prompts, variants).grouped()
    return tuple(
        HackScores(
            hack=name,
            split=battery.split,
            prompts=tuple(prompt_text(battery.prompts[i]) for i in edited.index),
            originals=tuple(battery.originals[i] for i in edited.index),
            edited=edited.texts,
            prompt=np.asarray(edited.index, int),
            reward_original=np.asarray([grouped[i][0] for i in edited.index]),
            reward_edited=np.asarray([grouped[i][k] for i, k in zip(edited.index, places[name], strict=True)]),
            unchanged=edited.unchanged,
        )
        for name, edited in battery.edits.items()
        if edited.index
    )


def check_device(device: str | None) -> None:
    """Stop before long work where there is no such device.

    Raises:
        RecipeError: torch does not know it, or the machine does not have it.
    """
    if device is None:
        return
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecipeError(f"device {device!r} cannot be used ({reason}); name cpu, cuda or cuda:N") from error


def require_rows(rows: Sequence[Row], source: str) -> None:
    """Stop where a split has nothing to score.

    Raises:
        DataError: There are no rows.
    """
    if not rows:
        raise DataError("zero usable rows", file=source, expected="prompts with responses")
