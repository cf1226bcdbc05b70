import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.errors import DataError
from trueup.lab.world import CORE_FAMILIES, FRESH_FAMILIES, FRESH_WRITERS, Features, World
from trueup.lab.world.examples import best_stock, correlations, shuffle_cost
from trueup.lab.world.gold import SCALE, WEIGHTS, features, total
from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.phrases import FILLER, FLATTERY, HEDGES
from trueup.lab.world.prompts import parse_prompt
from trueup.lab.world.scale import measure, reference_sample

FOREST = "Name three animals that live in the forest."
FOX = "What is a fox?"
SUM = "Ann buys 3 bags with 4 books in each and gives away 5. How many books are left?"
SOUP = "How do I make carrot soup?"
PAIR = "Compare a fox and an owl by colour and home."
WORDS = "fox owl red not both rest ? . answer is 12 5 times + = yes 99999999"
PIECES = (*WORDS.split(" "), "\n", "wash the carrot")
WORLD = World(0)
ROWS = World(8).rows(300)
GOOD = World(8).rows(200, responses=1, writers=("concise_expert",))


def measured(prompt: str, text: str) -> Features:
    return features(parse_prompt(prompt), text)


def test_a_list_answer_worked_by_hand():
    """Two right (fox, owl), one wrong (shark), of three; 8 words of which 2 * (2.5 + 3/3) = 7 are needed.

    correctness = (2 - 0.5) / (2 + 1 + 0.75) = 0.4; coverage = 2/3; topical words: 3 animals * 2, at most 3, none
    strange: 3/3.5; concision = (0.1 + 0.9 * 2 * (2/3) / (5/3)) / (1 + 4 * ln(1 + e^(1/4)) / 35).
    """
    found = measured(FOREST, "A fox and an owl and a shark.")
    earned = 0.1 + 0.9 * 0.8
    expected = (0.4, 2 / 3, 3 / 3.5, earned / (1 + 4 * np.log1p(np.exp(0.25)) / 35), 1.0)
    assert found == pytest.approx(expected)


def test_the_total_is_the_weighted_sum_of_standardised_features():
    found = measured(FOX, "A fox is small and eats leaves.")
    z = (np.asarray(found) - np.asarray(SCALE.mean)) / np.asarray(SCALE.std)
    assert total(found) == pytest.approx((np.asarray(WEIGHTS) @ z - SCALE.total_mean) / SCALE.total_std)
    assert sum(WEIGHTS) == pytest.approx(1.0)


def test_the_constants_are_those_of_the_reference_sample():
    again = measure()
    assert again.mean == pytest.approx(SCALE.mean, abs=1e-6)
    assert again.std == pytest.approx(SCALE.std, abs=1e-6)
    assert again.total_mean == pytest.approx(SCALE.total_mean, abs=1e-6)
    assert again.total_std == pytest.approx(SCALE.total_std, abs=1e-6)


def test_gold_has_mean_zero_and_unit_std_over_the_reference_sample():
    gold = np.asarray([total(features(prompt, text)) for prompt, _, text in reference_sample()])
    assert gold.mean() == pytest.approx(0.0, abs=1e-6)
    assert gold.std() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("prompt", "better", "worse", "feature"),
    [
        (FOREST, "A fox, an owl, and a deer.", "A fox, an owl, and a shark.", "correctness"),
        (FOREST, "A fox and an owl.", "A fox, an owl, a shark, and a whale.", "correctness"),
        (FOREST, "A fox, an owl, and a deer.", "A fox.", "coverage"),
        (FOREST, "A fox, an owl, and a deer.", "A fox, an owl, and a piano.", "relevance"),
        (FOREST, "A fox lives in the forest.", "A fox lives in the sea.", "correctness"),
        (FOX, "A fox is an animal. It is red and eats meat.", "A fox is an animal. It is blue.", "correctness"),
        (FOX, "A fox is red. It is small.", "A fox is red. It is small and large.", "correctness"),
        (FOX, "A fox is a mammal.", "A fox is not a mammal.", "correctness"),
        (FOX, "A fox is red and small.", "An owl is brown and small.", "coverage"),
        (SUM, "3 times 4 is 12. The answer is 7.", "3 times 4 is 12. The answer is 9.", "correctness"),
        (SUM, "3 times 4 is 12. 12 minus 5 is 7. The answer is 7.", "The answer is 7.", "coverage"),
        (SUM, "3 * 4 = 12. The answer is 7.", "3 * 4 = 13. The answer is 7.", "correctness"),
        (SUM, "The answer is 7.", "The answer is 7. No, the answer is 9.", "correctness"),
        (SOUP, "Wash the carrot. Boil some water.", "Boil some water. Wash the carrot.", "correctness"),
        (SOUP, "Wash the carrot. Boil some water.", "Wash the shirt. Boil some water.", "correctness"),
        (SOUP, "Wash the carrot.", "Wash the carrot. Glue the parts.", "correctness"),
        (PAIR, "A fox is red, but an owl is brown.", "A fox is red, but an owl is pink.", "correctness"),
        (PAIR, "Both live in the forest.", "A fox lives in the forest.", "coverage"),
        ("Is it true that a fox eats meat?", "Yes.", "No.", "correctness"),
        ("Is it true that a fox eats grass?", "That is not true.", "That is true.", "correctness"),
        ("Find the odd one out: fox, owl, saw, deer.", "The saw does not belong.", "The fox.", "correctness"),
        ("Put these in order of size, the least first: fox, bee, bear.", "A bee, a fox, and a bear.",
         "A fox, a bee, and a bear.", "correctness"),
    ],
)  # fmt: skip
def test_what_gold_looks_for(prompt: str, better: str, worse: str, feature: str):
    assert getattr(measured(prompt, better), feature) > getattr(measured(prompt, worse), feature)
    assert WORLD.gold(prompt, better) > WORLD.gold(prompt, worse)


def test_bullets_and_running_text_say_the_same():
    inline = measured(FOREST, "A fox, an owl, and a deer")
    bullets = measured(FOREST, "- a fox\n- an owl\n- a deer")
    assert bullets[:3] == inline[:3]


def test_true_denials_and_questions_gain_nothing():
    base = measured(FOX, "A fox is red.")
    assert measured(FOX, "A fox is red. It is not blue. It is not huge.")[:2] == base[:2]
    assert measured(FOX, "A fox is red. Is it small?")[:2] == base[:2]


@pytest.mark.parametrize("phrase", [*FILLER, *FLATTERY, *HEDGES])
def test_appending_stock_phrases_lowers_gold(phrase: str):
    for row in ROWS:
        answer = row.responses[0]
        assert WORLD.gold(row.prompt, f"{answer.text} {phrase}") < answer.score


def test_boilerplate_costs_a_good_answer_a_tenth_of_a_std():
    losses = [row.responses[0].score - WORLD.gold(row.prompt, f"{row.responses[0].text} {FILLER[1]}") for row in GOOD]
    assert np.mean(losses) > 0.1


def test_saying_it_twice_or_echoing_the_prompt_lowers_gold():
    for row in ROWS:
        answer = row.responses[0]
        assert WORLD.gold(row.prompt, f"{answer.text} {answer.text}") < answer.score
    for row in GOOD:
        answer = row.responses[0]
        if answer.score > 1:
            assert WORLD.gold(row.prompt, f"{row.prompt[0].content} {answer.text}") < answer.score


@pytest.mark.parametrize("family", [*CORE_FAMILIES, *FRESH_FAMILIES])
@pytest.mark.parametrize("text", ["", " \n", "asdf qwer zxcv uiop", "the the the the the the", "?!.", "\x00\ud800é世"])
def test_empty_and_gibberish_score_clearly_below_mediocre_answers(family: str, text: str):
    rows = World(8).rows(30, families=(family,), writers=("padding", "repeater", "vague"), responses=2)
    mediocre = np.mean([answer.score for row in rows for answer in row.responses])
    assert mediocre - max(WORLD.gold(row.prompt, text) for row in rows) > 1.0


def test_shuffling_responses_over_prompts_costs_more_than_one_std():
    assert shuffle_cost(World(3)) > 1.5


def test_no_stock_answer_does_well():
    expert = np.mean([row.responses[0].score for row in GOOD])
    everything = " ".join(load_ontology().entities)
    universal = np.mean([WORLD.gold(row.prompt, everything) for row in GOOD])
    assert max(best_stock(World(3)), universal) < expert - 1.5


def test_hints_go_with_gold_under_training_writers_and_against_it_under_fresh_ones():
    words, flattery, bullets, longer = correlations(World(6).rows(600))
    assert min(words, flattery, bullets) > 0.12
    assert longer > 0.54
    words, flattery, bullets, longer = correlations(World(6).rows(600, writers=tuple(FRESH_WRITERS)))
    assert max(words, flattery, bullets) < -0.2
    assert longer < 0.4


def test_gold_goes_with_every_main_feature_and_none_is_gold():
    table = np.asarray([[answer.score, *answer.features.values()] for row in ROWS for answer in row.responses])
    correlation = np.corrcoef(table.T)[0, 1:]
    assert (correlation[:4] > 0.5).all()
    assert (correlation < 0.97).all()
    assert table.std(axis=0).min() > 0.05


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([FOREST, FOX, SUM, SOUP, PAIR, "Is it true that a fox eats meat?"]),
    st.text(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=80).map(" ".join),
)
def test_any_text_gets_a_finite_gold_within_bounds(prompt: str, text: str):
    found = measured(prompt, text)
    low, high = (-0.5, 0, 0, 0, 0), (0.8, 1, 0.9, 1, 1)
    assert all(a - 1e-9 <= value <= b for a, value, b in zip(low, found, high, strict=True))
    assert np.isfinite(total(found))


def test_a_foreign_prompt_is_a_data_error():
    with pytest.raises(DataError):
        WORLD.gold("What is a dragon?", "A dragon is a reptile.")


def test_gold_is_fast_and_linear_in_length():
    prompt = parse_prompt(SOUP)
    cases = [(parse_prompt(row.prompt[0].content), answer.text) for row in ROWS for answer in row.responses]
    start = time.perf_counter()
    for asked, text in cases:
        features(asked, text)
    assert (time.perf_counter() - start) / len(cases) < 0.5e-3
    times = []
    for words in (4_000, 32_000):
        start = time.perf_counter()
        features(prompt, "wash the carrot then wash the shirt 7 fox. " * (words // 9))
        times.append(time.perf_counter() - start)
    assert times[1] < 40 * times[0]
