from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from trueup.data.pool_files import PoolFolder
from trueup.data.pool_parts import Run
from trueup.data.rows import Prompt
from trueup.errors import DataError, RecipeError
from trueup.rewards.base import Scores
from trueup.rewards.pool_scoring import score_folder, score_pool

TEXTS = {"p": ["a", "bb", "a", "a", "ccc", "bb"], "q": ["d", "d", "d", "d", "d", "d"]}


@dataclass
class Length:
    """The longer the better; remembers what it was asked, may have members and norms, or return too little."""

    name: str = "length"
    members: int = 0
    hidden: bool = False
    lose: int = 0
    bad: float | None = None
    asked: list[list[str]] = field(default_factory=list)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]) -> Scores:
        self.asked += [list(group) for group in responses]
        flat = np.asarray([float(len(text)) for group in responses for text in group])
        if self.bad is not None:
            flat[-1] = self.bad
        return Scores(
            reward=flat[self.lose :],
            prompt=np.repeat(np.arange(len(prompts)), [len(group) for group in responses]),
            length=flat,
            members=np.stack([flat + k for k in range(self.members)]) if self.members else None,
            hidden=np.stack([3 * flat, 4 * flat], axis=1) if self.hidden else None,
            before_norm=flat * 2 if self.hidden else None,
        )


@pytest.fixture
def folder(tmp_path: Path) -> PoolFolder:
    made = PoolFolder(tmp_path)
    made.begin({}, created_by={})
    for key, texts in TEXTS.items():
        count = len(texts)
        columns = {"response": texts, "tokens": [1] * count, "finished": [True] * count, "logprob": [0.0] * count}
        made.append([Run(key, 0, count, columns, prompt=key)])
    made.begin_reward("length", place="length", fingerprint=None)
    return made


def lengths(samples: int) -> list[list[float]]:
    return [[float(len(text)) for text in texts[:samples]] for texts in TEXTS.values()]


def test_each_different_response_is_scored_once(folder: PoolFolder) -> None:
    reward = Length()
    scores = score_pool(folder.read(), reward)
    assert reward.asked == [["a", "bb", "ccc"], ["d"]]
    assert scores["length"].tolist() == lengths(6)


def test_stored_scores_equal_those_in_memory(folder: PoolFolder) -> None:
    reward = Length(members=2, hidden=True)
    assert score_folder(folder, reward, ids=("p", "q"), samples=6) == 12
    stored = folder.read(rewards=["length"]).scores
    memory = score_pool(folder.read(), reward)
    assert set(stored) == set(memory) == {f"length{end}" for end in ("", "/0", "/1", "/hidden_norm", "/before_norm")}
    for name, values in memory.items():
        np.testing.assert_array_equal(stored[name], values)
    np.testing.assert_array_equal(stored["length/hidden_norm"], 5 * stored["length"])


def test_only_what_is_missing_is_scored(folder: PoolFolder) -> None:
    assert score_folder(folder, Length(), ids=("p",), samples=2) == 2
    samples = {path.name: path.read_bytes() for path in (folder.path / "samples").iterdir()}
    reward = Length()
    assert score_folder(folder, reward, ids=("p", "q"), samples=4) == 6
    assert sorted(reward.asked) == [["a"], ["d"]]
    assert score_folder(folder, reward, ids=("p", "q"), samples=4) == 0
    assert folder.read(samples=4, rewards=["length"]).scores["length"].tolist() == lengths(4)
    assert {path.name: path.read_bytes() for path in (folder.path / "samples").iterdir()} == samples


def test_wrong_counts_are_named(folder: PoolFolder) -> None:
    with pytest.raises(RecipeError, match=r"length returned \(3,\) scores for 4 responses"):
        score_pool(folder.read(), Length(lose=1))


def test_rewards_that_are_not_finite_are_named(folder: PoolFolder) -> None:
    with pytest.raises(DataError, match="field `length`: nan for sample 1 of prompt 'q'"):
        score_pool(folder.read(), Length(bad=np.nan))
    with pytest.raises(DataError, match="field `length`: nan for sample 1 of prompt 'q'"):
        score_folder(folder, Length(bad=np.nan), ids=("p", "q"), samples=6)
