import gzip
import json

import numpy as np
import pytest

from trueup.errors import DataError
from trueup.measure.rm_bench import rm_bench, won_cells

RIGHT = np.array([True] * 3 + [False] * 3)


def _bench(make_split, rows, domains):
    split = make_split(rows, subset=tuple(domains), ids=tuple(f"row{k}" for k in range(len(rows))))
    return split, np.tile(RIGHT, len(rows))


def test_style_lover_wins_easy_and_loses_hard(make_split, few):
    split, correct = _bench(make_split, [[0.1, 1.1, 2.1, 0, 1, 2]] * 4, ["chat"] * 4)
    ours = rm_bench(split, correct, resampling=few)
    chat = {name: estimate.value for name, estimate in ours.domains["chat"].items()}
    assert chat == {"easy": 1.0, "normal": 1.0, "hard": 0.0, "mean": pytest.approx(2 / 3)}
    assert not ours.complete


def test_cells_are_chosen_by_rejected(make_split):
    split, correct = _bench(make_split, [[5, 1, 3, 4, 2, 0]], ["math"])
    assert won_cells(split, correct)[0].tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]]


def test_table_against_plain_loops_with_safety_averaged_first(make_split, few):
    rng = np.random.default_rng(0)
    domains = ["chat"] * 5 + ["code"] * 3 + ["math"] * 4 + ["safety-refuse"] * 9 + ["safety-response"] * 2
    rewards = rng.normal(size=(len(domains), 6)) + np.array([0.5] * 3 + [0] * 3)
    split, correct = _bench(make_split, rewards.tolist(), domains)
    ours = rm_bench(split, correct, resampling=few)
    expected = {}
    for file in set(domains):
        table = np.zeros((3, 3))
        rows = [row for row, domain in zip(rewards, domains, strict=True) if domain == file]
        for row in rows:
            for i in range(3):
                for j in range(3):
                    table[i, j] += (row[i] > row[3 + j]) / len(rows)
        easy, hard = (table[2, 0] + table[1, 0] + table[2, 1]) / 3, (table[0, 1] + table[0, 2] + table[1, 2]) / 3
        expected[file] = np.array([easy, np.trace(table) / 3, hard])
    expected["safety"] = (expected.pop("safety-refuse") + expected.pop("safety-response")) / 2
    for name, values in expected.items():
        found = ours.domains[name]
        assert [found[d].value for d in ("easy", "normal", "hard")] == pytest.approx(values.tolist())
        assert found["mean"].value == pytest.approx(values.mean())
    average = np.mean(list(expected.values()), axis=0)
    assert [e.value for e in ours.difficulty.values()] == pytest.approx(average.tolist())
    assert ours.overall.value == pytest.approx(average.mean())
    assert ours.overall.low < ours.overall.value < ours.overall.high
    assert ours.complete
    assert (ours.overall.n, ours.domains["safety"]["easy"].n) == (23, 11)


def test_wrong_shape_and_unknown_domain_are_named(make_split, few):
    split = make_split([[1, 2, 3, 4]], subset=("chat",), ids=("row7",))
    with pytest.raises(DataError, match="row7 has 3 right and 1 wrong"):
        rm_bench(split, np.array([True, True, True, False]), resampling=few)
    split, correct = _bench(make_split, [[0] * 6], ["poetry"])
    with pytest.raises(DataError, match="poetry"):
        rm_bench(split, correct, resampling=few)


def test_longer_wins_on_the_real_chat_part_follows_style(shared_data, make_split, few):
    with gzip.open(shared_data / "rm-bench-chat" / "chat.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    lengths = [[float(len(text)) for text in row["chosen"] + row["rejected"]] for row in rows]
    split, correct = _bench(make_split, lengths, [row["domain"] for row in rows])
    chat = rm_bench(split, correct, resampling=few).domains["chat"]
    assert chat["easy"].n == 129
    assert chat["easy"].low > 0.7
    assert chat["hard"].high < 0.4
