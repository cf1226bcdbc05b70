from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from trueup.data.pool_files import PoolFolder
from trueup.data.rows import Prompt
from trueup.errors import DataError
from trueup.policies import pool_drawing
from trueup.policies.base import Sample
from trueup.policies.pool_drawing import draw_pool

PROMPTS = tuple(f"prompt {number}" for number in range(5))
IDS = tuple(f"p{number}" for number in range(5))


@dataclass
class Dice:
    """Throws dice, one generator a call; may stop after so many calls."""

    name: str = "dice"
    stop_after: int | None = None
    calls: list[tuple[int, int]] = field(default_factory=list)

    def sample(self, prompts: Sequence[Prompt], count: int, *, seed: int) -> list[list[Sample]]:
        if self.stop_after is not None and len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((len(prompts), count))
        generator = np.random.default_rng(seed)
        return [[Sample(str(generator.integers(10**9)), tokens=1) for _ in range(count)] for _ in prompts]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pool_drawing.cut
    monkeypatch.setattr(pool_drawing, "cut", lambda gaps: whole(gaps, samples=8))


def begun(path: Path) -> PoolFolder:
    folder = PoolFolder(path)
    folder.begin({"policy": "dice"}, created_by={})
    return folder


def draw(folder: PoolFolder, policy: Dice, samples: int, *, seed: int = 0, prompts: int = 5) -> int:
    return draw_pool(folder, policy, PROMPTS[:prompts], ids=IDS[:prompts], samples=samples, seed=seed)


def test_a_stopped_drawing_goes_on_to_the_same_pool(tmp_path: Path) -> None:
    whole, stopped = begun(tmp_path / "whole"), begun(tmp_path / "stopped")
    assert draw(whole, Dice(), 4) == 20
    with pytest.raises(KeyboardInterrupt):
        draw(stopped, Dice(stop_after=1), 4)
    assert stopped.read(IDS[:2]).shape == (2, 4)
    assert draw(stopped, Dice(), 4) == 12
    assert stopped.read().responses == whole.read().responses
    assert draw(stopped, Dice(stop_after=0), 4) == 0


def test_further_samples_are_new_and_the_first_stay(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    draw(folder, Dice(), 4)
    before = folder.read().responses
    policy = Dice()
    assert draw(folder, policy, 11) == 35
    assert {count for _, count in policy.calls} == {7}
    after = folder.read().responses
    assert tuple(group[:4] for group in after) == before
    assert len({text for group in after for text in group}) == 55


def test_further_prompts_are_added(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    draw(folder, Dice(), 4, prompts=2)
    before = folder.read().responses
    assert draw(folder, Dice(), 4) == 12
    after = folder.read()
    assert after.ids == IDS
    assert after.responses[:2] == before


def test_large_counts_are_cut_into_pieces(tmp_path: Path) -> None:
    folder, policy = begun(tmp_path), Dice()
    draw(folder, policy, 20, prompts=1)
    assert policy.calls == [(1, 8), (1, 8), (1, 4)]
    assert len(set(folder.read().responses[0])) == 20


def test_the_seed_decides(tmp_path: Path) -> None:
    one, same, other = (begun(tmp_path / name) for name in ("one", "same", "other"))
    for folder, seed in ((one, 0), (same, 0), (other, 1)):
        draw(folder, Dice(), 4, seed=seed)
    assert one.read().responses == same.read().responses != other.read().responses


def test_unknown_log_probabilities_are_nan(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    draw(folder, Dice(), 2)
    read = folder.read()
    assert np.isnan(read.logprob).all()
    assert read.finished.all()


def test_other_prompts_under_the_same_names_are_refused(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    draw(folder, Dice(), 4)
    with pytest.raises(DataError, match="prompt 1, 'p0', is not the pool's prompt"):
        draw_pool(folder, Dice(), ["something else"], ids=["p0"], samples=4, seed=0)


@pytest.mark.parametrize(("groups", "count"), [(4, 4), (5, 3)])
def test_a_policy_that_miscounts_is_named(tmp_path: Path, groups: int, count: int) -> None:
    class Miscounts(Dice):
        def sample(self, prompts: Sequence[Prompt], count_asked: int, *, seed: int) -> list[list[Sample]]:
            return [[Sample("x", tokens=1)] * (count_asked + count - 4) for _ in range(len(prompts) + groups - 5)]

    with pytest.raises(DataError, match=r"dice answered .*expected 4 samples for each of 2 prompts"):
        draw(begun(tmp_path), Miscounts(), 4)
