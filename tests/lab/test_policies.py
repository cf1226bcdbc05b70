"""Scale policies: made once for each plan, whole or not at all, and measured on prompts they have not seen."""

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from trueup.cli import main
from trueup.lab import policies
from trueup.lab.fitting import Fit
from trueup.lab.policies import FAMILIES, WRITERS, PolicyPlan, build_policy, load_scale_policy, measure_quality
from trueup.lab.scale_models import Shape
from trueup.lab.world import World, parse_prompt
from trueup.lab.world.grammar import Grammar
from trueup.models.generation import Sampling
from trueup.policies.base import Sample

from .conftest import POLICY

OTHERS = {
    "world": 1,
    "prompts": 81,
    "responses": 2,
    "families": FAMILIES[:2],
    "writers": WRITERS[:2],
    "shape": replace(POLICY.shape, width=32),
    "fit": replace(POLICY.fit, epochs=2.0),
    "seed": 1,
}


def no_training(*args, **options):
    raise AssertionError("this trains")


@pytest.fixture(scope="module")
def built(lab) -> Path:
    return build_policy(POLICY, folder=lab / "policies")


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_policy_is_an_ordinary_model_of_its_shape(built):
    model = AutoModelForCausalLM.from_pretrained(built)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (16, 1)
    side = json.loads((built / "trueup.json").read_text())
    assert PolicyPlan(**plan_of(side["plan"])) == POLICY
    quality = json.loads((built / "quality.json").read_text())
    assert quality["parameters"] == model.num_parameters()


def plan_of(record: dict) -> dict:
    known = record | {"shape": Shape(**record["shape"]), "fit": Fit(**record["fit"])}
    return known | {name: tuple(record[name]) for name in ("families", "writers")}


def test_the_same_plan_is_not_trained_again(built, lab, monkeypatch):
    monkeypatch.setattr(policies, "fit_policy", no_training)
    assert build_policy(POLICY, folder=lab / "policies") == built
    with pytest.raises(AssertionError, match="this trains"):
        build_policy(replace(POLICY, seed=7), folder=lab / "policies")


def test_every_setting_is_part_of_the_name():
    assert OTHERS.keys() == {field.name for field in fields(PolicyPlan)}
    keys = {replace(POLICY, **{name: value}).key for name, value in OTHERS.items()}
    assert len(keys | {POLICY.key}) == len(OTHERS) + 1
    assert replace(POLICY).key == POLICY.key


def test_what_lacks_its_quality_is_made_again_to_the_same_weights(built, tmp_path):
    """As after a kill; the same plan gives the same policy, bit for bit."""
    half = tmp_path / POLICY.key
    half.mkdir()
    (half / "config.json").write_text("{}")
    again = build_policy(POLICY, folder=tmp_path)
    assert again == half
    assert weights(again) == weights(built)
    assert (again / "quality.json").read_text() == (built / "quality.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == [POLICY.key]


def test_a_build_that_fails_leaves_nothing_and_touches_no_other(tmp_path, monkeypatch):
    """Several processes build their own policies in one folder at the same time."""
    beside = tmp_path / ".partial-of-another-process"
    beside.mkdir()
    monkeypatch.setattr(policies, "fit_policy", no_training)
    with pytest.raises(AssertionError, match="this trains"):
        build_policy(POLICY, folder=tmp_path)
    assert list(tmp_path.iterdir()) == [beside]


def test_demonstrations_are_the_plan_s_alone():
    plan = replace(POLICY, families=FAMILIES[:2], writers=WRITERS[:2], responses=2, world=3, seed=5)
    rows = plan.rows()
    assert len(rows) == plan.prompts
    assert {row.subset for row in rows} == set(plan.families)
    assert {one.source for row in rows for one in row.responses} == set(plan.writers)
    assert all(len(row.responses) == 2 for row in rows)
    assert rows == plan.rows()
    assert rows != replace(plan, seed=6).rows()
    assert "arithmetic" not in FAMILIES
    assert "off_topic" not in WRITERS


def test_quality_is_measured_on_prompts_that_training_has_not_seen():
    """Answers of a writer in the place of a policy's, so that every number can be made by hand."""
    world, asked = World(0), []
    policy, plan = silent_policy(), replace(POLICY, prompts=2000)

    def sample(prompts, count, *, seed):
        asked.extend(prompts)
        rows = world.answer([parse_prompt(text) for text in prompts], responses=count, writers=("terse",))
        return [
            [Sample(text=one.text, tokens=n + 1, finished=n == 0) for n, one in enumerate(row.responses)]
            for row in rows
        ]

    policy.sample = sample
    found = measure_quality(policy, plan, prompts=30, samples=2)
    trained = {row.prompt[0].content for row in plan.rows()}
    assert len(set(asked)) == 30
    assert not trained & set(asked)
    usual = {one.text for one in world.prompts(30, families=FAMILIES, seed=policies._TEST_SEED)}
    assert trained & usual  # the check can fail
    answers = sample(asked[:30], 2, seed=0)
    gold = np.array([[world.gold(p, one.text) for one in own] for p, own in zip(asked[:30], answers, strict=True)])
    assert found["gold_mean"] == pytest.approx(gold.mean())
    assert found["gold_std"] == pytest.approx(gold.std())
    assert found["gold_std_within_prompt"] == pytest.approx(gold.std(axis=1).mean())
    texts = [one.text for own in answers for one in own]
    assert found["grammatical_sentences"] == Grammar.of_world(world).rate(texts) > 0.9
    assert (found["ended"], found["mean_tokens"]) == (0.5, 1.5)
    assert (found["prompts"], found["samples"]) == (30, 2)


def silent_policy() -> SimpleNamespace:
    """A policy without a model; `sample` is put into it."""
    checkpoint = SimpleNamespace(model=torch.nn.Linear(2, 3))
    return SimpleNamespace(checkpoint=checkpoint, sampling=Sampling(max_new_tokens=64))


def test_a_loaded_policy_answers_as_it_is_asked_in_training(built):
    policy = load_scale_policy(built, max_new_tokens=5)
    assert (policy.sampling.temperature, policy.sampling.max_new_tokens) == (1.0, 5)
    assert policy.checkpoint.form.kind == "chat"
    samples = policy.sample(["What is a pear?"], 3, seed=0)[0]
    assert [one.tokens <= 5 for one in samples] == [True] * 3


# The verb


def words(folder: Path, *more: object) -> list[str]:
    sizes = ["--prompts", 60, "--responses", 1, "--width", 16, "--layers", 1, "--epochs", 1, "--threads", 1]
    return [str(word) for word in ("lab", "build", "--output", folder, *sizes, *more)]


def test_the_verb_builds_once_and_says_how_good(tmp_path, capsys, monkeypatch):
    threads = torch.get_num_threads()
    assert main(words(tmp_path)) == 0
    first = capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    assert f"policy: {folder}" in first
    quality = json.loads((folder / "quality.json").read_text())
    assert f"{quality['parameters']:,} parameters" in first
    assert f"gold {quality['gold_mean']:.2f}" in first
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(policies, "fit_policy", no_training)
    assert main(words(tmp_path)) == 0
    assert f"policy: {folder}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--width", 18), "width must be a multiple of 4, got 18"),
        (("--epochs", 0), "epochs and learning_rate must be positive"),
        (("--prompts", 0), "prompts must be"),
        (("--layer", 2), "unknown field `--layer`"),
    ],
)
def test_what_the_verb_cannot_do_is_one_message(more, said, tmp_path, capsys):
    assert main(words(tmp_path / "out", *more)) == 2
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trueup: ")]
    assert len(messages) == 1
    assert said in messages[0]
    assert not (tmp_path / "out").exists()
