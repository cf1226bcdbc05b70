import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import DataError
from trueup.measure.bootstrap import Resampling
from trueup.measure.diversity import diversity, entropy, self_bleu, unique_share

TEXT = st.lists(st.sampled_from(["a", "b", "c", "A"]), max_size=9).map(" ".join)
GROUP = st.lists(TEXT, min_size=2, max_size=5)


def plain_bleu(hypothesis, references):
    """Papineni's definition, one n-gram at a time."""
    words, others = hypothesis.lower().split(), [text.lower().split() for text in references]
    if not words:
        return float(any(not other for other in others))
    precisions, missed = [], 0
    for n in range(1, min(4, len(words)) + 1):
        grams = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
        counts = [Counter(tuple(other[k : k + n]) for k in range(len(other) - n + 1)) for other in others]
        matched = sum(min(grams.count(gram), max(each[gram] for each in counts)) for gram in set(grams))
        if not matched:
            missed += 1
            precisions.append((1 / 2**missed) / len(grams))
        else:
            precisions.append(matched / len(grams))
    if missed == len(precisions):
        return 0.0
    nearest = sorted((abs(len(other) - len(words)), len(other)) for other in others)[0][1]
    penalty = 1.0 if len(words) > nearest else math.exp(1 - nearest / len(words))
    return penalty * math.prod(precisions) ** (1 / len(precisions))


def test_self_bleu_worked_by_hand():
    # 4 of 4 words, 2 of 3 pairs, 1 of 2 triples, no quadruple (counts 1/2 of 1); 4 words against 5
    first = (1 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25 * math.exp(1 - 5 / 4)
    assert self_bleu(["a b c e", "a b c d e"])[0] == pytest.approx(first)


@given(GROUP)
@settings(max_examples=60)
def test_self_bleu_equals_the_plain_definition(group):
    expected = [plain_bleu(text, group[:k] + group[k + 1 :]) for k, text in enumerate(group)]
    assert self_bleu(group) == pytest.approx(expected)


@given(GROUP)
@settings(max_examples=50)
def test_self_bleu_equals_sacrebleu(group):
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed")
    for k, (text, ours) in enumerate(zip(group, self_bleu(group), strict=True)):
        if text:
            theirs = sacrebleu.sentence_bleu(
                text, group[:k] + group[k + 1 :], tokenize="none", lowercase=True, use_effective_order=True
            )
            assert ours == pytest.approx(theirs.score / 100)


@given(GROUP, st.randoms(use_true_random=False))
def test_self_bleu_goes_with_its_response(group, random):
    order = random.sample(range(len(group)), len(group))
    assert self_bleu([group[k] for k in order]) == pytest.approx(self_bleu(group)[order])


def test_the_ends_of_self_bleu():
    assert self_bleu(["one two three four"] * 3) == pytest.approx([1, 1, 1])
    assert self_bleu(["a b", "c d"]).tolist() == [0, 0]
    assert self_bleu(["", "", "a"]).tolist() == [1, 1, 0]
    assert np.isnan(self_bleu(["a"])).all()
    assert self_bleu([]).shape == (0,)


def test_unique_responses():
    assert unique_share(["a", "a ", "b", "B"]) == 0.75
    assert np.isnan(unique_share(["a"]))


def test_diversity_worked_by_hand(few):
    found = diversity([["a b", "a b"], ["a b", "c d"], ["x y z"]], resampling=few)
    assert (found.unique.value, found.unique.n) == (0.75, 2)
    assert (found.self_bleu.value, found.self_bleu.n) == (0.5, 2)
    assert (found.distinct_1.value, found.distinct_1.n) == (pytest.approx((0.5 + 1 + 1) / 3), 3)
    assert found.distinct_2.value == pytest.approx((0.5 + 1 + 1) / 3)
    assert (found.distinct_3.value, found.distinct_3.n) == (1, 1)
    assert found.distinct_1.low <= found.distinct_1.value <= found.distinct_1.high


def test_a_policy_that_says_less_is_less_diverse(few):
    rng = np.random.default_rng(0)

    def drawn(words):
        return [[" ".join(rng.choice(list("abcdefghijkl")[:words], 6)) for _ in range(8)] for _ in range(30)]

    narrow, wide = diversity(drawn(2), resampling=few), diversity(drawn(12), resampling=few)
    assert narrow.unique.high < wide.unique.low
    assert narrow.distinct_2.high < wide.distinct_2.low
    assert narrow.self_bleu.low > wide.self_bleu.high


def test_no_responses_are_named(few):
    with pytest.raises(DataError, match="2: the prompt has no responses"):
        diversity([["a"], []], resampling=few)
    with pytest.raises(DataError, match="no prompts"):
        diversity([], resampling=few)


def test_entropy_of_samples_in_their_exact_proportions(few):
    # sequences of probability 1/2, 1/4, 1/8, 1/8 and 1, 2, 3, 3 tokens: a binary tree, one bit for each token
    tokens = np.repeat([1, 2, 3, 3], [4, 2, 1, 1])
    logprob = -tokens * math.log(2)
    found = entropy(logprob, tokens, prompt=np.zeros(8, np.int64), resampling=few)
    assert found.response.value == pytest.approx(1.75 * math.log(2))
    assert found.token.value == pytest.approx(math.log(2))
    assert np.isnan(found.response.low)  # one prompt has no interval


def test_entropy_is_that_of_the_policy_that_drew():
    rng = np.random.default_rng(1)
    probability = rng.dirichlet(np.ones(6), 300)
    drawn = np.stack([rng.choice(6, 10, p=row) for row in probability])
    logprob = np.log(np.take_along_axis(probability, drawn, axis=1)).ravel()
    prompt = np.repeat(np.arange(300), 10)
    found = entropy(logprob, np.ones(3000), prompt=prompt, resampling=Resampling(resamples=200))
    truth = -np.sum(probability * np.log(probability), axis=1).mean()
    assert found.response.low < truth < found.response.high
    assert found.response.n == 300
    assert found.token == found.response


@pytest.mark.parametrize(("logprob", "tokens"), [(np.nan, 1), (-np.inf, 1), (0.1, 1), (-1.0, 0)])
def test_impossible_log_probabilities_are_named(logprob, tokens, few):
    with pytest.raises(DataError, match="for response 1; expected a finite number"):
        entropy(np.array([-1, logprob]), np.array([1, tokens]), prompt=np.zeros(2, np.int64), resampling=few)
    with pytest.raises(DataError, match="no responses"):
        entropy(np.zeros(0), np.zeros(0), prompt=np.zeros(0, np.int64), resampling=few)
