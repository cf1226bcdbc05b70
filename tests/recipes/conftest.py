"""What tests of recipes share."""

import json
from pathlib import Path

import pytest

from small_policy_runs import LENGTH, SHORTNESS, prompts
from tiny_models import make_tokenizer, save_base
from trueup.cli import main


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), make_tokenizer(bos="<s>", pad="<pad>"))


@pytest.fixture(scope="module")
def done(base, tmp_path_factory) -> Path:
    """A finished run from the command line; nobody may change it."""
    folder = tmp_path_factory.mktemp("policy")
    train = Path(prompts(folder / "train.jsonl", 20))
    with train.open("a") as handle:
        handle.write(json.dumps({"prompt": "How long? " * 20}) + "\n")
    held_out = prompts(folder / "watch.jsonl", 5, first=50)
    words = ["train", "policy", "--model", base, "--output", folder / "run", "--data.train", train]
    words += ["--data.max_prompt_tokens", 30, "--reward", LENGTH, "--epochs", 2, "--batch_size", 4, "--samples", 4]
    words += ["--max_new_tokens", 8, "--learning_rate", 1e-2, "--logging_steps", 1, "--watch.prompts", held_out]
    words += ["--watch.gold", SHORTNESS, "--watch.every", 5]
    words += ["--regularizers", "[{name: entropy, coefficient: 0.01}]"]
    assert main([str(word) for word in words]) == 0
    return folder / "run"
