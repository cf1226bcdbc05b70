"""IFT in the trainer: what terms ask to be mixed is mixed, in training and in evaluation, however a step is cut."""

import pytest
import torch

from tiny_policies import reply_rows, tiny_policy
from tiny_training import FORM, TOKENIZER, arguments, largest_difference, step_once
from trueup.errors import RecipeError
from trueup.objectives import IFT, IFTPaper, NegativeLogLikelihood
from trueup.train.policy_trainer import PolicyTrainer
from trueup.train.step import Step
from trueup.types import PolicyBatch

ROWS = reply_rows(6, seed=4, longest=8)


def make(folder, *terms, evaluation=None):
    return PolicyTrainer(
        tiny_policy("gpt2"),
        arguments(folder),
        terms=terms,
        train_dataset=ROWS,
        eval_dataset=evaluation,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=200,
    )


def expected_loss(term):
    policy = tiny_policy("gpt2")
    out = policy(policy.layout(ROWS), mix=term.mix)
    count = sum(len(row.branch_lengths) for row in ROWS)
    return (
        term(PolicyBatch(logprob=out.logprob, branch=out.branch, prompt=torch.arange(count)), {}).values.mean().item()
    )


@pytest.mark.parametrize("term", [IFT(mix=0.4), IFTPaper(mix=0.4)])
def test_the_step_is_the_mean_over_responses_however_it_is_cut(term, tmp_path):
    expected, results = expected_loss(term), []
    for parts in (1, 4):
        trainer = make(tmp_path, term)
        trainer._plan = lambda rows, parts=parts: (
            Step.count(rows),
            [tuple(range(start, len(rows), parts)) for start in range(parts)],
        )
        results.append(step_once(trainer, ROWS))
        assert results[-1][0] == pytest.approx(expected, rel=1e-9)
    assert largest_difference(results[0][1], results[1][1]) < 1e-9


def test_what_is_watched_is_read_in_the_same_way(tmp_path):
    term = IFT(mix=0.4)
    trainer = make(tmp_path, term, evaluation=ROWS)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected_loss(term), rel=1e-6)


def test_a_loss_without_a_mix_asks_for_nothing(tmp_path):
    assert make(tmp_path, NegativeLogLikelihood())._wanted(ROWS) == {}
    assert make(tmp_path, IFT(mix=0.0), NegativeLogLikelihood())._wanted(ROWS) == {}
    assert make(tmp_path, IFT(mix=0.4))._wanted(ROWS) == {"mix": 0.4}


def test_terms_that_read_differently_are_refused(tmp_path):
    trainer = make(tmp_path, IFT(), NegativeLogLikelihood())
    with pytest.raises(RecipeError, match="need one mix"):
        step_once(trainer, ROWS)
