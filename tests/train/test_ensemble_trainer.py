"""Each member learns as a single model would from its own resample; the trunk learns from their mean."""

import json

import numpy as np
import pytest
import torch

from tiny_models import make_tokenizer, save_base
from tiny_training import (
    FORM,
    TOKENIZER,
    arguments,
    largest_difference,
    make_trainer,
    random_rows,
    step_once,
    tiny_reward_model,
    weights,
)
from trueup.errors import CheckpointError
from trueup.models.heads.ensemble import with_heads
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.objectives.reward.plackett_luce import PlackettLuce
from trueup.recipes.data import DataRecipe
from trueup.recipes.train_reward import TrainReward, train_reward
from trueup.recipes.train_settings import EnsembleRecipe, LoraRecipe
from trueup.rewards.aggregates import WorstCase
from trueup.rewards.ensemble import Standardization
from trueup.rewards.load import load_reward
from trueup.rewards.saved_ensemble import store_standardization
from trueup.train.ensemble_step import Bootstrap, Resample
from trueup.train.ensemble_trainer import EnsembleTrainer
from trueup.train.step import Step

COUPLED = [BradleyTerry(), BatchSumToZero(coefficient=0.1)]
MEMBERS = 3
ROWS = random_rows(8)


def ensemble():
    return with_heads(tiny_reward_model(), MEMBERS, generator=torch.Generator().manual_seed(0))


def ensemble_trainer(folder, *, bootstrap=True, rows=None, terms=None, budget=200, evaluation=None, **changes):
    return EnsembleTrainer(
        ensemble(),
        arguments(folder, **changes),
        terms=terms or COUPLED,
        train_dataset=rows if rows is not None else random_rows(24),
        eval_dataset=evaluation,
        tokenizer=TOKENIZER,
        form=FORM,
        token_budget=budget,
        bootstrap=Bootstrap(seed=5, members=MEMBERS) if bootstrap else None,
    )


def single_steps(folder, resamples, terms):
    """Loss and gradients of a single model with each member's head on that member's rows."""
    heads = ensemble().head.weight.detach()
    found = []
    for head, rows in zip(heads, resamples, strict=True):
        model = tiny_reward_model()
        model.head.weight.data = head[None].clone()
        found.append(step_once(make_trainer(folder, model, terms=terms, budget=10**6), rows))
    return found


@pytest.mark.parametrize("terms", [COUPLED, [BatchSumToZero(coefficient=1.0, group_size=4)], [PlackettLuce()]])
@pytest.mark.parametrize("budget", [10**6, 200])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_a_step_is_that_of_single_models(tmp_path, terms, budget, bootstrap):
    """Each on its rows repeated as often as they count; a head at its own pace, the trunk at the mean's."""
    trainer = ensemble_trainer(tmp_path, terms=terms, budget=budget, bootstrap=bootstrap)
    loss, gradients = step_once(trainer, ROWS)
    counts = trainer.bootstrap.counts(ROWS) if bootstrap else np.ones((MEMBERS, len(ROWS)), int)
    resamples = [[row for row, n in zip(ROWS, own, strict=True) for _ in range(n)] for own in counts]
    singles = single_steps(tmp_path, resamples, terms)
    assert loss == pytest.approx(np.mean([single for single, _ in singles]), abs=1e-10)
    for name, gradient in gradients.items():
        own = [single[name] for _, single in singles]
        expected = torch.cat(own) if name.endswith("score.weight") else torch.stack(own).mean(0)
        # The trunk's normalisations compute in float32, also backwards.
        assert float((gradient - expected).abs().max()) < 1e-6, name


def test_neither_cutting_nor_order_changes_a_step(tmp_path):
    expected = step_once(ensemble_trainer(tmp_path, budget=10**6), ROWS)
    for rows, budget in ((ROWS, 100), (ROWS[::-1], 250)):
        loss, gradients = step_once(ensemble_trainer(tmp_path, budget=budget), rows)
        assert loss == pytest.approx(expected[0], abs=1e-10)
        assert largest_difference(gradients, expected[1]) < 1e-10


def test_counts_are_poisson_and_depend_on_seed_row_and_member_alone():
    rows = random_rows(2000, responses=2, longest=2)
    counts = Bootstrap(seed=3, members=4).counts(rows)
    assert counts.shape == (4, 2000)
    assert counts.mean() == pytest.approx(1.0, abs=0.04)
    assert counts.var() == pytest.approx(1.0, abs=0.08)
    assert (counts == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)
    assert np.abs(np.corrcoef(counts) - np.eye(4)).max() < 0.09
    assert np.array_equal(Bootstrap(seed=3, members=4).counts(rows[::-1]), counts[:, ::-1])
    assert np.array_equal(Bootstrap(seed=3, members=4).counts(rows[7:9]), counts[:, 7:9])
    assert np.array_equal(Bootstrap(seed=3, members=2).counts(rows), counts[:2])
    assert not np.array_equal(Bootstrap(seed=4, members=4).counts(rows), counts)
    assert Bootstrap(seed=3, members=4).counts([]).shape == (4, 0)


def test_units_of_a_resample_are_counted():
    step = Step.count(ROWS)
    twice = Resample.of(step, np.full(len(ROWS), 2))
    assert twice.step.units == {name: 2 * count for name, count in step.units.items()}


def test_a_member_to_which_no_row_falls_stands_still(tmp_path):
    """One row a step: most members miss it more than a third of the time."""
    trainer = ensemble_trainer(tmp_path, budget=10**6)
    row = next(row for row in random_rows(50) if 0 < (trainer.bootstrap.counts([row]) > 0).sum() < MEMBERS)
    present = trainer.bootstrap.counts([row])[:, 0] > 0
    _, gradients = step_once(trainer, [row])
    moved = gradients["pretrained.score.weight"].abs().sum(dim=1) > 0
    assert moved.tolist() == present.tolist()
    absent = next(row for row in random_rows(500) if not trainer.bootstrap.counts([row]).any())
    loss, gradients = step_once(trainer, [absent])
    assert loss == 0.0
    assert all(not gradient.any() for gradient in gradients.values())


def test_resuming_changes_nothing(tmp_path):
    whole = ensemble_trainer(tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = ensemble_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert largest_difference(weights(resumed.model), weights(whole.model)) == 0.0
    assert json.loads((tmp_path / "checkpoint-2" / "trueup.json").read_text())["ensemble"]["size"] == MEMBERS


def test_evaluation_takes_the_rows_as_they_are(tmp_path):
    rows = random_rows(10, seed=1)
    found = [ensemble_trainer(tmp_path, bootstrap=bootstrap, evaluation=rows).evaluate() for bootstrap in (True, False)]
    assert found[0] == found[1]
    model = ensemble().eval()
    with torch.no_grad():
        out = model(model.layout(rows))
    assert found[0]["eval_member_std"] == pytest.approx(float(out.members.std(0, correction=0).mean()), abs=1e-9)
    assert found[0]["eval_mean_reward"] == pytest.approx(float(out.reward.mean()), abs=1e-9)
    assert 0 <= found[0]["eval_member_accuracy"] <= 1


def test_plain_gradient_descent_moves_heads_as_a_single_model_s(tmp_path):
    """As a share of the mean it would move them a third as far; Adam would hide that."""
    options = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 1, "rows": ROWS}
    trainer = ensemble_trainer(tmp_path, bootstrap=False, terms=[BradleyTerry()], **options)
    before = weights(trainer.model)["pretrained.score.weight"]
    trainer.train()
    moved = weights(trainer.model)["pretrained.score.weight"] - before
    single = tiny_reward_model()
    single.head.weight.data = before[:1].clone()
    alone = make_trainer(tmp_path, single, **options)
    alone.train()
    assert torch.allclose(moved[:1], weights(single)["pretrained.score.weight"] - before[:1], atol=1e-9)
    assert moved[0].abs().max() > 1e-4


@pytest.mark.parametrize("lora", [None, LoraRecipe(rank=2)])
def test_the_recipe_trains_an_ensemble_that_loads_as_one_reward(tmp_path, monkeypatch, lora):
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "train.jsonl"
    pairs = [{"prompt": f"{i}: ", "chosen": "plum " * (i + 2), "rejected": "pear " * (i + 1)} for i in range(16)]
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    done = train_reward(
        TrainReward(
            model=str(save_base(tmp_path / "base", make_tokenizer())),
            output=tmp_path / "run",
            data=DataRecipe(train=str(data), eval=str(data)),
            ensemble=EnsembleRecipe(size=3, aggregate=WorstCase()),
            lora=lora,
            batch_size=8,
            epochs=3,
            learning_rate=1e-2,
        )
    )
    side = json.loads((done.model / "trueup.json").read_text())
    assert side["ensemble"] == {"size": 3, "kind": "heads", "bootstrap": True, "aggregate": {"name": "wco"}}
    scores = load_reward(str(tmp_path / "run")).score(["1: "], [["plum plum", "pear", "plum"]])
    assert scores.members.shape == (3, 3)
    assert np.array_equal(scores.reward, scores.members.min(axis=0))
    assert len({tuple(member) for member in scores.members.round(6).tolist()}) == 3
    assert done.metrics["eval_accuracy"] > 0.9
    constants = Standardization.measured_on(scores.members)
    store_standardization(done.model, constants)
    again = load_reward(str(tmp_path / "run")).score(["1: "], [["plum plum", "pear", "plum"]])
    assert again.reward == pytest.approx(constants(scores.members).min(axis=0))
    (done.model / "trueup.json").write_text(json.dumps(side | {"ensemble": {"size": 3, "aggregate": {"name": "best"}}}))
    with pytest.raises(CheckpointError, match=r"trueup\.json: aggregate is .*one of mean, wco, uwo"):
        load_reward(str(done.model))
