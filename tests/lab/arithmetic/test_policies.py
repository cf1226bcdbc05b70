"""Policies of arithmetic: made once for each plan, and measured on problems that they have not seen."""

import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from trueup.lab.arithmetic import characters
from trueup.lab.arithmetic.policies import (
    MAX_NEW_TOKENS,
    ArithmeticPlan,
    build_arithmetic_policy,
    load_arithmetic_policy,
    measure_quality,
)
from trueup.lab.arithmetic.problems import WAYS, every_problem, read_problem, work
from trueup.policies.base import Sample

from ..test_offline_runs import TINY

OTHERS = {
    "problems": 41,
    "responses": 1,
    "slip": 0.3,
    "shape": replace(TINY.shape, width=32),
    "fit": replace(TINY.fit, epochs=3.0),
    "seed": 1,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("arithmetic")


@pytest.fixture(scope="module")
def built(home) -> Path:
    return build_arithmetic_policy(TINY, folder=home)


def test_every_setting_is_part_of_the_name():
    assert OTHERS.keys() == {field.name for field in fields(ArithmeticPlan)}
    assert len({TINY.key, *(replace(TINY, **{name: value}).key for name, value in OTHERS.items())}) == len(OTHERS) + 1


def test_a_policy_is_an_ordinary_model_and_made_once(built, home, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(built)
    quality = json.loads((built / "quality.json").read_text())
    assert quality["parameters"] == model.num_parameters()
    assert json.loads((built / "trueup.json").read_text())["plan"]["problems"] == TINY.problems

    def no_training(*args, **options):
        raise AssertionError("this trains")

    monkeypatch.setattr(characters, "fit_policy", no_training)
    assert build_arithmetic_policy(TINY, folder=home) == built
    with pytest.raises(AssertionError, match="this trains"):
        build_arithmetic_policy(replace(TINY, seed=9), folder=home)
    assert [path.name for path in home.iterdir()] == [TINY.key]


def test_the_default_is_small():
    """A tenth to three tenths of a million parameters, counted by hand for the Llama shape."""
    shape, tokens = ArithmeticPlan().shape, 14 + 4
    inner = 192
    layer = 4 * shape.width**2 + 3 * shape.width * inner + 2 * shape.width
    count = 2 * tokens * shape.width + shape.layers * layer + shape.width
    assert 1e5 < count < 3e5


def test_the_longest_working_fits():
    """With an end, and a mistake that makes each number a digit longer."""
    generator = np.random.default_rng(0)
    texts = [work(problem, way, slip=0.0, generator=generator) for problem in every_problem()[::7] for way in WAYS]
    assert max(map(len, texts)) + 4 <= MAX_NEW_TOKENS


def test_other_problems_are_unseen():
    seen = {row.prompt for row in TINY.rows()}
    others = TINY.other_problems(len(every_problem()) - TINY.problems, seed=1)
    assert len(seen) == TINY.problems
    assert not seen & {one.text for one in others}


def test_quality_by_hand():
    """A policy whose first half of samples is right, ended, and of one nat a token."""

    def sample(prompts, count, *, seed):
        right = [str(read_problem(prompt).answer) for prompt in prompts]
        return [
            [Sample(text=text if k < count / 2 else text + ",", tokens=3, finished=k > 0, logprob=-3.0)
             for k in range(count)] for text in right
        ]  # fmt: skip

    policy = SimpleNamespace(checkpoint=SimpleNamespace(model=torch.nn.Linear(2, 3)), sample=sample)
    found = measure_quality(policy, TINY, problems=10, samples=4)
    assert found == {
        "parameters": 9, "pass@1": 0.25, "solved_once": 1.0, "entropy": 3.0, "different": 0.5, "ended": 0.75,
        "mean_tokens": 3.0, "problems": 10, "samples": 4,
    }  # fmt: skip


def test_a_loaded_policy_stops_where_workings_do(built):
    policy = load_arithmetic_policy(built, temperature=0.5)
    assert (policy.sampling.temperature, policy.sampling.max_new_tokens) == (0.5, MAX_NEW_TOKENS)
    assert policy.checkpoint.form.kind == "plain"
    assert all(one.tokens <= MAX_NEW_TOKENS for one in policy.sample(["12+34="], 5, seed=0)[0])
