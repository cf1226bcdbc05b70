"""Examples run as they stand, on less data."""

import importlib.util
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_first_reward_model(tmp_path):
    summary = load("first_reward_model").main(tmp_path, prompts=64)
    assert "orders" in summary or "guessing" in summary or "prefers" in summary
    assert (tmp_path / "audit" / "report.html").is_file()
    assert (tmp_path / "run" / "model" / "README.md").is_file()
