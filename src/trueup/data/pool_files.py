"""A pool on disk: a folder that grows by prompts, by samples and by rewards, and keeps what was finished.

pool.json                    how its samples are drawn
samples/000000.parquet ...   prompts and responses
rewards/NAME/reward.json     which reward it is
rewards/NAME/000000.parquet  its scores
"""

import itertools
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trueup.data.pool_parts import Run, read_parts, write_part
from trueup.data.pool_reading import (
    SCHEMA,
    column_name,
    parts_folder,
    read_json,
    read_pool,
    stored_prompts,
    stored_rewards,
    stored_settings,
)
from trueup.data.pools import Pool, Settings, check_finite
from trueup.data.rows import Prompt
from trueup.errors import DataError, RecipeError
from trueup.files import PARTIAL, output_errors, write_text

logger = logging.getLogger(__name__)

PART_SAMPLES = 4096
"""About how many samples are drawn between two saves."""

_SCORE_COLUMN = re.compile(r"reward|\d+|hidden_norm|before_norm")


@dataclass(frozen=True)
class Gap:
    """Consecutive samples that several prompts lack.

    Args:
        ids: The prompts' names.
        start: Number of the first sample that is missing, counted from 0.
        count: How many are missing.
    """

    ids: tuple[str, ...]
    start: int
    count: int


@dataclass(frozen=True)
class PoolFolder:
    """A pool's folder.

    Args:
        path: Where it is.
    """

    path: Path

    @property
    def settings(self) -> Settings | None:
        """How its samples are drawn; None where there is no pool yet."""
        return stored_settings(self.path)

    @property
    def rewards(self) -> tuple[str, ...]:
        """Names of the rewards that have scored anything, sorted."""
        return stored_rewards(self.path)

    def begin(self, settings: Settings, *, created_by: Mapping[str, Any]) -> None:
        """Make the folder, or make sure that further samples come from the same distribution as those in it.

        Where both states name a fingerprint of the policy's files, that decides, and not the name of the place.

        Raises:
            DataError: The pool was drawn with other settings.
            OutputError: The folder cannot be written.
        """
        stored = self.settings
        if stored is None:
            content = {"schema": SCHEMA, "settings": dict(settings), "created_by": dict(created_by)}
            write_text(self.path / "pool.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        elif different := _differences(stored, settings):
            name = different[0]
            raise DataError(
                f"the pool was drawn with {name} {stored.get(name)!r}, not {settings.get(name)!r}",
                file=self.path,
                field=name,
                expected="the settings that the pool was drawn with: its samples must come from one distribution",
                cure=f"name another folder, or set {name} to the pool's",
            )
        for leftover in list(self.path.rglob(f".*{PARTIAL}")):
            leftover.unlink(missing_ok=True)

    def check_prompts(self, ids: Sequence[str], prompts: Sequence[Prompt]) -> None:
        """Stop where a prompt of the same name says something else in the pool.

        Raises:
            DataError: The prompts are not those of the pool.
        """
        known = stored_prompts(self.path)
        for number, (key, prompt) in enumerate(zip(ids, prompts, strict=True), start=1):
            if key in known and known[key] != prompt:
                raise DataError(
                    f"prompt {number}, {key!r}, is not the pool's prompt of that name",
                    file=self.path,
                    expected="the prompts that the pool was drawn for, or further ones with other ids",
                    cure="name the file that the pool was drawn from, or another folder",
                )

    def missing(self, ids: Sequence[str], samples: int, *, reward: str | None = None) -> list[Gap]:
        """What must still be drawn (or scored by a reward) so that each prompt has `samples` samples."""
        covered: dict[str, list[tuple[int, int]]] = {key: [] for key in ids}
        for run in read_parts(parts_folder(self.path, reward), ()):
            if run.id in covered:
                covered[run.id].append((run.start, run.start + run.count))
        gaps = [(key, start, stop) for key in ids for start, stop in _holes(covered[key], samples)]
        gaps.sort(key=lambda gap: gap[1:])
        together = itertools.groupby(gaps, key=lambda gap: gap[1:])
        return [Gap(tuple(key for key, _, _ in group), start, stop - start) for (start, stop), group in together]

    def append(self, runs: Sequence[Run], *, reward: str | None = None) -> None:
        """Add samples, or a reward's scores of samples, as a new part.

        Raises:
            DataError: A score is not finite, or there is a column that scores do not have.
            OutputError: The part cannot be written.
        """
        for run in runs if reward is not None else ():
            unknown = [name for name in run.columns if not _SCORE_COLUMN.fullmatch(name)]
            if unknown:
                raise DataError("is no column of scores", field=unknown[0], expected="reward, 0, 1, ..., hidden_norm")
            for name, values in run.columns.items():
                scores = np.asarray([values], float)
                check_finite(scores, column_name(reward or "", name), ids=(run.id,), first=run.start)
        write_part(parts_folder(self.path, reward), runs)

    def holds_reward(self, name: str, *, place: str, fingerprint: str | None) -> bool:
        """Whether the pool holds scores of this very reward; not if its files have changed since.

        Raises:
            RecipeError: The name has a slash, which sets members apart.
            DataError: The pool holds scores of another reward under this name.
        """
        if "/" in name:
            raise RecipeError(f"a reward's name must have no slash, got {name!r}; name it as in LABEL={place}")
        file = parts_folder(self.path, name) / "reward.json"
        if not file.exists():
            return False
        known = read_json(file)
        old = known.get("fingerprint")
        same_files = old == fingerprint or None in (old, fingerprint)
        if known.get("place") != place and (old is None or old != fingerprint):
            found = f"the pool holds scores of {known.get('place')} under the name {name!r}, not of {place}"
            raise DataError(found, file=file.parent, cure=f"name the new reward otherwise: LABEL={place}")
        return same_files

    def begin_reward(self, name: str, *, place: str, fingerprint: str | None) -> None:
        """Make room for a reward's scores; those that its files gave before they changed are removed, with a warning.

        Raises:
            RecipeError: The name has a slash, which sets members apart.
            DataError: The pool holds scores of another reward under this name.
        """
        if self.holds_reward(name, place=place, fingerprint=fingerprint):
            return
        if name in self.rewards:
            logger.warning("%s has changed since it scored the pool; it scores again", place)
        self.forget(name)
        identity = {"name": name, "place": place, "fingerprint": fingerprint}
        content = json.dumps(identity, indent=1, ensure_ascii=False) + "\n"
        write_text(parts_folder(self.path, name) / "reward.json", content)

    def forget(self, name: str) -> None:
        """Remove a reward's scores."""
        if parts_folder(self.path, name).exists():
            with output_errors(parts_folder(self.path, name)):
                shutil.rmtree(parts_folder(self.path, name))

    def read(
        self, ids: Sequence[str] | None = None, *, samples: int | None = None, rewards: Sequence[str] = ()
    ) -> Pool:
        """Read samples and scores; see `trueup.data.pool_reading.read_pool`."""
        return read_pool(self.path, ids, samples=samples, rewards=rewards)


def cut(gaps: Sequence[Gap], *, samples: int = PART_SAMPLES) -> Iterator[Gap]:
    """Cut gaps into pieces of about so many samples: whole prompts where they are small, runs of one where not."""
    for gap in gaps:
        if gap.count > samples:
            for key in gap.ids:
                for start in range(0, gap.count, samples):
                    yield Gap((key,), gap.start + start, min(samples, gap.count - start))
        else:
            together = samples // gap.count
            for first in range(0, len(gap.ids), together):
                yield Gap(gap.ids[first : first + together], gap.start, gap.count)


def _holes(covered: Sequence[tuple[int, int]], samples: int) -> Iterator[tuple[int, int]]:
    """Parts of [0, samples) that no run covers."""
    reached = 0
    for start, stop in sorted(covered):
        if start > reached:
            yield reached, min(start, samples)
        reached = max(reached, stop)
        if reached >= samples:
            return
    if reached < samples:
        yield reached, samples


def _differences(stored: Settings, given: Settings) -> list[str]:
    """Settings that differ; where both know the policy's files, its name does not count."""
    names = list(dict.fromkeys([*given, *stored]))
    prints = stored.get("policy_fingerprint"), given.get("policy_fingerprint")
    if None not in prints and prints[0] == prints[1]:
        names.remove("policy")
    return [name for name in names if stored.get(name) != given.get(name)]
