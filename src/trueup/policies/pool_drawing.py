"""Drawing a pool from a policy: only what is missing, saved as it goes."""

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from trueup.data.fingerprint import content_hash
from trueup.data.pool_files import Gap, PoolFolder, cut
from trueup.data.pool_parts import Run
from trueup.data.rows import Prompt, prompt_text
from trueup.errors import DataError
from trueup.policies.base import Policy, Sample


def draw_pool(
    folder: PoolFolder,
    policy: Policy,
    prompts: Sequence[Prompt],
    *,
    ids: Sequence[str],
    samples: int,
    seed: int,
    progress: bool = False,
) -> int:
    """Draw what a pool lacks so that each prompt has `samples` samples; those that are there stay.

    Every piece is saved once it is drawn, and its seed depends on `seed`, its first prompt and its first sample alone:
    a run that was stopped goes on to the samples that it would have drawn, and further samples are new ones.

    Args:
        folder: A pool that was begun.
        policy: What to draw from.
        prompts: The prompts.
        ids: A stable name for each.
        samples: How many samples each prompt shall have.
        seed: Seed of the draws.
        progress: Whether a progress bar is shown.

    Returns:
        How many samples were drawn.

    Raises:
        DataError: A prompt is not the pool's prompt of that name, or the policy returns another number of samples.
    """
    folder.check_prompts(ids, prompts)
    known = dict(zip(ids, prompts, strict=True))
    pieces = list(cut(folder.missing(ids, samples)))
    total = sum(len(piece.ids) * piece.count for piece in pieces)
    with tqdm(total=total, desc=f"draw from {policy.name}", unit=" samples", disable=not progress, leave=False) as bar:
        for piece in pieces:
            asked = [known[key] for key in piece.ids]
            drawn = policy.sample(asked, piece.count, seed=_seed(seed, asked[0], piece.start))
            folder.append(_runs(policy.name, piece, asked, drawn))
            bar.update(len(piece.ids) * piece.count)
    return total


def _seed(seed: int, prompt: Prompt, start: int) -> int:
    return content_hash("pool", seed, prompt_text(prompt), start) % 2**32


def _runs(name: str, piece: Gap, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Sample]]) -> list[Run]:
    wrong = [len(group) for group in drawn if len(group) != piece.count]
    if len(drawn) != len(piece.ids) or wrong:
        found = f"{name} answered {len(drawn)} prompts" + (f" with {wrong[0]} samples" if wrong else "")
        raise DataError(found, expected=f"{piece.count} samples for each of {len(piece.ids)} prompts")
    return [
        Run(key, piece.start, piece.count, _columns(group), prompt=prompt)
        for key, prompt, group in zip(piece.ids, prompts, drawn, strict=True)
    ]


def _columns(samples: Sequence[Sample]) -> dict[str, Sequence[object]]:
    return {
        "response": [sample.text for sample in samples],
        "tokens": [sample.tokens for sample in samples],
        "finished": [sample.finished for sample in samples],
        "logprob": [np.nan if sample.logprob is None else sample.logprob for sample in samples],
    }
