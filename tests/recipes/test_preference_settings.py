"""Recipes of `trueup train preference`: what survives the file, and what is refused in one clear message."""

import pytest

from run_files import write
from trueup.cli import main
from trueup.objectives import PREFERENCE_OBJECTIVES
from trueup.objectives.policy.regularizers.entropy_bonus import EntropyBonus
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.supervised.chosen import ChosenLikelihood
from trueup.recipes.config import dump, load
from trueup.recipes.preference_settings import TrainPreference

PAIRS = [{"prompt": f"Fruit {i}:", "chosen": " plums", "rejected": " pears"} for i in range(4)]
MINIMAL = ["--model", "m", "--output", "o", "--data.train", "d"]


@pytest.mark.parametrize("name", PREFERENCE_OBJECTIVES)
def test_a_method_survives_the_file(name, tmp_path):
    words = ["--method", name, *(["--reward", "r"] if name == "modpo" else [])]
    found = load(TrainPreference, overrides=[*MINIMAL, *words])
    assert found.method == PREFERENCE_OBJECTIVES[name]()
    (tmp_path / "r.yaml").write_text(dump(found))
    assert load(TrainPreference, config=tmp_path / "r.yaml") == found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("[{name: sft, coefficient: 0.2}, entropy]", [ChosenLikelihood(coefficient=0.2), EntropyBonus()]),
        ("sft", [ChosenLikelihood()]),
        ("{coefficient: 0.5}", [ChosenLikelihood(coefficient=0.5)]),
        ("none", []),
    ],
)
def test_terms_are_a_list_of_choices(words, expected, tmp_path):
    found = load(TrainPreference, overrides=[*MINIMAL, "--regularizers", words])
    assert found.regularizers == expected
    assert found.terms == (DPO(), *expected)
    (tmp_path / "r.yaml").write_text(dump(found))
    assert load(TrainPreference, config=tmp_path / "r.yaml") == found


def test_weights_of_several_objectives():
    def found(*words):
        return load(
            TrainPreference, overrides=[*MINIMAL, "--method", "modpo", "--method.weight", "0.5", *words]
        ).weights

    assert found("--reward", "r") == [0.5]
    assert found("--reward.a", "x", "--reward.b", "y", "--reward_weights", "[0.25, 0.25]") == [0.25, 0.25]


WRONG = {
    "no usable rows": (
        [{"prompt": "a", "chosen": "b", "rejected": "b"}], {},
        ["train.jsonl: zero usable rows (1 identical responses)", "at least two different responses"],
    ),
    "labels all one way": (
        [{"prompt": "a", "responses": [{"text": "b", "label": True}, {"text": "c", "label": True}]}], {},
        ["train.jsonl: zero usable rows (1 no preference)"],
    ),
    "all too long": (
        [{"prompt": "How long? " * 20, "chosen": " No", "rejected": " Yes"}], {},
        ["train.jsonl: zero usable rows of 1: 1 too long", "raise data.max_length (24)"],
    ),
    "a missing file to watch": (None, {"data.eval": "nowhere.jsonl"}, ["nowhere.jsonl: no such file or folder"]),
    "an unknown method": (None, {"method": "dop"}, ["unknown name 'dop'; did you mean `dpo`?"]),
    "no method": (None, {"method": "none"}, ["method must be one of dpo, ipo"]),
    "an unknown setting": (None, {"method": "{name: dpo, gamma: 1}"}, ["dpo has no setting 'gamma'"]),
    "a term of own samples": (None, {"regularizers": "reverse_kl"}, ["unknown name 'reverse_kl'; known: entropy, sft"]),
    "a missing reference": (None, {"reference": "./nowhere"}, ["./nowhere: there is no such folder"]),
    "a reference for nothing": (None, {"method": "simpo", "reference": "x"}, ["leave out reference"]),
    "rewards for nothing": (None, {"reward": "x"}, ["DPO and reward do not go together; leave out reward"]),
    "rewards that lack": (None, {"method": "modpo"}, ["name the other objectives' rewards as --reward PLACE"]),
    "weights that do not sum to one": (
        None, {"method": "modpo", "reward": "x", "reward_weights": "[0.7]"},
        ["the weights [0.5, 0.7] of all objectives sum to 1.2, not to 1; divide them by their sum"],
    ),
    "weights that lack": (
        None, {"method": "modpo", "reward": "[a=x, b=y]"}, ["0 reward_weights for 2 rewards; give each reward one"],
    ),
    "rankings": (None, {"data.pairs": "listwise"}, ["data.pairs"]),
    "too many flips": (None, {"data.flip": "1.5"}, ["flip must be in [0, 1], got 1.5"]),
    "an adapter from scratch": (None, {"lora.rank": "2", "from_scratch": "true"}, ["leave out lora or from_scratch"]),
    "patience without eyes": (None, {"patience": "2"}, ["patience needs data.eval"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_one_clear_message(name, base, tmp_path, capsys):
    records, changes, fragments = WRONG[name]
    train = write(tmp_path / "train.jsonl", records or PAIRS)
    fields = {"model": str(base), "output": str(tmp_path / "run"), "data.train": str(train), "data.max_length": "24"}
    words = [word for field, value in (fields | changes).items() for word in (f"--{field}", value)]
    assert main(["train", "preference", *words]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trueup: ")]
    assert len(said) == 1, said
    for fragment in fragments:
        assert fragment in said[0]
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
