"""`trueup train sft --method ift`: from the command line to a policy."""

import json

import pytest
import yaml

from tiny_models import make_tokenizer, save_base
from trueup.cli import main
from trueup.errors import RecipeError
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.objectives import IFT, IFTPaper, NegativeLogLikelihood
from trueup.recipes.config import load
from trueup.recipes.train_sft import TrainSft

FRUITS = ("apples", "pears", "plums")


@pytest.fixture
def words(monkeypatch, tmp_path):
    """The command line of a short run."""
    monkeypatch.setenv("TRUEUP_CACHE", str(tmp_path / "cache"))
    base = save_base(tmp_path / "base", make_tokenizer(bos="<s>", pad="<pad>"))
    lines = [json.dumps({"prompt": f"Fruit {i}:", "completion": f" {FRUITS[i % 3]}"}) for i in range(12)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = ["train", "sft", "--model", base, "--output", tmp_path / "run", "--data.train", tmp_path / "train.jsonl"]
    found += ["--data.max_length", 24, "--batch_size", 6, "--epochs", 4, "--learning_rate", 1e-2, "--logging_steps", 1]
    return [str(word) for word in found]


def test_it_learns_by_the_method_that_is_named(words, tmp_path):
    assert main([*words, "--method", "ift", "--method.mix", "0.3", "--data.eval", str(tmp_path / "train.jsonl")]) == 0
    told = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert told["method"] == {"name": "ift", "mix": 0.3, "gamma": 0.95, "detach": False}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss/ift"] for line in lines if "loss/ift" in line]
    assert len(losses) == 8
    assert losses[-1] < 0.6 * losses[0]
    assert [line["eval_loss"] for line in lines if "eval_loss" in line][-1] < losses[0]
    assert (tmp_path / "run" / "report.html").is_file()
    assert load_policy_checkpoint(tmp_path / "run" / "model").provenance["recipe"]["method"]["name"] == "ift"


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ([], NegativeLogLikelihood()),
        (["--method", "sft"], NegativeLogLikelihood()),
        (["--method", "ift_paper", "--method.decay", "0.95"], IFTPaper(decay=0.95)),
        (["--method.name", "ift", "--method.detach", "true"], IFT(detach=True)),
    ],
)
def test_methods_by_name(method, expected):
    known = ["--model", "m", "--output", "o", "--data.train", "d"]
    assert load(TrainSft, overrides=[*known, *method]).method == expected


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (["--method", "itf"], "did you mean `ift`"),
        (["--method", "none"], "method must be one of sft, ift, ift_paper, got none"),
        (["--method", "ift", "--method.mix", "1.5"], r"mix must lie in \[0, 1\], got 1.5"),
        (["--method.mix", "0.1"], "sft has no setting 'mix'"),
    ],
)
def test_what_is_no_method_is_refused(method, said):
    known = ["--model", "m", "--output", "o", "--data.train", "d"]
    with pytest.raises(RecipeError, match=said):
        load(TrainSft, overrides=[*known, *method])
