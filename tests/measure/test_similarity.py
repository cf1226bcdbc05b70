import itertools
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.measure.similarity import LONGEST, between_prompts, chunk_count, distinct, meteor, to_start

WORDS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=6)


def test_meteor_by_hand() -> None:
    # m = 3 of |h| = 4 and |r| = 3; "the cat" and "sat" are two chunks in the other order
    precision, recall = 3 / 4, 1.0
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    assert meteor("sat down the cat", "the cat sat") == pytest.approx(mean * (1 - 0.5 * (2 / 3) ** 3))
    assert meteor("The cat", "the cat dog bird") == pytest.approx(0.5 / (0.9 + 0.05) * (1 - 0.5 / 8))


def test_meteor_is_the_published_example() -> None:
    # Banerjee & Lavie, section 2: "the president spoke to the audience" / "the president then spoke to the audience"
    told, wanted = "the president spoke to the audience", "the president then spoke to the audience"
    assert chunk_count(told.split(), wanted.split()) == 2


def test_precision_weighs_less_than_recall() -> None:
    assert meteor("a b", "a b c d") < meteor("a b c d", "a b")


def brute_chunks(hypothesis: list[str], reference: list[str]) -> int:
    """Every alignment with the most matches."""
    wanted = (Counter(hypothesis) & Counter(reference)).total()
    best = len(hypothesis) + 1
    for chosen in itertools.combinations(range(len(hypothesis)), wanted):
        for places in itertools.permutations(range(len(reference)), wanted):
            if all(hypothesis[i] == reference[j] for i, j in zip(chosen, places, strict=True)):
                steps = zip(chosen, places, strict=True)
                joined = sum(b == (a[0] + 1, a[1] + 1) for a, b in itertools.pairwise(steps))
                best = min(best, wanted - joined)
    return best


@given(hypothesis=st.lists(st.sampled_from("abc"), min_size=1, max_size=5), reference=WORDS)
def test_chunks_are_the_fewest(hypothesis: list[str], reference: list[str]) -> None:
    if set(hypothesis) & set(reference):
        assert chunk_count(hypothesis, reference) == brute_chunks(hypothesis, reference)


@given(words=WORDS)
def test_identical_texts(words: list[str]) -> None:
    assert meteor(" ".join(words), " ".join(words)) == pytest.approx(1 - 0.5 / len(words) ** 3)


@given(a=WORDS, b=WORDS)
def test_bounds_and_disjoint(a: list[str], b: list[str]) -> None:
    assert 0 <= meteor(" ".join(a), " ".join(b)) <= 1
    assert meteor(" ".join(a), " ".join(word.upper() + "x" for word in b)) == 0.0


def test_empty_texts() -> None:
    assert meteor("", "a") == meteor("a", "") == meteor("", "") == 0.0


def test_long_repetitive_texts_are_quick_and_one_chunk() -> None:
    text = "the cat saw the dog and the bird " * 40
    assert chunk_count(text.split(), text.split()) == 1
    begin = time.process_time()
    assert chunk_count(("so " * 3000).split(), ("so " * 2999).split()) == 1
    assert 0 < meteor("s so " * 4000, "so s s " * 4000) < 1
    assert time.process_time() - begin < 5


def test_words_beyond_the_longest_do_not_count() -> None:
    same = " ".join(f"w{i}" for i in range(LONGEST))
    assert meteor(same + " a b c", same + " d e f") == meteor(same, same)


def test_between_prompts_compares_different_prompts() -> None:
    generator = np.random.default_rng(0)
    alone = [["a b c", "a b c"], ["d e f", "d e f"]]
    assert np.all(between_prompts(alone, pairs=20, generator=generator) == 0)
    alike = [["x a b c d"], ["x a b c d"], ["x a b c d"]]
    assert between_prompts(alike, pairs=20, generator=generator) == pytest.approx(1 - 0.5 / 125)
    with pytest.raises(RecipeError, match="two prompts or more, got 1"):
        between_prompts([["a"]], pairs=1, generator=generator)


def test_between_prompts_is_the_mean_over_all_pairs_in_the_limit() -> None:
    responses = [["a b c d"], ["a b x y"], ["q r s t"]]
    ones = [r[0] for r in responses]
    expected = np.mean([meteor(a, b) for a in ones for b in ones if a != b])
    found = between_prompts(responses, pairs=3000, generator=np.random.default_rng(1)).mean()
    assert found == pytest.approx(expected, abs=0.01)


def test_to_start_never_compares_an_answer_with_its_own_number() -> None:
    start = [["a b c", "d e f"], ["g h", "g h"]]
    assert to_start(start, start) == pytest.approx([0.0, 1 - 0.5 / 8])
    moved = [["d e f", "a b c"], ["z", "z"]]
    assert to_start(moved, start) == pytest.approx([1 - 0.5 / 27, 0.0])
    assert to_start([["a b"]], [["a b"]]) == pytest.approx([1 - 0.5 / 8])
    assert to_start([["a", "b", "a", "a"]], [["a", "b", "a", "a"]], most=2) == pytest.approx([0.0])


def test_distinct_by_hand() -> None:
    assert distinct(["a b c", "a b d"]) == pytest.approx(3 / 4)
    assert distinct(["a A a"], n=1) == pytest.approx(1 / 3)
    assert np.isnan(distinct(["a", ""]))
    with pytest.raises(RecipeError):
        distinct(["a b"], n=0)
