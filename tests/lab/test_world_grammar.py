import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.lab.world import CORE_FAMILIES, FRESH_FAMILIES, World
from trueup.lab.world.grammar import Grammar, sentences, skeleton
from trueup.lab.world.writers import WRITERS


@pytest.fixture(scope="module")
def grammar():
    return Grammar.of_world(World(0))


@pytest.fixture(scope="module")
def unseen():
    """Texts of all writers from another world seed."""
    rows = World(1).rows(150, writers=tuple(WRITERS), families=CORE_FAMILIES)
    return [response.text for row in rows for response in row.responses]


def words_of(texts):
    """Inner words and end of every sentence long enough to be damaged."""
    for text in texts:
        for sentence in sentences(text):
            start = "- " if sentence.startswith("- ") else ""
            end = "" if start else sentence[-1]
            words = sentence.removeprefix(start).removesuffix(end).split()
            if len(words) >= 4:
                yield start, words, end


def damaged(texts, change):
    found = []
    for start, words, end in words_of(texts):
        for _ in range(20):
            other = change(list(words))
            if other != words:
                break
        found.append(start + " ".join(other) + end)
    return found


@pytest.mark.parametrize("families", [CORE_FAMILIES, FRESH_FAMILIES])
def test_unseen_text_of_the_worlds_writers_is_grammatical(grammar, families):
    rows = World(1).rows(150, writers=tuple(WRITERS), families=families)
    rates = grammar.rates([response.text for row in rows for response in row.responses])
    assert rates.sentences >= 0.985
    assert rates.texts >= 0.95
    assert rates.counted > 1000


def test_damaged_text_is_not(grammar, unseen):
    generator = np.random.default_rng(0)
    vocabulary = [word for _, words, _ in words_of(unseen) for word in words]

    def shuffled(words):
        return [words[place] for place in generator.permutation(len(words))]

    def deleted(words):
        words.pop(generator.integers(1, len(words) - 1))
        return words

    def inserted(words):
        words.insert(generator.integers(1, len(words)), vocabulary[generator.integers(len(vocabulary))].lower())
        return words

    assert grammar.rate(damaged(unseen, shuffled)) <= 0.01
    assert grammar.rate(damaged(unseen, deleted)) <= 0.06
    assert grammar.rate(damaged(unseen, inserted)) <= 0.03


@pytest.mark.parametrize(
    "sentence",
    [
        "A kimono is worn on the feet.",
        "An owl eats money.",
        "Some games that are played on the court are football, boxing, and basketball.",
        "- an owl",
        "Here are two of the plants that are used for beauty:",
        "17 plus 25 is 99.",
    ],
)
def test_well_formed_sentences_pass_whether_true_or_not(grammar, sentence):
    assert grammar.is_grammatical(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "A owl eats meat.",
        "An fox eats meat.",
        "Fox eats meat.",
        "A rice is white.",
        "A fox eats.",
        "A fox is red",
        "A fox is is red.",
        "A fox live in the forest.",
        "Here is two of the plants that are used for beauty:",
        "A fox xyzzy red.",
        "- a owl",
        "owl",
        "17 plus 25.",
    ],
)
def test_broken_sentences_do_not(grammar, sentence):
    assert not grammar.is_grammatical(sentence)


def test_sentences_and_items_are_taken_apart():
    text = "Oh, I love this one. Here are two:\n- a fox\n- an owl\nIs that so? Yes!"
    expected = ["Oh, I love this one.", "Here are two:", "- a fox", "- an owl", "Is that so?", "Yes!"]
    assert list(sentences(text)) == expected


def test_rates_count_sentences_and_whole_texts(grammar):
    rates = grammar.rates(["A fox is red. Fox red is.", "A fox is red.", "", "- a fox\n- a owl"])
    assert rates.sentences == pytest.approx(3 / 5)
    assert rates.texts == pytest.approx(1 / 4)
    assert rates.counted == 5


def test_nothing_has_no_rate(grammar):
    assert math.isnan(grammar.rate([]))
    assert math.isnan(grammar.rate(["", "\n"]))


def test_a_grammar_is_made_once():
    assert Grammar.of_world(World(0)) is Grammar.of_world(World(0))


def test_everything_that_was_read_is_grammatical():
    texts = ["A fox, an owl, and rice are red.", "- a fox"]
    assert Grammar.of_texts(texts).rate(texts) == 1.0


def test_a_joint_begins_anew():
    learned = Grammar.of_texts(["A fox is red and small.", "A fox eats meat and comes home."])
    assert learned.is_grammatical("A fox is red and comes home.")
    assert not learned.is_grammatical("A fox is meat and small.")


@given(st.text(max_size=200))
def test_any_text_can_be_read(text):
    for sentence in sentences(text):
        assert len(skeleton(sentence)) >= 2
    assert 0 <= Grammar.of_texts(["A fox is red."]).rates([text]).texts <= 1
