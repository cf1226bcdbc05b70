"""Looks on disk, and looks put together."""

import numpy as np
import pytest

from trueup.lab.look_files import ARRAYS, kept_looks, read_looks, write_looks
from trueup.lab.merged_looks import joined, look_at_each, taken
from trueup.lab.optimizing import Looks
from trueup.lab.policy_runs import PolicyRun
from trueup.lab.proxy_runs import ProxyRun


def looks(count: int = 3) -> Looks:
    values = np.arange(count * 4, dtype=float).reshape(count, 2, 2)
    texts = tuple(((f"a {n}", "b"), ("c", "ä\n")) for n in range(count))
    return Looks(np.arange(count) * 5, values, -values, values / 2, values.astype(int), values > 2, texts)


def same(one: Looks, other: Looks) -> bool:
    return one.texts == other.texts and all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ARRAYS)


def test_what_is_written_is_read_back(tmp_path):
    write_looks(tmp_path / "a" / "x.npz", looks())
    found = read_looks(tmp_path / "a" / "x.npz")
    assert found is not None
    assert same(found, looks())
    assert read_looks(tmp_path / "y.npz") is None


def test_what_is_kept_is_made_once_and_again_where_it_is_damaged(tmp_path):
    path, made = tmp_path / "x.npz", []

    def make() -> Looks:
        made.append(1)
        return looks()

    assert same(kept_looks(path, make), kept_looks(path, make))
    assert len(made) == 1
    path.write_bytes(path.read_bytes()[:40])
    assert same(kept_looks(path, make), looks())
    assert len(made) == 2


def test_some_looks_and_looks_one_after_the_other():
    whole = looks(4)
    assert taken(whole, [2, 0]).step.tolist() == [10, 0]
    assert taken(whole, [2]).texts == (whole.texts[2],)
    assert same(joined(taken(whole, [0, 1]), taken(whole, [2, 3])), whole)


def test_nothing_to_look_at_is_an_error(world_zero, tiny_scale):
    run = PolicyRun(proxies=(ProxyRun(plan=tiny_scale.proxy_plan(0)),))
    with pytest.raises(ValueError, match="no policy to look at"):
        look_at_each(world_zero, run, [], folder=tiny_scale.folder)
