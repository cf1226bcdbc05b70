"""From judged responses to pairs of token ids: what is compared, what is computed, and what is dropped and listed."""

import logging
from dataclasses import replace

import pytest

from small_preferences import FORM, TOKENIZER, judged, preferences, with_random_reference
from tiny_training import text_row
from trueup.data.replies import encode_prompts
from trueup.data.rows import Response
from trueup.train.prepare import prepare_pairs


def prepared(*rows, max_length=80, **options):
    return prepare_pairs(rows, tokenizer=TOKENIZER, form=replace(FORM, max_length=max_length), **options)


def texts(row):
    """The prompt and each response of a tokenised row."""
    own = [TOKENIZER.decode(ids[row.prompt_length :]) for ids in row.sequences()]
    return TOKENIZER.decode(row.tokens[: row.prompt_length]), own


def test_a_prompt_is_the_prompt_alone_and_responses_end():
    """Not all that the responses have in common: " Pears" is learned from in both."""
    found = prepared(text_row("Name:", " Pears and plums", " Pears")).dataset[0]
    assert texts(found) == ("Name:", [" Pears and plums</s>", " Pears</s>"])
    assert found.pairs.tolist() == [[0, 1]]


def test_all_pairs_of_a_group_share_one_prompt():
    row = text_row("Name:", " a", " b", " c", " d", scores=[2.0, 5.0, 5.0, 1.0])
    found = prepared(row).dataset[0]
    assert found.size == found.prompt_length + sum(found.branch_lengths)
    assert sorted(found.pairs.tolist()) == [[0, 3], [1, 0], [1, 3], [2, 0], [2, 3]]
    assert found.tokens[: found.prompt_length].tolist() == encode_prompts(["Name:"], tokenizer=TOKENIZER, form=FORM)[0]


def test_what_is_in_no_pair_is_not_computed(caplog):
    row = text_row("Name:", " a", " b", " c", " d", scores=[2.0, 5.0, 5.0, 1.0])
    caplog.set_level(logging.INFO)
    result = prepared(row, rule="best_versus_worst")
    assert texts(result.dataset[0])[1] == [" b</s>", " d</s>"]
    assert result.dataset[0].pairs.tolist() == [[0, 1]]
    assert "2 responses are in no pair" in caplog.text
    assert [one.text for one in result.dataset.text(0).responses] == [" b", " d"]


def test_an_unjudged_response_neither_cuts_nor_drops_the_others():
    row = text_row("Name:", " a", " b")
    row = replace(row, responses=(Response(text=" boiling water" * 30), *row.responses))
    for how in ("drop", "truncate"):
        result = prepared(row, max_length=12, too_long=how)
        assert texts(result.dataset[0]) == ("Name:", [" a</s>", " b</s>"])
        assert (result.dropped, result.truncated) == ((), 0)


def test_long_rows_are_dropped_and_listed_or_cut():
    long = text_row("Name:", " Pears", " boiling water" * 30)
    result = prepared(text_row("Name:", " a", " b"), long, max_length=12)
    assert [result.dataset[i].index for i in range(len(result.dataset))] == [0]
    assert [(one.reason, one.origin) for one in result.dropped] == [("too long", long.origin)]
    cut = prepared(long, max_length=12, too_long="truncate")
    assert cut.truncated == 1
    assert cut.dataset[0].longest == 12


def same_after_cutting(*more: str):
    """Rows whose first two responses differ only beyond the cut."""
    return text_row("Name:", " plums" * 20 + " a", " plums" * 20 + " b", *more)


def test_responses_of_the_same_tokens_teach_nothing_and_are_listed():
    result = prepared(text_row("Name:", " a", " b"), same_after_cutting(), max_length=12, too_long="truncate")
    assert len(result.dataset) == 1
    assert [one.reason for one in result.dropped] == ["same tokens"]


def test_of_several_pairs_only_those_that_differ_are_learned_and_computed():
    result = prepared(same_after_cutting(" c"), max_length=12, too_long="truncate")
    found = result.dataset[0]
    assert found.pairs.tolist() == [[0, 1]]
    assert texts(found)[1][1] == " c</s>"
    assert len(result.dataset.text(0).responses) == 2
    (one,) = result.dropped
    assert one.reason == "response pair of the same tokens"
    assert "1 and 2" in one.detail


def test_a_row_that_states_nothing_is_listed():
    silent = replace(text_row("Name:", " a", " b"), responses=(Response(text=" a"), Response(text=" b")))
    result = prepared(silent, text_row("Name:", " c", " d"))
    assert [one.reason for one in result.dropped] == ["no preference"]
    assert texts(result.dataset[0])[1] == [" c</s>", " d</s>"]


def test_what_is_known_follows_the_used_rows():
    dataset = with_random_reference(preferences(judged(5)))
    row = dataset[3]
    assert row.tokens_of["reference"].shape == (sum(row.branch_lengths),)
    more = dataset.with_known(branches_of={"reward": [[i] for i in range(5)]})
    assert more[3].branches_of["reward"] == [3]
    assert set(more[3].tokens_of) == {"reference"}
    assert not dataset[3].branches_of
    assert dataset.paired


@pytest.mark.parametrize("rule", ["all", "best_versus_worst"])
def test_every_computed_branch_is_in_a_pair(rule):
    dataset = prepared(*judged(20, seed=1), rule=rule).dataset
    for i in range(len(dataset)):
        row = dataset[i]
        assert set(row.pairs.flatten().tolist()) == set(range(len(row.branch_lengths)))
        labels = [one.label for one in dataset.text(i).responses]
        assert all(labels[chosen] and not labels[rejected] for chosen, rejected in row.pairs.tolist())
