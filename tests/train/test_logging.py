"""What is logged, against a direct computation."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_training import make_trainer, random_rows, tiny_reward_model
from trueup.functional.preference import logistic
from trueup.objectives import REWARD_OBJECTIVES, REWARD_REGULARIZERS
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.train.callbacks import MetricsFile
from trueup.train.step import Tally, term_name

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def direct(model, rows):
    """Rewards, hidden norms and pairs of rows, one row at a time and unshared."""
    rewards, norms, pairs = [], [], []
    for row in rows:
        with torch.no_grad():
            out = model(model.layout([row]))
        pairs += [(out.reward[a].item(), out.reward[b].item()) for a, b in row.pairs.tolist()]
        rewards += out.reward.tolist()
        norms += out.hidden.norm(dim=-1).tolist()
    return np.asarray(rewards), np.asarray(norms), np.asarray(pairs)


def by_hand(model, rows):
    rewards, norms, pairs = direct(model, rows)
    gap = pairs[:, 0] - pairs[:, 1]
    return {
        "accuracy": (gap > 0).mean(),
        "margin": gap.mean(),
        "mean_reward": rewards.mean(),
        "min_reward": rewards.min(),
        "max_reward": rewards.max(),
        "reward_std": rewards.std(),
        "hidden_norm_mean": norms.mean(),
        "hidden_norm_std": norms.std(),
        "loss/bradley_terry": float(logistic(torch.as_tensor(gap)).mean()),
    }


def test_one_step_by_hand(tmp_path):
    rows, bsr = random_rows(8), BatchSumToZero(coefficient=0.2)
    expected = by_hand(tiny_reward_model("separate"), rows)
    pairs = direct(tiny_reward_model("separate"), rows)[2]
    expected["reward_sum_to_zero"] = abs(pairs.mean())
    expected["loss/bsr"] = 0.2 * len(pairs) * pairs.mean() ** 2
    expected["loss"] = expected["loss/bradley_terry"] + expected["loss/bsr"]
    expected["padding_share"] = 0.0
    expected["num_tokens"] = sum(len(sequence) for row in rows for sequence in row.sequences())
    trainer = make_trainer(tmp_path, rows=rows, terms=[BradleyTerry(), bsr], budget=150, max_steps=1)
    trainer.train()
    line = trainer.state.log_history[0]
    assert {name: line[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert set(line) - set(expected) == {"grad_norm", "learning_rate", "epoch", "step", "tokens_per_second"}
    assert line["tokens_per_second"] > 0


@pytest.mark.parametrize("size", [8, 5])
def test_evaluation_is_a_mean_over_the_data_set(size, tmp_path):
    """19 rows with unequal numbers of pairs: means of batch means would differ."""
    rows = random_rows(19, seed=2)
    trainer = make_trainer(tmp_path, evaluation=rows, budget=150, per_device_train_batch_size=size)
    found = trainer.evaluate()
    model = tiny_reward_model("separate")
    expected = by_hand(model, rows)
    assert {name: found[f"eval_{name}"] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found["eval_loss"] == pytest.approx(expected["loss/bradley_terry"], abs=1e-6)
    batches = [by_hand(model, rows[start : start + size]) for start in range(0, 19, size)]
    assert abs(np.mean([one["mean_reward"] for one in batches]) - expected["mean_reward"]) > 1e-4


def test_evaluation_with_a_coupled_term_in_a_short_last_step(tmp_path):
    """Each step of the training size is a group of its own, the last with the pairs it has."""
    rows, coefficient = random_rows(11, seed=2), 0.3
    terms = [BatchSumToZero(coefficient=coefficient, reduction="mean")]
    found = make_trainer(tmp_path, evaluation=rows, terms=terms, budget=90).evaluate()
    groups = [direct(tiny_reward_model("separate"), part)[2] for part in (rows[:8], rows[8:])]
    # The trainer weighs each pair alike, so a group counts by its pairs.
    expected = sum(len(g) * coefficient * g.mean() ** 2 for g in groups) / sum(map(len, groups))
    assert found["eval_loss/bsr"] == pytest.approx(expected, abs=1e-7)


def test_evaluating_disturbs_nothing(tmp_path):
    rows = random_rows(24)
    histories = []
    for strategy in ("no", "steps"):
        trainer = make_trainer(
            tmp_path, evaluation=random_rows(9, seed=5), rows=rows, eval_strategy=strategy, eval_steps=1
        )
        trainer.train()
        histories.append([line for line in trainer.state.log_history if "loss" in line])
    for one, other in zip(*histories, strict=True):
        del one["tokens_per_second"], other["tokens_per_second"]
        assert one == other


def test_tokens_are_counted_on_through_a_resumed_run(tmp_path):
    options = {"rows": random_rows(24), "save_strategy": "steps", "save_steps": 2}
    first = make_trainer(tmp_path, **options)
    first.train()
    second = make_trainer(tmp_path, **options)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert second.state.log_history[-2]["num_tokens"] == first.state.log_history[-2]["num_tokens"]


def test_every_metric_is_in_the_page(tmp_path):
    page = PAGE.read_text(encoding="utf-8").partition("## Of a policy")[0]  # the rest is not of reward models
    documented = set(re.findall(r"`([a-z_/]+)`", page))
    terms = {**REWARD_OBJECTIVES, **REWARD_REGULARIZERS}
    path = tmp_path / "metrics.jsonl"
    trainer = make_trainer(tmp_path, terms=[cls() for cls in terms.values()], evaluation=random_rows(3), eval_steps=3)
    trainer.add_callback(MetricsFile(path))
    trainer.train()
    trainer.evaluate()
    logged = {name for line in path.read_text().splitlines() for name in json.loads(line)}
    assert {f"loss/{term_name(cls())}" for cls in terms.values()} <= logged
    assert {name.removeprefix("eval_") for name in logged} <= documented
    # and the page names nothing that is never logged
    rows_of_page = re.findall(r"^\| ((?:`[a-z_/]+`(?:, )?)+) \|", page, re.MULTILINE)
    named = {name for cell in rows_of_page for name in re.findall(r"`([a-z_/]+)`", cell)}
    assert named <= logged
    assert len(named) >= 20


def test_a_tally_of_nothing():
    from trueup.train.step import Devices

    tally = Tally()
    assert tally.means(Devices()) == {}
    tally.add("mean_reward", torch.zeros(0))
    tally.add("max_reward", torch.zeros(0))
    tally.add("max_reward", torch.tensor([-3.0, -5.0]))
    tally.add("min_reward", torch.tensor([-3.0, -5.0]))
    found = tally.means(Devices())
    assert np.isnan(found["mean_reward"])
    assert (found["min_reward"], found["max_reward"]) == (-5.0, -3.0)


def test_tensorboard(tmp_path):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = make_trainer(tmp_path, report_to=["tensorboard"])
    trainer.train()
    (file,) = tmp_path.rglob("events.out.tfevents.*")
    events = loading.EventAccumulator(str(file.parent)).Reload()
    values = {event.step: event.value for event in events.Scalars("train/accuracy")}
    expected = {line["step"]: line["accuracy"] for line in trainer.state.log_history if "accuracy" in line}
    assert values == pytest.approx(expected)
