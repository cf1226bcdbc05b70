import json
import sys
from pathlib import Path

import numpy as np
import pytest

from trueup.data.watched import Watched, append_point, history, read_points, write_points
from trueup.errors import DataError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measure.watched_runs import point


def test_points_come_back_as_they_were(tmp_path: Path) -> None:
    points = [point(0), point(10, gold=False), point(25, word="wörd\n")]
    write_points(tmp_path / "watch.jsonl", points[:2])
    append_point(tmp_path / "watch.jsonl", points[2])
    assert read_points(tmp_path / "watch.jsonl") == tuple(points)


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    write_points(path, [point(0), point(10)])
    path.write_text(path.read_text()[:-40])
    assert [one.step for one in read_points(path)] == [0]


def test_a_history_has_the_means_of_its_points() -> None:
    watched = history([point(0), point(10, gold=False)])
    assert watched.by_prompt("proxy")[0] == pytest.approx([0.5, 10.5, 20.5])
    assert watched.mean_kl == pytest.approx([0, 0.1])
    assert watched.distance == pytest.approx([0, np.sqrt(0.1)])
    assert np.all(np.isfinite(watched.gold[0]))
    assert np.all(np.isnan(watched.gold[1]))
    assert history([point(0, gold=False)]).gold is None
    assert len(history([])) == 0


def test_negative_means_of_kl_are_clipped_in_the_distance_alone() -> None:
    watched = Watched(steps=np.array([0, 1]), kl=np.array([[[0.3]], [[-0.2]]]))
    assert watched.mean_kl == pytest.approx([0.0, -0.2])
    assert watched.distance == pytest.approx([0.0, 0.0])


def test_steps_must_increase_and_shapes_agree() -> None:
    with pytest.raises(DataError, match="steps do not increase"):
        Watched(steps=np.array([0, 0]))
    with pytest.raises(DataError, match="shapes"):
        Watched(steps=np.array([0]), proxy=np.zeros((1, 2, 3)), gold=np.zeros((1, 3, 2)))


def broken(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "watch.jsonl"
    write_points(path, [point(0), point(10)])
    first, second = path.read_text().splitlines()
    path.write_text(first + "\n" + json.dumps(json.loads(second) | changes) + "\n")
    return path


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"prompts": ["a", "b", "c"]}, "watch.jsonl:2, field `prompts`: other prompts"),
        ({"gold": [[1, 2]]}, "field `gold`: another shape; expected 3 x 2"),
        ({"proxy": [[1, 2], [1, float("nan")], [0, 0]]}, "field `proxy`: a value is not finite"),
        ({"proxy": None}, "field `proxy`: no values"),
        ({"proxy": 3}, "not a watched point"),
        ({"step": "x"}, "not a watched point"),
    ],
)
def test_damaged_points_are_named(tmp_path: Path, changes: dict[str, object], fragment: str) -> None:
    with pytest.raises(DataError) as found:
        read_points(broken(tmp_path, **changes))
    assert fragment in str(found.value)


def test_lines_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "watch.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(DataError, match=r"watch.jsonl:1: no field 'proxy'"):
        read_points(path)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="not a watched point"):
        read_points(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path / "nothing")
