"""Several rewards as one, and the folder that holds them."""

import json

import numpy as np
import pytest

from tiny_models import make_checkpoint, make_tokenizer, save_base
from trueup.errors import CheckpointError, DataError, NonFiniteError, RecipeError
from trueup.rewards.aggregates import Mean, UncertaintyWeighted, WorstCase
from trueup.rewards.base import Reward
from trueup.rewards.ensemble import EnsembleReward, Standardization, standardize_on
from trueup.rewards.function import FunctionReward
from trueup.rewards.load import load_reward
from trueup.rewards.saved_ensemble import is_ensemble, load_ensemble, save_ensemble, store_standardization

PROMPTS, RESPONSES = ["a", "b"], [["one", "three", ""], ["seventeen"]]
FLAT = np.array([3.0, 5.0, 0.0, 9.0])


def linear(scale: float, shift: float, name: str = "member") -> FunctionReward:
    return FunctionReward(lambda prompts, completions: [scale * len(c) + shift for c in completions], name)


def test_scores_hold_what_they_are_made_of():
    ensemble = EnsembleReward(members=[linear(1, 0), linear(-1, 4), linear(0, 2)], aggregate=WorstCase())
    assert isinstance(ensemble, Reward)
    scores = ensemble.score(PROMPTS, RESPONSES)
    assert np.array_equal(scores.members, [FLAT, 4 - FLAT, np.full(4, 2.0)])
    assert scores.reward.tolist() == [1.0, -1.0, 0.0, -5.0]
    assert scores.prompt.tolist() == [0, 0, 0, 1]
    assert scores.length.tolist() == FLAT.tolist()
    assert scores.hidden is None
    assert scores.head is None
    assert [len(group) for group in scores.grouped()] == [3, 1]


def test_standardisation_makes_members_agree_that_differ_in_scale_alone():
    members = [linear(1, 0), linear(100, -40), linear(0.01, 3)]
    constants = standardize_on(members, PROMPTS, RESPONSES)
    assert constants.responses == 4
    assert constants.mean == pytest.approx([FLAT.mean(), 100 * FLAT.mean() - 40, 0.01 * FLAT.mean() + 3])
    assert constants.std == pytest.approx(FLAT.std() * np.array([1, 100, 0.01]))
    for aggregate in (Mean(), WorstCase(), UncertaintyWeighted(coefficient=3.0)):
        ensemble = EnsembleReward(members=members, aggregate=aggregate, standardization=constants)
        on_reference = ensemble.score(PROMPTS, RESPONSES)
        assert on_reference.members.mean(axis=1) == pytest.approx(np.zeros(3), abs=1e-9)
        assert on_reference.members.std(axis=1) == pytest.approx(np.ones(3), abs=1e-9)
        elsewhere = ensemble.score(["c"], [["twenty letters or so", "x"]])
        expected = (np.array([20.0, 1.0]) - FLAT.mean()) / FLAT.std()
        assert elsewhere.reward == pytest.approx(expected, abs=1e-9)
    plain = EnsembleReward(members=members, aggregate=WorstCase()).score(PROMPTS, RESPONSES)
    assert plain.reward.tolist() != on_reference.reward.tolist()


def test_reference_answers_that_show_no_scale():
    with pytest.raises(DataError, match="1 reference answers; expected at least two"):
        standardize_on([linear(1, 0)], ["a"], [["b"]])
    with pytest.raises(DataError, match="flat gives all 4 reference answers the same reward"):
        standardize_on([linear(1, 0), linear(0, 2, "flat")], PROMPTS, RESPONSES)
    with pytest.raises(DataError, match="the same reward"):
        standardize_on([linear(0, 0.1)], PROMPTS, RESPONSES)


def test_what_cannot_be_an_ensemble():
    with pytest.raises(RecipeError, match="at least one member"):
        EnsembleReward(members=[])
    constants = Standardization(mean=(0.0,), std=(1.0,), responses=3)
    with pytest.raises(RecipeError, match="for 1 members, there are 2"):
        EnsembleReward(members=[linear(1, 0), linear(2, 0)], standardization=constants)
    for std in (0.0, float("nan"), float("inf")):
        with pytest.raises(RecipeError, match="member 0 has mean"):
            Standardization(mean=(0.0,), std=(std,), responses=3)
    with pytest.raises(RecipeError, match="2 means and 1 standard"):
        Standardization(mean=(0.0, 0.0), std=(1.0,), responses=3)


def test_a_member_that_is_not_finite_is_named():
    class Broken:
        name = "judge"

        def score(self, prompts, responses):
            scores = linear(1, 0).score(prompts, responses)
            scores.reward[3] = np.nan
            return scores

    with pytest.raises(NonFiniteError, match="judge gives a reward of nan to a response in row 2"):
        EnsembleReward(members=[linear(1, 0), Broken()]).score(PROMPTS, RESPONSES)


def test_no_prompts_at_all():
    scores = EnsembleReward(members=[linear(1, 0), linear(2, 0)]).score([], [])
    assert scores.reward.shape == (0,)
    assert scores.members.shape == (2, 0)


@pytest.fixture(scope="module")
def two_models(tmp_path_factory):
    root = tmp_path_factory.mktemp("ensemble")
    for number in range(2):
        base = save_base(root / f"base-{number}", make_tokenizer(), initializer_range=0.2 + 0.1 * number)
        make_checkpoint(base, root / "whole" / "members" / str(number), kind="plain")
    return root / "whole"


def test_a_saved_ensemble_loads_as_one_reward_also_elsewhere(two_models, tmp_path):
    constants = Standardization(mean=(0.5, -1.0), std=(2.0, 0.25), responses=9)
    aggregate = UncertaintyWeighted(coefficient=0.1)
    members = [two_models / "members" / "0", two_models / "members" / "1"]
    save_ensemble(two_models, members=members, aggregate=aggregate, standardization=constants)
    saved = json.loads((two_models / "ensemble.json").read_text())
    assert saved["members"] == ["members/0", "members/1"]
    assert saved["aggregate"] == {"name": "uwo", "coefficient": 0.1}
    moved = two_models.rename(tmp_path / "moved")
    try:
        reward = load_reward(f"mine={moved}")
        assert reward.name == "mine"
        alone = [load_reward(str(moved / "members" / str(i))) for i in range(2)]
        rewards = [one.score(PROMPTS, RESPONSES).reward for one in alone]
        expected = np.stack([(rewards[0] - 0.5) / 2, (rewards[1] + 1) / 0.25])
        scores = reward.score(PROMPTS, RESPONSES)
        assert np.array_equal(scores.members, expected)
        assert np.array_equal(scores.reward, aggregate(expected))
    finally:
        moved.rename(two_models)


def test_a_run_directory_s_ensemble_and_one_of_references(two_models, tmp_path, monkeypatch):
    """Members outside the folder are found from any working directory."""
    (tmp_path / "rewards_of_ensemble.py").write_text(
        "def f(prompts, completions):\n    return [float(len(text)) for text in completions]\n"
    )
    monkeypatch.chdir(tmp_path)
    outside = tmp_path / "other"
    make_checkpoint(save_base(tmp_path / "base", make_tokenizer()), outside, kind="plain")
    save_ensemble(tmp_path / "run" / "model", members=["rewards_of_ensemble:f", "other"], aggregate=WorstCase())
    (tmp_path / "elsewhere").mkdir()
    reward = load_reward(str(tmp_path / "run"))
    assert reward.name == "run"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    reward = load_reward(str(tmp_path / "run"))
    scores = reward.score(PROMPTS, RESPONSES)
    assert scores.members[0].tolist() == FLAT.tolist()
    assert np.array_equal(scores.members[1], load_reward(str(outside)).score(PROMPTS, RESPONSES).reward)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(RecipeError, match="at least one member"):
        save_ensemble(tmp_path, members=[], aggregate=Mean())
    constants = Standardization(mean=(0.0,), std=(1.0,), responses=3)
    with pytest.raises(RecipeError, match="for 1 members, there are 2"):
        save_ensemble(tmp_path, members=["a", "b"], aggregate=Mean(), standardization=constants)
    assert not is_ensemble(tmp_path)


def test_constants_are_stored_in_a_saved_ensemble(two_models, tmp_path):
    members = [two_models / "members" / "0", two_models / "members" / "1"]
    save_ensemble(tmp_path / "e", members=members, aggregate=WorstCase())
    plain = load_reward(str(tmp_path / "e")).score(PROMPTS, RESPONSES)
    constants = Standardization.measured_on(plain.members)
    store_standardization(tmp_path / "e", constants)
    scores = load_reward(str(tmp_path / "e")).score(PROMPTS, RESPONSES)
    assert np.array_equal(scores.members, constants(plain.members))
    assert np.array_equal(scores.reward, scores.members.min(axis=0))
    with pytest.raises(CheckpointError, match="has 2 members, the constants are for 1"):
        store_standardization(tmp_path / "e", Standardization(mean=(0.0,), std=(1.0,), responses=2))
    with pytest.raises(CheckpointError, match="has 1 members, the constants are for 2"):
        store_standardization(members[0], constants)
    with pytest.raises(DataError, match="judge gives all 3"):
        Standardization.measured_on(np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]), names=["model", "judge"])


GOOD = {"format": "trueup.ensemble/1", "aggregate": {"name": "mean"}, "members": ["m:f"], "standardization": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "trueup.ensemble/9"}, "expected 'trueup.ensemble/1'"),
        ({"aggregate": {"name": "median"}}, "expected a name, one of mean, wco, uwo"),
        ({"aggregate": {"name": "uwo", "coefficient": -1}}, "coefficient must be"),
        ({"members": []}, "expected folders or names"),
        ({"members": "m:f"}, "expected folders or names"),
        ({"members": [3]}, "expected folders or names"),
        ({"members": ["."]}, "names itself"),
        ({"standardization": {}}, "expected mean, std and responses"),
        ({"standardization": {"mean": [0.0], "std": [0.0], "responses": 2}}, "member 0 has mean"),
        ({"standardization": {"mean": [0.0], "std": ["a"], "responses": 2}}, "expected mean, std and responses"),
        ({"standardization": {"mean": [0.0] * 2, "std": [1.0] * 2, "responses": 2}}, "for 2 members, there are 1"),
    ],
)
def test_damaged_files(change, words, tmp_path):
    (tmp_path / "ensemble.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(CheckpointError, match=r"ensemble\.json: not as we write it") as caught:
        load_ensemble(tmp_path, load=lambda name: linear(1, 0))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_no_json_and_members_that_are_missing(tmp_path):
    (tmp_path / "ensemble.json").write_text("{")
    with pytest.raises(CheckpointError, match="not as we write it"):
        load_reward(str(tmp_path))
    (tmp_path / "ensemble.json").write_text(json.dumps(GOOD | {"members": ["./members/3"]}))
    with pytest.raises(CheckpointError, match=r"a member cannot be loaded: \./members/3: there is no such folder"):
        load_reward(str(tmp_path))
