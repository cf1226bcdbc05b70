"""Reading a pool's folder back into one `Pool`, with every gap, overlap and NaN named."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.pool_parts import read_parts
from trueup.data.pools import Pool, Settings, check_finite
from trueup.data.rows import Prompt
from trueup.errors import DataError

SCHEMA = "trueup.pool/1"
_SAMPLE_COLUMNS = ("response", "tokens", "finished", "logprob")


def read_pool(
    path: Path, ids: Sequence[str] | None = None, *, samples: int | None = None, rewards: Sequence[str] = ()
) -> Pool:
    """Read samples and scores.

    Args:
        path: The pool's folder.
        ids: Prompts to read, all of them by default.
        samples: How many samples of each; all by default, and then every prompt must have the same number.
        rewards: Names of rewards whose scores are wanted.

    Raises:
        DataError: The folder holds no pool, a part is damaged, samples or scores are missing or not finite.
    """
    settings = stored_settings(path)
    if settings is None:
        raise DataError("holds no pool (no pool.json)", file=path, cure="check the path")
    prompts = stored_prompts(path)
    wanted = tuple(prompts if ids is None else ids)
    absent = [key for key in wanted if key not in prompts]
    if absent or not wanted:
        found = f"the pool has no samples for prompt {absent[0]!r}" if absent else "the pool has no samples"
        raise DataError(found, file=path, cure="draw them: run the command with a policy")
    size = _size(path, wanted) if samples is None else samples
    columns = _assemble(parts_folder(path), _SAMPLE_COLUMNS, ids=wanted, samples=size)
    return Pool(
        ids=wanted,
        prompts=tuple(prompts[key] for key in wanted),
        responses=tuple(map(tuple, columns["response"].tolist())),
        tokens=columns["tokens"].astype(int),
        finished=columns["finished"].astype(bool),
        logprob=columns["logprob"].astype(float),
        scores=_scores(path, rewards, ids=wanted, samples=size),
        settings=settings,
    )


def _scores(path: Path, rewards: Sequence[str], *, ids: Sequence[str], samples: int) -> dict[str, np.ndarray]:
    held = stored_rewards(path)
    scores: dict[str, np.ndarray] = {}
    for name in rewards:
        if name not in held:
            expected = f"one of: {', '.join(held) or 'none'}"
            raise DataError("there are no scores of that name", file=path, field=name, expected=expected)
        columns = _assemble(parts_folder(path, name), None, ids=ids, samples=samples)
        for column, values in columns.items():
            check_finite(values, column, ids=ids, file=parts_folder(path, name))
            scores[column_name(name, column)] = values
    return scores


def _size(path: Path, ids: Sequence[str]) -> int:
    ends = stored_sizes(path)
    few, many = min(ids, key=lambda key: ends[key]), max(ids, key=lambda key: ends[key])
    if ends[few] != ends[many]:
        raise DataError(
            f"prompt {few!r} has {ends[few]} samples and prompt {many!r} has {ends[many]}",
            file=path,
            expected="the same number for every prompt",
            cure=f"run the command that draws them once more, or ask for {ends[few]} samples",
        )
    return ends[few]


def _assemble(
    folder: Path, columns: Sequence[str] | None, *, ids: Sequence[str], samples: int
) -> dict[str, np.ndarray]:
    """Columns as arrays, prompts by samples; numbers where no columns are named."""
    place = {key: row for row, key in enumerate(ids)}
    covered = np.zeros((len(ids), samples), bool)
    arrays: dict[str, np.ndarray] = {}
    for run in read_parts(folder, columns):
        stop = min(run.start + run.count, samples)
        if run.id not in place or run.start >= stop:
            continue
        row = place[run.id]
        if covered[row, run.start : stop].any():
            raise DataError(f"samples of prompt {run.id!r} stand in two parts", file=run.file, cure="remove one")
        covered[row, run.start : stop] = True
        for name, values in run.columns.items():
            if name not in arrays:
                arrays[name] = np.full(covered.shape, np.nan, float if columns is None else object)
            arrays[name][row, run.start : stop] = values[: stop - run.start]
    _check_covered(covered, folder, ids=ids)
    return arrays


def _check_covered(covered: np.ndarray, folder: Path, *, ids: Sequence[str]) -> None:
    lacking = np.flatnonzero(~covered.all(axis=1))
    if not len(lacking):
        return
    row = int(lacking[0])
    what = "samples" if folder.name == "samples" else "scores"
    more = f", and {len(lacking) - 1} more prompts lack some" if len(lacking) > 1 else ""
    raise DataError(
        f"prompt {ids[row]!r} has {int(covered[row].sum())} {what} of {covered.shape[1]}{more}",
        file=folder,
        expected=f"{covered.shape[1]} {what} for every prompt",
        cure="run the command that makes them once more; it makes only what is missing",
    )


def stored_settings(path: Path) -> Settings | None:
    """How a pool's samples are drawn; None where there is no pool yet.

    Raises:
        DataError: `pool.json` is damaged, or the folder holds something else.
    """
    if not (path / "pool.json").exists():
        return None
    known = read_json(path / "pool.json")
    if known.get("schema") != SCHEMA or not isinstance(known.get("settings"), dict):
        raise DataError("is no description of a pool", file=path / "pool.json", expected=f"schema {SCHEMA}")
    settings: Settings = known["settings"]
    return settings


def stored_prompts(path: Path) -> dict[str, Prompt]:
    """All prompts of a pool by id, in the order in which they came in.

    Raises:
        DataError: A part is damaged, or two parts disagree about a prompt.
    """
    found: dict[str, Prompt] = {}
    for run in read_parts(parts_folder(path), ()):
        if run.prompt is None or found.setdefault(run.id, run.prompt) != run.prompt:
            raise DataError(f"prompt {run.id!r} differs between parts or is missing", file=run.file)
    return found


def stored_sizes(path: Path) -> dict[str, int]:
    """How many samples each prompt of a pool has, up to the last one."""
    ends: dict[str, int] = {}
    for run in read_parts(parts_folder(path), ()):
        ends[run.id] = max(ends.get(run.id, 0), run.start + run.count)
    return ends


def stored_rewards(path: Path) -> tuple[str, ...]:
    """Names of the rewards that have scored a pool, sorted."""
    return tuple(sorted(str(read_json(file).get("name")) for file in (path / "rewards").glob("*/reward.json")))


def parts_folder(path: Path, reward: str | None = None) -> Path:
    """Where the samples of a pool are, or a reward's scores of them; two rewards never share a folder."""
    if reward is None:
        return path / "samples"
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", reward)
    if plain != reward or reward.startswith("."):
        plain = f"{plain.lstrip('.')[:60]}-{hashlib.sha256(reward.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return path / "rewards" / plain


def column_name(reward: str, column: str) -> str:
    """Name in memory of a column of a reward's parts."""
    return reward if column == "reward" else f"{reward}/{column}"


def read_json(path: Path) -> dict[str, Any]:
    """A small file that says what its folder holds.

    Raises:
        DataError: It is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({type(error).__name__})", file=path, cure="remove the folder") from error
    if not isinstance(value, dict):
        raise DataError("is no JSON object", file=path, cure="remove the folder")
    return value
