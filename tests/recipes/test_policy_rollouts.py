"""Which engine a recipe of train policy asks for."""

import sys

import pytest

from policies import fake_vllm
from tiny_policies import tiny_policy
from tiny_training import FORM, TOKENIZER
from trueup.errors import MissingExtraError, RecipeError
from trueup.models.policy_checkpoints import PolicyCheckpoint
from trueup.policies.server_engine import ServerCall, ServerEngine
from trueup.policies.vllm_engine import VllmEngine
from trueup.recipes.config import dump, load
from trueup.recipes.policy_rollouts import rollout_engine
from trueup.recipes.policy_settings import TrainPolicy

RECIPE = "model: m\noutput: o\ndata: {train: p}\nreward: r\nmax_new_tokens: 7\n"
SERVER = """rollouts:
  name: server
  url: http://localhost:8000
  folder: served
  renew: [{url: "http://localhost:8000/reload", body: {folder: "{folder}"}}]
"""
KNOWN = PolicyCheckpoint(tiny_policy(vocab_size=len(TOKENIZER)), TOKENIZER, FORM)


def recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE + text, encoding="utf-8")
    return load(TrainPolicy, config=path)


def test_the_policy_draws_itself_unless_told_otherwise(tmp_path):
    assert rollout_engine(recipe(tmp_path, ""), KNOWN, resumed=True) is None


def test_vllm(tmp_path, monkeypatch):
    fake_vllm.install(monkeypatch)
    engine = rollout_engine(recipe(tmp_path, "rollouts: {gpu_memory: 0.5}"), KNOWN, resumed=True)
    assert isinstance(engine, VllmEngine)
    assert (engine.settings.gpu_memory, engine.sampling.max_new_tokens) == (0.5, 7)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match="leave rollouts out"):
        rollout_engine(recipe(tmp_path, "rollouts: vllm"), KNOWN, resumed=False)


def test_a_server(tmp_path):
    asked = recipe(tmp_path, SERVER)
    engine = rollout_engine(asked, KNOWN, resumed=True)
    assert isinstance(engine, ServerEngine)
    assert engine.settings.renew == [ServerCall(url="http://localhost:8000/reload", body={"folder": "{folder}"})]
    (tmp_path / "again.yaml").write_text(dump(asked), encoding="utf-8")
    assert load(TrainPolicy, config=tmp_path / "again.yaml") == asked


def test_a_run_is_not_resumed_with_a_server_whose_weights_are_unknown(tmp_path):
    asked = recipe(tmp_path, "rollouts: {name: server, url: 'http://localhost:8000', stale_rollouts: 3}")
    assert isinstance(rollout_engine(asked, KNOWN, resumed=False), ServerEngine)
    with pytest.raises(RecipeError, match="cannot be given"):
        rollout_engine(asked, KNOWN, resumed=True)


@pytest.mark.parametrize("wrong", ["{gpu_memory: 2}", "vlm", "{name: server, url: 'http://h'}", "{memory: 0.3}"])
def test_what_cannot_be(tmp_path, wrong):
    with pytest.raises(RecipeError):
        recipe(tmp_path, f"rollouts: {wrong}")
