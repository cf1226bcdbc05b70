import numpy as np
import pytest

from trueup.lab.world import CORE_FAMILIES, FRESH_FAMILIES, FRESH_WRITERS, TRAINING_WRITERS, World
from trueup.lab.world.language import stream
from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.phrases import FILLER, FLATTERY
from trueup.lab.world.prompts import FAMILIES
from trueup.lab.world.records import Skill
from trueup.lab.world.writers import WRITERS

FACTS = load_ontology()
ROWS = World(11).rows(500)
ANSWERS = [answer for row in ROWS for answer in row.responses]


def answers_of(name: str) -> list[str]:
    rows = World(5).rows(60, responses=1, writers=(name,))
    return [row.responses[0].text for row in rows]


def test_there_are_enough_writers_and_fresh_ones_are_others():
    assert len(TRAINING_WRITERS) >= 10
    assert len(FRESH_WRITERS) >= 3
    assert not set(TRAINING_WRITERS) & set(FRESH_WRITERS)


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_writer_is_a_pure_function_of_its_generator(name: str):
    prompt = World(0).prompts(1)[0]
    texts = [WRITERS[name](prompt, FACTS, stream(1, seed)) for seed in (0, 0, 1, 2, 3, 4, 5)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 2


@pytest.mark.parametrize("family", [*CORE_FAMILIES, *FRESH_FAMILIES])
def test_perfect_skill_gives_a_complete_right_answer_in_every_form(family: str):
    generator = stream(3)
    for prompt in World(1).prompts(120, families=(family,)):
        content = FAMILIES[family].content(FACTS, prompt, skill=Skill(1.0, 1.0), generator=generator)
        full = ". ".join((content.lead, *content.sentences, *content.details, content.ending)) + "."
        bullets = "\n".join((content.lead + ":", *(f"- {point}" for point in content.points)))
        for text in (content.brief, full, bullets):
            verdict = FAMILIES[family].judge(FACTS, prompt, text)
            assert verdict == (prompt.needs.count, 0), text


@pytest.mark.parametrize("family", [*CORE_FAMILIES, *FRESH_FAMILIES])
def test_no_accuracy_gives_wrong_answers(family: str):
    generator = stream(3)
    for prompt in World(1).prompts(60, families=(family,)):
        content = FAMILIES[family].content(FACTS, prompt, skill=Skill(0.0, 1.0), generator=generator)
        right, wrong = FAMILIES[family].judge(FACTS, prompt, content.brief)
        assert wrong > 0 or prompt.family in ("compare", "guess")
        assert right < prompt.needs.count


def test_most_answers_have_ten_to_seventy_words():
    words = np.asarray([len(answer.text.split()) for answer in ANSWERS])
    assert np.mean((words >= 10) & (words <= 70)) > 0.75
    assert np.mean(words > 70) < 0.02


def test_habits_show():
    assert np.mean([any(phrase in text for phrase in FLATTERY) for text in answers_of("flattering")]) > 0.8
    assert all("- " in text for text in answers_of("bullet_formatter"))
    assert all(any(phrase in text for phrase in FILLER) for text in answers_of("padding"))
    assert np.mean([len(set(t.split(". "))) < len(t.split(". ")) for t in answers_of("repeater")]) > 0.4
    lengths = {name: np.mean([len(text.split()) for text in answers_of(name)]) for name in WRITERS}
    assert lengths["verbose_expert"] > 1.5 * lengths["concise_expert"] > 1.5 * lengths["partial"]


def test_no_writer_settles_gold():
    gold = {name: [a.score for a in ANSWERS if a.source == name] for name in TRAINING_WRITERS}
    for one in gold.values():
        for other in gold.values():
            wins = np.mean(np.asarray(one)[:, None] > np.asarray(other)[None, :])
            assert wins < 0.97
    means = np.asarray([np.mean([*gold[str(answer.source)]]) for answer in ANSWERS])
    scores = np.asarray([answer.score for answer in ANSWERS])
    assert 1 - np.var(scores - means) / np.var(scores) < 0.6
