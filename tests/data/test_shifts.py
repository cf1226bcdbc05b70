import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trueup.data.fingerprint import normalized_prompt
from trueup.data.formats import read_rows
from trueup.data.pairs import pairs_of
from trueup.data.rows import Origin, Response, Row
from trueup.data.shifts import SPLITS, four_shifts
from trueup.errors import DataError, RecipeError

SOURCES = [f"writer {letter}" for letter in "abcdefg"]


def rectangle(prompts: int, *, sources=tuple(SOURCES)) -> list[Row]:
    return [
        Row(
            prompt=f"Prompt {number}?",
            responses=tuple(
                Response(text=f"{source} on {number}", score=float((number * 7 + index * 3) % 11), source=source)
                for index, source in enumerate(sources)
            ),
            id=f"r{number}",
            origin=Origin("made", number + 1),
        )
        for number in range(prompts)
    ]


ROWS = rectangle(200)


def prompts(rows):
    return {row.prompt for row in rows}


def test_shape_of_a_full_rectangle():
    shifts = four_shifts(ROWS, held_out_sources=["writer b", "writer f"], seed=0)
    assert shifts.held_out_sources == ("writer b", "writer f")
    assert len(shifts.train_sources) == 5
    assert shifts.removed == ()
    assert prompts(shifts.train) == prompts(shifts.in_domain) == prompts(shifts.response_disjoint)
    assert prompts(shifts.prompt_disjoint) == prompts(shifts.mutual_disjoint)
    assert len(shifts.train) + len(shifts.prompt_disjoint) == 200
    assert 20 <= len(shifts.prompt_disjoint) <= 60
    each = {name: {len(row.responses) for row in rows} for name, rows in shifts.splits().items()}
    assert each == {
        "train": {2},
        "in_domain": {3},
        "prompt_disjoint": {5},
        "response_disjoint": {2},
        "mutual_disjoint": {2},
    }


def test_sizes_are_stated():
    shifts = four_shifts(ROWS, held_out_sources=2, seed=0)
    sizes = shifts.sizes()
    assert list(sizes) == list(SPLITS)
    count = len(shifts.train)
    assert sizes["train"] == {"prompts": count, "responses": 2 * count, "pairs": count}
    assert sizes["mutual_disjoint"]["responses"] == 2 * len(shifts.mutual_disjoint)


def test_training_pairs_are_labelled_by_score_and_keep_it():
    for row in four_shifts(ROWS, held_out_sources=2, seed=0).train:
        better, worse = row.responses
        assert (better.label, worse.label) == (True, False)
        assert better.score > worse.score
        assert pairs_of(row) == [(0, 1)]


@given(st.integers(0, 1000), st.integers(2, 3), st.sampled_from([0.1, 0.2, 0.4]), st.randoms())
@settings(deadline=None, max_examples=25)
def test_no_split_shares_what_it_must_not(seed, held_out, share, random):
    rows = list(ROWS)
    random.shuffle(rows)
    shifts = four_shifts(rows, held_out_sources=held_out, held_out_prompts=share, seed=seed)
    sources = {name: {one.source for row in part for one in row.responses} for name, part in shifts.splits().items()}
    for name in ("train", "in_domain", "prompt_disjoint"):
        assert sources[name] <= set(shifts.train_sources)
    for name in ("response_disjoint", "mutual_disjoint"):
        assert sources[name] == set(shifts.held_out_sources)
    assert not prompts(shifts.train) & (prompts(shifts.prompt_disjoint) | prompts(shifts.mutual_disjoint))
    texts = {name: {one.text for row in part for one in row.responses} for name, part in shifts.splits().items()}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not texts[one] & texts[other]
    ordered = four_shifts(ROWS, held_out_sources=held_out, held_out_prompts=share, seed=seed)
    for name in SPLITS:
        assert {row.id: row for row in shifts.splits()[name]} == {row.id: row for row in ordered.splits()[name]}


def test_prompts_are_assigned_whatever_the_other_rows():
    whole = four_shifts(ROWS, held_out_sources=["writer a", "writer b"], seed=5)
    half = four_shifts(ROWS[::2], held_out_sources=["writer a", "writer b"], seed=5)
    kept = {row.id: row for row in ROWS[::2]}
    assert {row.id for row in half.train} == {row.id for row in whole.train if row.id in kept}
    assert all(row in whole.train for row in half.train)


def test_case_and_white_space_do_not_move_a_prompt():
    changed = [replace(row, prompt=row.prompt.upper().replace(" ", "\n ")) for row in ROWS]
    plain = four_shifts(ROWS, held_out_sources=2, seed=1)
    moved = four_shifts(changed, held_out_sources=2, seed=1)
    for name in SPLITS:
        assert [normalized_prompt(row.prompt) for row in moved.splits()[name]] == [
            normalized_prompt(row.prompt) for row in plain.splits()[name]
        ]


def test_seeds_choose_other_prompts_pairs_and_sources():
    one, other = (four_shifts(ROWS, held_out_sources=3, seed=seed) for seed in (0, 1))
    assert prompts(one.train) != prompts(other.train)
    both = prompts(one.train) & prompts(other.train)
    assert any(
        {r.text for r in a.responses} != {r.text for r in b.responses}
        for a in one.train
        for b in other.train
        if a.prompt == b.prompt and a.prompt in both
    )
    assert len({four_shifts(ROWS, held_out_sources=3, seed=seed).held_out_sources for seed in range(8)}) > 1


def test_no_more_responses_than_asked_for():
    rows = rectangle(100, sources=tuple(f"w{number}" for number in range(14)))
    shifts = four_shifts(rows, held_out_sources=6, responses_per_prompt=4, seed=0)
    each = {name: {len(row.responses) for row in part} for name, part in shifts.splits().items()}
    assert each == {
        "train": {2},
        "in_domain": {2},
        "prompt_disjoint": {4},
        "response_disjoint": {4},
        "mutual_disjoint": {4},
    }


def with_text(row: Row, index: int, text: str) -> Row:
    answers = list(row.responses)
    answers[index] = replace(answers[index], text=text)
    return replace(row, responses=tuple(answers))


def test_rows_with_coinciding_responses_are_removed_and_counted():
    rows = [with_text(ROWS[0], 1, ROWS[0].responses[0].text), *ROWS[1:]]
    shifts = four_shifts(rows, held_out_sources=2, seed=0)
    assert shifts.removed_counts() == {"coinciding responses": 1}
    assert ROWS[0].prompt not in prompts(row for part in shifts.splits().values() for row in part)
    shifts = four_shifts(rows, held_out_sources=["writer f", "writer g"], coinciding="response", seed=0)
    assert shifts.removed_counts() == {"response coincides with another": 1}
    assert ROWS[0].prompt in prompts(row for part in shifts.splits().values() for row in part)


def test_duplicate_prompts_leave_one_row_whatever_the_order():
    twin = replace(ROWS[3], prompt="prompt  3?", id="twin", origin=Origin("made", 999))
    twin = with_text(twin, 0, "something else")
    results = [four_shifts(rows, held_out_sources=2, seed=0) for rows in ([*ROWS, twin], [twin, *ROWS])]
    assert [result.removed_counts() for result in results] == [{"duplicate prompt": 1}] * 2
    assert results[0].removed[0].id == results[1].removed[0].id


def test_a_trained_text_under_another_prompt_is_removed_and_counted():
    train = four_shifts(ROWS, held_out_sources=["writer b", "writer f", "writer g"], seed=0).train
    text = train[0].responses[0].text
    target = next(number for number, row in enumerate(ROWS) if row.prompt == train[1].prompt)
    rows = [*ROWS[:target], with_text(ROWS[target], 5, text), *ROWS[target + 1 :]]
    shifts = four_shifts(rows, held_out_sources=["writer b", "writer f", "writer g"], seed=0)
    assert shifts.removed_counts() == {"response text seen in training": 1}
    changed = next(row for row in shifts.response_disjoint if row.prompt == train[1].prompt)
    assert [one.source for one in changed.responses] == ["writer b", "writer g"]


def test_prompts_with_nothing_but_ties_are_removed_and_counted():
    tied = replace(ROWS[0], responses=tuple(replace(one, score=1.0) for one in ROWS[0].responses))
    for seed in range(20):
        shifts = four_shifts([tied, *ROWS[1:]], held_out_sources=2, seed=seed)
        if shifts.removed:
            assert shifts.removed_counts() == {"tie": 1}
            assert tied.prompt not in prompts(row for part in shifts.splits().values() for row in part)
            return
    pytest.fail("the tied prompt was never a training prompt")


@pytest.mark.parametrize("field", ["score", "source"])
def test_scores_and_sources_are_required(field):
    answers = list(ROWS[1].responses)
    answers[2] = replace(answers[2], **{field: None})
    rows = [ROWS[0], replace(ROWS[1], responses=tuple(answers))]
    with pytest.raises(DataError, match=rf"made:2, field `responses\[2\].{field}`: the field is missing"):
        four_shifts(rows, held_out_sources=2, seed=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"held_out_sources": 6}, "at least two training sources, got 1"),
        ({"held_out_sources": 1}, "at least two held-out sources, got 1"),
        ({"held_out_sources": -1}, "at least two held-out sources, got 0"),
        ({"held_out_sources": ["writer a", "nobody"]}, "names nobody, but the sources are writer a, writer b"),
        ({"held_out_sources": 2, "held_out_prompts": 1.0}, "held_out_prompts must lie in"),
        ({"held_out_sources": 2, "responses_per_prompt": 3}, "responses_per_prompt must be at least 4"),
        ({"held_out_sources": 2, "coinciding": "both"}, "coinciding must be one of row, response, got both"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(RecipeError, match=words):
        four_shifts(ROWS, seed=0, **settings)


def test_splits_are_never_empty():
    with pytest.raises(DataError, match="would be empty"):
        four_shifts(ROWS[:1], held_out_sources=2, seed=0)
    with pytest.raises(DataError, match=r"split in_domain would be empty .*too few responses for in_domain"):
        four_shifts(rectangle(50, sources=tuple("abcd")), held_out_sources=2, seed=0)
    with pytest.raises(DataError, match="zero usable rows"):
        four_shifts([], held_out_sources=2, seed=0)


def test_the_real_rectangle(shared_data):
    file = read_rows(shared_data / "superhf-multi" / "responses.jsonl.gz")
    shifts = four_shifts(file.rows, held_out_sources=4, seed=0)
    distinct = [row for row in file.rows if len({one.text for one in row.responses}) == 12]
    assert shifts.removed_counts()["coinciding responses"] == 476 - len(distinct)
    sizes = shifts.sizes()
    assert sizes["train"]["prompts"] + sizes["prompt_disjoint"]["prompts"] == len(distinct)
    assert sizes["train"]["pairs"] == sizes["train"]["prompts"]
    assert all(size["pairs"] > 0 for size in sizes.values())
