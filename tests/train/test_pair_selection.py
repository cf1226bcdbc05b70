"""Which pairs are learned from: every comparison by hand, and against brute force."""

import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.rewards.function_oracle import FunctionOracle
from trueup.rewards.oracle import symmetrized
from trueup.train.pair_selection import ChosenPair, LeftOut, best_worst, iid, tournament


class Table:
    """An oracle that reads P(a > b) from a table, and remembers what it was asked."""

    name = "table"

    def __init__(self, table=None, *, default=0.5):
        self.table, self.default, self.asked, self.calls = table or {}, default, [], 0

    def prefer(self, prompts, first, second):
        pairs = list(zip(first, second, strict=True))
        self.asked += pairs
        self.calls += 1
        assert len(prompts) == len(pairs)
        return np.asarray([self._probability(a, b) for a, b in pairs])

    def _probability(self, a, b):
        return self.table[a, b] if (a, b) in self.table else 1 - self.table.get((b, a), 1 - self.default)


def by_reward(values):
    """Bradley-Terry of single-letter responses."""
    return Table({(a, b): 1 / (1 + math.exp(values[b] - values[a])) for a in values for b in values if a != b})


# The tournament


def test_a_tournament_of_eight_by_hand():
    """a to h; neighbours, then winners b, c, f, g among themselves, losers a, d, e, h too; then the final check."""
    oracle = by_reward(dict(zip("abcdefgh", [1, 2, 6, 3, 0, 5, 4, -1], strict=True)))
    found = tournament(oracle, ["x"], ["abcdefgh"])
    assert oracle.asked == [
        ("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"),
        ("b", "c"), ("f", "g"), ("a", "d"), ("e", "h"),
        ("c", "f"), ("a", "h"),
        ("c", "h"),
    ]  # fmt: skip
    assert found.pairs == (ChosenPair(0, 2, 7),)
    assert found.comparisons == 11
    assert not found.left_out


@pytest.mark.parametrize(("samples", "games"), [(2, 2), (4, 5), (8, 11), (16, 23)])
def test_how_often_the_oracle_is_asked(samples, games):
    """Each prompt's games, and all prompts of a stage in one call."""
    oracle = Table(default=1.0)
    found = tournament(oracle, ["x", "y", "z"], [[f"{p}{k}" for k in range(samples)] for p in "xyz"])
    assert found.comparisons == len(oracle.asked) == 3 * games == 3 * (3 * samples // 2 - 1)
    assert oracle.calls == math.log2(samples) + 1
    assert found.pairs == tuple(ChosenPair(prompt, 0, samples - 1) for prompt in range(3))


@given(st.lists(st.permutations(range(8)), min_size=1, max_size=4))
def test_of_a_reward_it_finds_the_best_and_the_worst(rewards):
    letters = "abcdefgh"
    known = {f"{p}{letter}": float(v) for p, row in enumerate(rewards) for letter, v in zip(letters, row, strict=True)}
    responses = [[f"{p}{letter}" for letter in letters] for p in range(len(rewards))]
    found = tournament(by_reward(known), ["x"] * len(rewards), responses)
    assert found.pairs == best_worst(np.asarray(rewards, float), responses).pairs
    assert not found.left_out


def test_at_a_tie_the_first_wins():
    """All ties but the last game: then the first sample is the best, and the last one the worst."""
    found = tournament(Table({("a", "d"): 0.7}), ["x"], ["abcd"])
    assert found.pairs == (ChosenPair(0, 0, 3),)
    nearly = Table({("a", "d"): 0.7, ("a", "b"): 0.5 - 1e-15, ("c", "d"): 0.5 - 1e-15})
    assert tournament(nearly, ["x"], ["abcd"]).pairs == found.pairs


def test_the_last_comparison_decides_whether_the_prompt_is_kept():
    """Preferences in a circle: the best of the tournament loses against its worst."""
    games = {("a", "b"): 0.9, ("c", "d"): 0.9, ("a", "c"): 0.9, ("b", "d"): 0.9}
    kept, lost, tied = ({**games, ("a", "d"): p} for p in (0.8, 0.3, 0.5))
    assert tournament(Table(kept), ["x"], ["abcd"]).pairs == (ChosenPair(0, 0, 3),)
    found = tournament(Table(lost), ["x"], ["abcd"])
    detail = "P(sample 1, the best > sample 4, the worst) = {}"
    assert found.pairs == ()
    assert found.left_out == (LeftOut(0, "final check failed", detail.format(0.3)),)
    assert tournament(Table(tied), ["x"], ["abcd"]).left_out == (LeftOut(0, "tie", detail.format(0.5)),)


def test_equal_texts_are_no_pair_and_counted_apart():
    oracle = Table({("a", "b"): 0.9})
    found = tournament(oracle, ["x", "y", "z"], ["aaaa", "aabb", "aaab"])
    assert [pair.prompt for pair in found.pairs] == [1, 2]
    assert found.summary() == {"equal texts": 1}
    assert found.comparisons == 15


def test_a_symmetrized_oracle_that_favours_the_first_gives_ties():
    biased = symmetrized(FunctionOracle(lambda prompts, first, second: [0.9] * len(first), "biased"))
    found = tournament(biased, ["x", "y"], ["abcd", "efgh"])
    assert found.summary() == {"tie": 2}
    assert found.comparisons == 10


# Independent samples


def test_one_draw_orders_a_pair():
    """The first is chosen where the generator's number is below the probability."""
    generator, again = np.random.default_rng(3), np.random.default_rng(3)
    oracle = Table(default=0.4)
    found = iid(oracle, ["x", "y"], [["a", "b", "c", "d"], ["e", "f", "g", "h"]], generator=generator)
    first = again.random((2, 2)) < 0.4
    assert 0 < first.sum() < 4
    expected = [
        ChosenPair(prompt, *((2 * k, 2 * k + 1) if first[prompt, k] else (2 * k + 1, 2 * k)))
        for prompt in range(2)
        for k in range(2)
    ]
    assert list(found.pairs) == expected
    assert oracle.asked == [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]
    assert found.comparisons == 4


def test_pairs_have_the_distribution_that_the_method_needs():
    """Chosen a and rejected b: 2 pi(a) pi(b) P(a > b), for samples of pi and preferences in a circle."""
    policy = np.asarray([0.5, 0.3, 0.2])
    table = {("a", "b"): 0.9, ("b", "c"): 0.8, ("c", "a"): 0.7}
    count = 40_000
    drawn = np.random.default_rng(0).choice(list("abc"), (count, 2), p=policy).tolist()
    found = iid(Table(table), ["x"] * count, drawn, generator=np.random.default_rng(1))
    seen = Counter((drawn[p][i], drawn[p][j]) for p, i, j in found.pairs)
    assert len(seen) == 6
    for (a, b), number in seen.items():
        expected = 2 * policy["abc".index(a)] * policy["abc".index(b)] * Table(table)._probability(a, b)
        assert number / count == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / count))
    same = float((policy**2).sum())
    assert found.summary()["equal texts"] / count == pytest.approx(same, abs=4 * math.sqrt(same * (1 - same) / count))


def test_a_tie_is_drawn_too():
    found = iid(Table(), ["x"] * 400, [["a", "b"]] * 400, generator=np.random.default_rng(0))
    assert not found.left_out
    assert 150 < sum(pair.chosen == 0 for pair in found.pairs) < 250


def test_equal_texts_shift_no_other_draw():
    oracle, groups = Table(default=0.5), [["a", "b"], ["c", "c"], ["d", "e"]]
    found = iid(oracle, ["x"] * 3, groups, generator=np.random.default_rng(5))
    groups[1] = ["c", "f"]
    whole = iid(oracle, ["x"] * 3, groups, generator=np.random.default_rng(5))
    assert found.left_out == (LeftOut(1, "equal texts", "samples 1 and 2"),)
    assert found.pairs == (whole.pairs[0], whole.pairs[2])


# By a reward


def test_the_earliest_of_the_best_and_of_the_worst():
    rewards = np.asarray([[1.0, 3.0, 3.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    found = best_worst(rewards, ["abcde", "abcde", "aaaaa"])
    assert found.pairs == (ChosenPair(0, 1, 3),)
    assert found.left_out == (LeftOut(1, "tie", "all 5 rewards are 2"), LeftOut(2, "equal texts", "all 5 responses"))
    assert found.summary() == {"tie": 1, "equal texts": 1}
    assert found.comparisons == 0


# What cannot be used


@pytest.mark.parametrize(
    ("responses", "choose", "message"),
    [
        (["abcdef"], "tournament", "a tournament needs 2, 4, 8, ... samples, got 6"),
        (["abc"], "iid", "independent pairs need an even number of samples, got 3"),
        (["ab", "abcd"], "tournament", r"\[2, 4\] responses"),
        (["a"], "iid", "at least 2"),
        ([], "tournament", "at least 2"),
    ],
)
def test_numbers_of_samples_that_cannot_be_used(responses, choose, message):
    oracle = Table()
    way = partial(iid, generator=np.random.default_rng(0)) if choose == "iid" else tournament
    with pytest.raises(RecipeError, match=message):
        way(oracle, ["x"] * len(responses), responses)
    assert not oracle.asked


def test_rewards_that_do_not_fit():
    with pytest.raises(RecipeError, match="rewards for 2 responses"):
        best_worst(np.zeros((1, 3)), ["ab"])


def test_an_oracle_that_gives_no_probability_is_named():
    with pytest.raises(RecipeError, match="table"):
        tournament(Table(default=1.5), ["x"], ["ab"])
