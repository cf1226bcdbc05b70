import pytest

from trueup.lab.world import phrases
from trueup.lab.world.language import article, joined, listing, sample, sentence, stream
from trueup.lab.world.ontology import SIZES, TABLES, load_ontology, plural
from trueup.lab.world.procedures import PROCEDURES
from trueup.lab.world.reading import Statement, is_true, read, tokenise

WORLD = load_ontology()


def meaningful_words() -> set[str]:
    values = {value for kind in WORLD.kinds.values() for value in kind.meaning}
    return values | set(WORLD.names) | set(WORLD.kind_words)


def test_there_are_several_hundred_entities_and_none_is_lost():
    lines = sum(len(table.lines.strip().split("\n")) for table in TABLES)
    assert len(WORLD.entities) == lines >= 300


def test_every_word_has_one_meaning():
    values = {value for kind in WORLD.kinds.values() for value in kind.meaning}
    names, kinds = set(WORLD.names), set(WORLD.kind_words)
    assert not values & names
    assert not values & kinds
    assert not names & kinds
    assert len(names) == len(WORLD.entities) + len({plural(name) for name in WORLD.entities})


@pytest.mark.parametrize("kind", list(WORLD.kinds))
def test_a_value_belongs_to_one_attribute_of_its_kind(kind: str):
    values = [value for options in WORLD.kinds[kind].values.values() for value in options]
    assert len(values) == len(set(values))
    assert all(tokenise(value) == (value,) for value in values)


@pytest.mark.parametrize("kind", list(WORLD.kinds))
def test_every_predicate_and_clause_is_recovered_and_read_as_what_it_says(kind: str):
    member = WORLD.kinds[kind].members[0]
    for value, attribute in WORLD.kinds[kind].meaning.items():
        predicate, clause = WORLD.predicate(kind, attribute, value), WORLD.clause(kind, attribute, value)
        assert WORLD.find(kind, predicate) == (attribute, value)
        assert not clause or WORLD.find(kind, clause) == (attribute, value)
        said = read(f"{WORLD.some(member)} {predicate}.", WORLD).statements
        assert Statement(member, attribute, value, False) in said
        assert all(s.attribute == attribute or (s.attribute, s.value) == ("kind", kind) for s in said)


def test_sizes_are_the_known_ones():
    used = {size for kind in WORLD.kinds.values() for size in kind.values.get("size", ())}
    assert used == set(SIZES)


def test_holders_agree_with_a_search_through_all_entities():
    for kind in WORLD.kinds.values():
        for value, attribute in kind.meaning.items():
            brute = {e.name for e in WORLD.entities.values() if e.kind == kind.name and e.values[attribute] == value}
            assert set(WORLD.holders(kind.name, attribute, value)) == brute != set()


def test_stock_phrases_say_nothing_about_the_world():
    banks = (phrases.FLATTERY, phrases.FILLER, phrases.HEDGES, phrases.VAGUE, phrases.CHAT)
    words = {word for bank in banks for phrase in bank for word in tokenise(phrase.replace("{topic}", ""))}
    assert not words & meaningful_words()


def test_procedures_name_known_entities_and_no_other_in_their_steps():
    for procedure in PROCEDURES:
        assert set(procedure.items) <= set(WORLD.entities)
        assert len(set(procedure.steps)) == len(procedure.steps) >= 5
        words = {w for step in procedure.steps for w in tokenise(step.replace("{x}", "").replace("{a_x}", ""))}
        assert not words & set(WORLD.names)


def test_reading_follows_subjects_denials_questions_and_both():
    said = read("A fox is red. It does not live in the sea. Is a wolf pink? An owl is grey.", WORLD)
    assert said.mentions == ("fox", "owl")
    assert said.statements == (
        Statement("fox", "colour", "red", False),
        Statement("fox", "home", "sea", True),
        Statement("owl", "colour", "grey", False),
    )
    assert [is_true(statement, WORLD) for statement in said.statements] == [True, True, False]
    pair = read("Both are small. The rest are large.", WORLD, pair=("fox", "owl"))
    assert [(s.entity, s.value) for s in pair.statements] == [("fox", "small"), ("owl", "small")]


def test_english_helpers():
    assert [article(word) for word in ("owl", "fox", "unicycle", "iron")] == [
        "an owl",
        "a fox",
        "a unicycle",
        "an iron",
    ]
    assert [listing(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b, and c"]
    assert joined(["is red", "is small"]) == "is red and small"
    assert joined(["is red", "eats grass"]) == "is red and eats grass"
    assert joined(["is a bird", "is red"]) == "is a bird and is red"
    assert (sentence("so it is"), sentence("here:")) == ("So it is.", "Here:")


def test_sample_is_uniform_without_repeats():
    generator = stream(5)
    counts = [0, 0, 0, 0]
    for _ in range(4000):
        taken = sample(generator, range(4), 2)
        assert len(set(taken)) == 2
        counts[taken[0]] += 1
    assert max(counts) - min(counts) < 200
    assert sorted(sample(generator, "abc", 9)) == ["a", "b", "c"]
