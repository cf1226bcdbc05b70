"""Training on pairs: the loss by hand, however a step is cut, with everything that terms may need of the rows."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from small_preferences import judged, make, policy, preferences, with_random_reference
from tiny_policies import plain_logprobs, reply_rows
from tiny_training import largest_difference, step_once, weights
from trueup.errors import NonFiniteError, RecipeError
from trueup.models.reading import logprobs
from trueup.objectives import PREFERENCE_OBJECTIVES
from trueup.objectives.advantage.a_lol import ALol
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.objectives.policy.regularizers.forward_kl_prior import ForwardKLPrior
from trueup.objectives.policy.value_loss import ValueLoss
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.kto_pair import KTOPair
from trueup.objectives.preference.modpo import MODPO
from trueup.objectives.preference.simpo import SimPO
from trueup.objectives.supervised.chosen import ChosenLikelihood
from trueup.train.branch_trainer import OFFENDERS
from trueup.train.preference_trainer import PreferenceTrainer
from trueup.train.reference_cache import model_fingerprint
from trueup.train.step import Step

ROWS = judged(12, seed=2)
PLAIN = preferences(ROWS)
KNOWN = with_random_reference(PLAIN, "reference", "previous").with_known(
    branches_of={
        "reward": [torch.linspace(-1, 1, len(PLAIN[i].branch_lengths), dtype=torch.float64) for i in range(len(PLAIN))]
    }
)


def rows_of(dataset) -> list:
    return [dataset[i] for i in range(len(dataset))]


def cut_into(trainer: PreferenceTrainer, count: int) -> None:
    """Make every step have so many micro-batches."""

    def plan(rows):
        return Step.count(rows), [tuple(range(start, len(rows), count)) for start in range(count)]

    trainer._plan = plan


def by_hand(model, rows, *, beta: float) -> dict[str, torch.Tensor]:
    """DPO's numbers of each pair, from the plain model's log-probabilities of one sequence at a time."""
    sums = [part.sum() for row in rows for part in torch.split(plain_logprobs(model, [row]), list(row.branch_lengths))]
    held = [part.sum() for row in rows for part in torch.split(row.tokens_of["reference"], list(row.branch_lengths))]
    found = {"loss": [], "rewards/chosen": [], "rewards/rejected": [], "logps/chosen": [], "logps/rejected": []}
    start = 0
    for row in rows:
        for chosen, rejected in (row.pairs + start).tolist():
            reward = [beta * (sums[i] - held[i]) for i in (chosen, rejected)]
            found["loss"].append(torch.log1p(torch.exp(-(reward[0] - reward[1]))))
            for name, value in zip(("rewards/chosen", "rewards/rejected"), reward, strict=True):
                found[name].append(value)
            found["logps/chosen"].append(sums[chosen])
            found["logps/rejected"].append(sums[rejected])
        start += len(row.branch_lengths)
    return {name: torch.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("sharing", ["trees", "separate"])
def test_the_loss_is_the_mean_over_all_pairs_of_the_step(sharing, tmp_path):
    """With the prompt shared or not; gradients, too."""
    model = policy()
    model.settle(sharing)
    rows = rows_of(KNOWN)
    trainer = make(tmp_path, KNOWN, terms=(DPO(beta=0.3),), model=model)
    cut_into(trainer, 3)
    loss, gradients = step_once(trainer, rows)
    plain = policy(sharing="separate")
    expected = by_hand(plain, rows, beta=0.3)["loss"].mean()
    expected.backward()
    wanted = {name: p.grad for name, p in plain.named_parameters()}
    assert loss == pytest.approx(float(expected.detach()), abs=1e-10)
    assert largest_difference(gradients, wanted) < 1e-10


@pytest.mark.parametrize("name", PREFERENCE_OBJECTIVES)
def test_a_step_is_the_same_however_it_is_cut(name, tmp_path):
    """Every method, statistics over the step included, with both terms that may be added."""
    terms = (PREFERENCE_OBJECTIVES[name](), ChosenLikelihood(coefficient=0.3), EntropyBonus(coefficient=0.2))
    rows, found = rows_of(KNOWN)[:8], []
    for parts in (1, 2, 8):
        trainer = make(tmp_path, KNOWN, terms=terms)
        cut_into(trainer, parts)
        found.append(step_once(trainer, rows))
    scale = max(1.0, abs(found[0][0]))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-10 * scale)
        assert largest_difference(gradients, found[0][1]) < 1e-10


def test_the_budget_cuts_a_step_and_changes_nothing(tmp_path):
    found = []
    for budget in (10**6, 60):
        trainer = make(tmp_path, KNOWN, terms=(KTOPair(),), budget=budget)
        found.append((*step_once(trainer, rows_of(KNOWN)), len(trainer._plan(rows_of(KNOWN))[1])))
    assert found[0][2] == 1
    assert found[1][2] > 3
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-10)
    assert largest_difference(found[1][1], found[0][1]) < 1e-10


def test_a_part_without_rows_adds_nothing(tmp_path):
    trainer = make(tmp_path, KNOWN, terms=(KTOPair(), EntropyBonus()))
    rows = rows_of(KNOWN)
    trainer._plan = lambda rows: (Step.count(rows), [tuple(range(len(rows))), ()])
    found = step_once(trainer, rows)
    cut_into(trainer, 1)
    expected = step_once(trainer, rows)
    assert found[0] == pytest.approx(expected[0], abs=1e-12)
    assert largest_difference(found[1], expected[1]) < 1e-12


def test_what_is_logged_and_watched_has_trl_s_names(tmp_path):
    """Means over pairs, of which rows have different numbers."""
    held_out = with_random_reference(preferences(judged(7, seed=5)), seed=4)
    trainer = make(tmp_path, KNOWN, terms=(DPO(beta=0.3),), evaluation=held_out, max_steps=1, learning_rate=0.0)
    assert len({len(row.pairs) for row in rows_of(held_out)}) > 1
    trainer.train()
    found = trainer.evaluate()
    with torch.no_grad():
        expected = by_hand(policy(sharing="separate"), rows_of(held_out), beta=0.3)
    margins = expected["rewards/chosen"] - expected["rewards/rejected"]
    assert found["eval_loss"] == pytest.approx(float(expected["loss"].mean()), abs=1e-10)
    for name in ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert found[f"eval_{name}"] == pytest.approx(float(expected[name].mean()), abs=1e-9), name
    assert found["eval_rewards/margins"] == pytest.approx(float(margins.mean()), abs=1e-9)
    assert found["eval_rewards/accuracies"] == pytest.approx(float((margins > 0).double().mean()))
    line = trainer.state.log_history[0]
    assert {"loss/dpo", "rewards/accuracies", "logps/chosen", "token_logprob", "padding_share"} <= set(line)
    assert line["padding_share"] == 0.0


def test_it_learns_which_response_is_preferred(tmp_path):
    dataset = preferences(judged(4, seed=6, responses=2))
    trainer = make(tmp_path, dataset, terms=(SimPO(),), evaluation=dataset, max_steps=12, learning_rate=2e-2)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < 0.3 * before["eval_loss"]
    assert after["eval_rewards/accuracies"] == 1.0


# Held against another model


def test_held_against_itself_the_first_loss_is_log_2(tmp_path):
    """And the policy at the start is what it stays held against."""
    model = policy()
    trainer = make(tmp_path, PLAIN, terms=(DPO(),), model=model, evaluation=PLAIN, max_steps=3)
    trainer.hold_against(
        lambda rows: logprobs(model, rows, token_budget=500), model=model_fingerprint(model, adapter=False)
    )
    assert trainer.evaluate()["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    trainer.train()
    first, *_, last = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert first == pytest.approx(math.log(2), abs=1e-6)
    assert last < first - 1e-3
    with torch.no_grad():
        start = plain_logprobs(policy(sharing="separate"), rows_of(PLAIN))
    kept = torch.cat([row.tokens_of["reference"] for row in rows_of(trainer.train_dataset)])
    assert torch.allclose(kept.double(), start, atol=1e-5)


def test_one_model_may_be_reference_and_previous_policy(tmp_path):
    model, calls = policy(), []

    def compute(rows):
        calls.append(len(rows))
        return logprobs(model, rows, token_budget=500)

    trainer = make(tmp_path, PLAIN, terms=(PREFERENCE_OBJECTIVES["inpo"](),), model=model)
    trainer.hold_against(compute, model="start", names=("reference", "previous"))
    row = trainer.train_dataset[2]
    assert torch.equal(row.tokens_of["reference"], row.tokens_of["previous"])
    assert sum(calls) == len(PLAIN)


def test_rewards_and_advantages_reach_terms_of_single_responses(tmp_path):
    """A-LoL at the reference: each response's likelihood times its positive advantage, as the mean over responses."""
    dataset = preferences(judged(6, seed=3))
    advantage = [
        torch.repeat_interleave(
            torch.linspace(-1, 2, len(dataset[i].branch_lengths), dtype=torch.float64),
            torch.tensor(dataset[i].branch_lengths),
        )
        for i in range(len(dataset))
    ]
    with torch.no_grad():
        own = [plain_logprobs(policy(sharing="separate"), [row]) for row in rows_of(dataset)]
    known = dataset.with_known(tokens_of={"advantage": advantage, "reference": own})
    trainer = make(tmp_path, known, terms=(ALol(),))
    cut_into(trainer, 3)
    loss, _ = step_once(trainer, rows_of(known))
    total = [
        -max(float(a[0]), 0.0) * float(p.sum())
        for row, values, gains in zip(rows_of(dataset), own, advantage, strict=True)
        for p, a in zip(
            torch.split(values, list(row.branch_lengths)), torch.split(gains, list(row.branch_lengths)), strict=True
        )
    ]
    assert loss == pytest.approx(np.mean(total), abs=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ((DPO(),), "dpo needs `reference` of every row; call hold_against first"),
        ((SimPO(), MODPO()), "modpo needs `reference`"),
        ((PREFERENCE_OBJECTIVES["inpo"](),), "inpo needs `reference`"),
        ((ALol(),), "`reference`"),
    ],
)
def test_training_without_what_a_term_needs_is_refused(terms, words, tmp_path):
    with pytest.raises(RecipeError, match=words):
        make(tmp_path, PLAIN, terms=terms).train()


def test_rows_that_are_only_watched_must_be_known_too(tmp_path):
    trainer = make(tmp_path, KNOWN, terms=(DPO(),), evaluation=PLAIN)
    with pytest.raises(RecipeError, match="dpo needs `reference` of every row"):
        trainer.train()
    with_rewards = with_random_reference(PLAIN)
    with pytest.raises(RecipeError, match="modpo needs `reward` of every row; give the data set rewards"):
        make(tmp_path, with_rewards, terms=(MODPO(),)).train()


@pytest.mark.parametrize(("term", "need"), [(ForwardKLPrior(), "forward_kl"), (ValueLoss(), "value")])
def test_terms_of_own_samples_are_refused(term, need, tmp_path):
    with pytest.raises(RecipeError, match=f"needs {need}, which only training on own samples computes"):
        make(tmp_path, KNOWN, terms=(term,))


def test_pairs_are_needed_where_a_term_is_of_pairs(tmp_path):
    nothing = replace_preferences(PLAIN)
    with pytest.raises(RecipeError, match="simpo needs pairs, and no row has one"):
        make(tmp_path, nothing, terms=(SimPO(),))
    trainer = make(tmp_path, reply_rows(4), terms=(SimPO(),))
    with pytest.raises(RecipeError, match="no `pairs`"):
        step_once(trainer, reply_rows(4))


def replace_preferences(dataset):
    """The rows without their pairs."""
    plain = [replace(one, pairs=()) for one in dataset.preferences]
    return type(dataset)(dataset.rows, dataset.table, plain)


def test_a_nan_names_its_row(tmp_path):
    model = policy()
    trainer = make(tmp_path, KNOWN, terms=(DPO(),), model=model, budget=10**6, per_device_train_batch_size=12)
    poisoned = KNOWN[4].branch_lengths
    forward = model.forward

    def broken(layout, **wanted):
        out = forward(layout, **wanted)
        counts = [len(row.branch_lengths) for row in trainer._step.rows]
        start = sum(counts[: [row.index for row in trainer._step.rows].index(4)])
        wrong = (out.branch >= start) & (out.branch < start + len(poisoned))
        return replace(out, logprob=torch.where(wrong, float("nan"), out.logprob))

    model.forward = broken
    trainer._plan = lambda rows: (Step.count(rows), [tuple(range(len(rows)))])
    with pytest.raises(NonFiniteError, match="1 offending rows"):
        trainer.train()
    (line,) = (tmp_path / OFFENDERS).read_text().splitlines()
    assert json.loads(line)["row"] == "made.jsonl:5"


def test_weights_move_only_by_training(tmp_path):
    trainer = make(tmp_path, KNOWN, terms=(DPO(),), evaluation=KNOWN)
    before = weights(trainer.model)
    trainer.evaluate()
    assert largest_difference(weights(trainer.model), before) == 0.0
