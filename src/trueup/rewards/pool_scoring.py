"""Scoring a pool: each different response to a prompt once, a prompt's responses together."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from trueup.data.pool_files import PoolFolder, cut
from trueup.data.pool_parts import Run
from trueup.data.pool_reading import column_name
from trueup.data.pools import Pool, distinct
from trueup.data.rows import Prompt
from trueup.errors import RecipeError
from trueup.rewards.base import Reward, Scores

Array = np.ndarray

_AT_A_TIME = 16_384
"""About how many samples are scored between two saves."""


def score_pool(pool: Pool, reward: Reward) -> dict[str, Float[Array, "prompts samples"]]:
    """Scores of every response, by the names that `Pool.scores` documents.

    A response that a prompt has several times is scored once, and all its samples get that score: it is taken for
    granted that a reward gives equal texts equal scores.

    Raises:
        DataError: A score is not finite.
        RecipeError: The reward returns another number of scores than there are responses.
    """
    columns = _score(reward, pool.prompts, pool.responses)
    scores = {column_name(reward.name, name): values for name, values in columns.items()}
    pool.with_scores(scores)  # stops where one is not finite
    return scores


def score_folder(
    folder: PoolFolder, reward: Reward, *, ids: Sequence[str], samples: int, progress: bool = False
) -> int:
    """Score what a stored pool's samples lack, saving as it goes; responses are read and never written.

    Args:
        folder: A pool in which the reward was begun.
        reward: What scores.
        ids: Prompts whose samples are scored.
        samples: How many of each prompt's samples.
        progress: Whether a progress bar is shown.

    Returns:
        How many samples were given a score.
    """
    pieces = list(cut(folder.missing(ids, samples, reward=reward.name), samples=_AT_A_TIME))
    if not pieces:
        return 0
    pool = folder.read(ids, samples=samples)
    place = {key: row for row, key in enumerate(ids)}
    total = sum(len(piece.ids) * piece.count for piece in pieces)
    with tqdm(total=total, desc=f"score with {reward.name}", unit=" samples", disable=not progress, leave=False) as bar:
        for piece in pieces:
            rows, stop = [place[key] for key in piece.ids], piece.start + piece.count
            texts = [pool.responses[row][piece.start : stop] for row in rows]
            columns = _score(reward, [pool.prompts[row] for row in rows], texts)
            runs = [
                Run(key, piece.start, piece.count, {name: values[at] for name, values in columns.items()})
                for at, key in enumerate(piece.ids)
            ]
            folder.append(runs, reward=reward.name)
            bar.update(len(rows) * piece.count)
    return total


def _score(
    reward: Reward, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
) -> dict[str, Float[Array, "prompts samples"]]:
    """Columns of scores by their names on disk."""
    different = [distinct(group) for group in responses]
    scores = reward.score(prompts, [texts for texts, _ in different])
    count = sum(len(texts) for texts, _ in different)
    if scores.reward.shape != (count,):
        raise RecipeError(f"{reward.name} returned {scores.reward.shape} scores for {count} responses; return one each")
    starts = np.cumsum([0, *(len(texts) for texts, _ in different)])[:-1]
    where = np.stack([start + index for start, (_, index) in zip(starts, different, strict=True)])
    return {name: np.asarray(values, float)[where] for name, values in _columns(scores).items()}


def _columns(scores: Scores) -> dict[str, Array]:
    columns = {"reward": scores.reward}
    if scores.members is not None:
        columns |= {str(number): values for number, values in enumerate(scores.members)}
    if scores.hidden is not None:
        columns["hidden_norm"] = np.linalg.norm(scores.hidden, axis=1)
    if scores.before_norm is not None:
        columns["before_norm"] = scores.before_norm
    return columns
