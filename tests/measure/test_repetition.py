import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.measure.repetition import repetition


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("two words", 0.0),
        ("all of these are different", 0.0),
        ("a b c A B C", 0.25),  # abc bca cab abc
        ("so so so so so so", 0.75),  # four times the same sequence
    ],
)
def test_worked_values(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=30))
def test_a_brute_count_agrees(words: list[str]) -> None:
    grams = [words[k : k + 3] for k in range(len(words) - 2)]
    repeated = sum(gram in grams[:k] for k, gram in enumerate(grams))
    assert repetition("  ".join(words)) == pytest.approx(repeated / len(grams))
