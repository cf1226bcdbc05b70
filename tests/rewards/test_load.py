import sys

import pytest

from tiny_models import make_checkpoint, make_tokenizer, save_base
from trueup.errors import CheckpointError, RecipeError
from trueup.rewards.function import FunctionReward
from trueup.rewards.load import load_reward


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    base = save_base(root / "base", make_tokenizer())
    make_checkpoint(base, root / "lr=1" / "model", kind="plain")
    return root / "lr=1"


@pytest.mark.parametrize("form", ["{run}", "{run}/model", "mine={run}", "mine={run}/model"])
def test_a_run_or_its_model_with_or_without_a_label(run, form):
    """A path may hold an equals sign itself."""
    reward = load_reward(form.format(run=run))
    assert reward.name == ("mine" if form.startswith("mine=") else (run / "model" if "model" in form else run).name)
    assert reward.score(["a"], [["b", "c"]]).reward.shape == (2,)


def test_a_function_by_name(tmp_path, monkeypatch):
    (tmp_path / "rewards_to_load.py").write_text(
        "def f(prompts, completions):\n    return [2.0 for _ in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_reward("rewards_to_load:f").name == "f"
    labelled = load_reward("two=rewards_to_load:f")
    assert isinstance(labelled, FunctionReward)
    assert labelled.name == "two"
    assert labelled.score(["p"], [["a"]]).reward.tolist() == [2.0]
    sys.modules.pop("rewards_to_load")
    with pytest.raises(RecipeError, match="cannot be imported"):
        load_reward("no_such_module_at_all:f")


def test_a_place_where_nothing_is(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere: there is no such folder"):
        load_reward(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"there is no such folder"):
        load_reward("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: no reward model could be loaded"):
        load_reward(str(tmp_path / "empty"))
