"""From rows to a data set: what is kept, dropped, cut, ranked."""

import numpy as np
import pytest

from tiny_models import make_tokenizer
from tiny_training import make_trainer, text_row, tiny_reward_model
from trueup.data.rows import Pair
from trueup.data.templates import TextFormat
from trueup.errors import RecipeError
from trueup.functional.preference import logistic
from trueup.objectives.reward.margin import Margin
from trueup.objectives.reward.plackett_luce import PlackettLuce
from trueup.train.prepare import preferences_of, prepare

TOKENIZER = make_tokenizer()
ENCODE = TOKENIZER.encode


def form(max_length=None, side="left"):
    return TextFormat(kind="plain", special_tokens=False, append_eos=True, max_length=max_length, truncation_side=side)


def prepared(*rows, max_length=None, side="left", **options):
    return prepare(rows, tokenizer=TOKENIZER, form=form(max_length, side), **options)


SHORT, LONG = text_row("What is it?", " Yes", " No"), text_row("What is it? " * 20, " Yes", " No, not at all")


def test_too_long_rows_are_dropped_and_listed():
    result = prepared(SHORT, LONG, max_length=40)
    assert [result.dataset[i].index for i in range(len(result.dataset))] == [0]
    assert result.truncated == 0
    (dropped,) = result.dropped
    tokens = len(ENCODE("What is it? " * 20 + " No, not at all")) + 1
    assert (dropped.reason, dropped.detail, dropped.id) == ("too long", f"{tokens} tokens, more than 40", LONG.id)


@pytest.mark.parametrize("side", ["left", "right"])
def test_too_long_rows_are_cut_on_the_side_asked_for(side):
    row = text_row("What is it? " * 4, " Yes" * 12, " No" * 15)
    whole = [*ENCODE("What is it? " * 4 + " Yes" * 12), TOKENIZER.eos_token_id]
    limit = len(whole) - 3
    result = prepared(SHORT, row, max_length=limit, side=side, too_long="truncate")
    assert not result.dropped
    assert result.truncated == 1
    found = result.dataset[1].sequences()[0].tolist()
    # The end of the sequence is where the reward is read, so a cut on the right keeps it.
    assert found == (whole[-limit:] if side == "left" else [*whole[: limit - 1], TOKENIZER.eos_token_id])


def test_rows_whose_difference_was_cut_away_are_dropped_and_listed():
    result = prepared(SHORT, LONG, max_length=20, side="right", too_long="truncate")
    assert len(result.dataset) == 1
    (dropped,) = result.dropped
    assert dropped.reason == "same tokens"
    assert "cutting left no difference" in dropped.detail
    assert prepared(SHORT, LONG, max_length=20, side="left", too_long="truncate").dropped == ()


def test_one_pair_that_differs_keeps_a_row():
    row = text_row("Q", " same", " same", " other", scores=[2.0, 1.0, 0.0])
    assert len(prepared(row).dataset) == 1
    (dropped,) = prepared(text_row("Q", " same", " same")).dropped
    assert "differ in text alone" in dropped.detail


def test_pairs_and_ranks():
    row = text_row("Q", " a", " b", " c", " d", scores=[1.0, 3.0, 2.0, 2.0])
    assert set(preferences_of(row, "all").pairs) == {Pair(1, 2), Pair(1, 3), Pair(1, 0), Pair(2, 0), Pair(3, 0)}
    assert preferences_of(row, "all").rank == (-1, -1, -1, -1)
    assert preferences_of(row, "best_versus_worst").pairs == (Pair(1, 0),)
    # The two responses with equal scores have no place in the ranking; the others keep theirs in order.
    listwise = preferences_of(row, "listwise")
    assert listwise.rank == (1, 0, -1, -1)
    assert set(listwise.pairs) == set(preferences_of(row, "all").pairs)


def test_branches_are_the_responses_with_their_prompt():
    dataset = prepared(SHORT).dataset
    expected = [[*ENCODE("What is it?" + text), TOKENIZER.eos_token_id] for text in (" Yes", " No")]
    assert [list(sequence) for sequence in dataset[0].sequences()] == expected
    assert dataset[0].pairs.tolist() == [[0, 1]]
    assert dataset.describe(0)["responses"] == [" Yes", " No"]


def test_a_ranking_loss_without_rankings_is_refused(tmp_path):
    row = text_row("Q", " a", " b", " c", scores=[1.0, 3.0, 2.0])
    model = tiny_reward_model(vocab_size=len(TOKENIZER))
    make_trainer(tmp_path, model, rows=prepared(row, learn="listwise").dataset, terms=[PlackettLuce()])
    with pytest.raises(RecipeError, match="listwise"):
        make_trainer(tmp_path, model, rows=prepared(row).dataset, terms=[PlackettLuce()])


def test_margins_reach_the_loss(tmp_path):
    """From the row to the logged loss, against the margins added by hand to plain rewards."""
    rows = [text_row(f"Question {i}?", " Yes", " No", margin=m) for i, m in enumerate([0.0, 0.7, 2.0, None])]
    dataset = prepared(*rows).dataset
    model = tiny_reward_model("trees", vocab_size=len(TOKENIZER))
    trainer = make_trainer(
        tmp_path,
        model,
        rows=dataset,
        terms=[Margin(constant=0.1)],
        budget=30,
        per_device_train_batch_size=4,
        max_steps=1,
    )
    branches = model(model.layout([dataset[i] for i in range(4)])).reward.detach().reshape(4, 2)
    gap = branches[:, 0] - branches[:, 1]
    expected = logistic(gap - gap.new_tensor([0.1, 0.8, 2.1, 0.1])).mean()
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(expected), abs=1e-6)
    assert abs(float(logistic(gap - 0.1).mean()) - float(expected)) > 0.01
    assert np.isclose(trainer.state.log_history[0]["margin"], float(gap.mean()))
