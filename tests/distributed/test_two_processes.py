"""One process and two make the same run: weights, logs, evaluation, checkpoints, resumption.

Two processes either hold the whole model each (DDP) or half of it (FSDP2); both over gloo.
"""

import json
from pathlib import Path

import pytest
import torch
import worker
from transformers import AutoModelForSequenceClassification

from tiny_training import largest_difference
from two_processes import run_in_two

HERE = Path(__file__).resolve().parent
WORKER = worker
pytestmark = pytest.mark.slow
CHANGING = ("runtime", "per_second", "padding_share")


@pytest.fixture(scope="module", params=["worker.py", "sharded_worker.py"], ids=["ddp", "fsdp2"])
def together(request, tmp_path_factory):
    """Folder of the run in two processes."""
    return run_in_two(HERE / request.param, tmp_path_factory.mktemp("together"))


def read(folder: Path, name: str, rank: int = 0):
    return torch.load(folder / f"{name}-{rank}.pt"), json.loads((folder / f"{name}-{rank}.json").read_text())


def untimed(logs: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in logs.items() if not any(word in name for word in CHANGING)}


@pytest.mark.parametrize("name", worker.SCENARIOS)
def test_same_weights(alone, together, name):
    expected, _ = read(alone, name)
    whole = [weights for rank in (0, 1) if (weights := read(together, name, rank)[0])]
    assert len(whole) == (1 if is_sharded(together) else 2)
    for found in whole:
        assert largest_difference(found, expected) < 1e-10


def is_sharded(folder: Path) -> bool:
    """Whether the run really was one of FSDP2, by what its checkpoints hold."""
    return (folder / "resumed" / "checkpoint-3" / "pytorch_model_fsdp_0").is_dir()


def test_both_ways_of_using_two_processes_ran(request, together):
    assert is_sharded(together) is ("fsdp2" in request.node.name)


def test_the_devices_have_unequal_work(together):
    """The scenario is the hard one: devices hold different rows, and one has none left in some passes."""
    plans = [read(together, "straight", rank)[1]["parts"] for rank in (0, 1)]
    assert all(len(a) == len(b) for a, b in zip(*plans, strict=True))
    assert any(a != b for a, b in zip(*plans, strict=True))
    assert any(0 in part for plan in plans for part in plan)
    assert any(len(part) > 1 for plan in plans for part in plan)


@pytest.mark.parametrize("name", worker.SCENARIOS)
def test_same_logs(alone, together, name):
    expected = read(alone, name)[1]["logs"]
    for rank in (0, 1):
        found = read(together, name, rank)[1]["logs"]
        assert len(found) == len(expected)
        for line, wanted in zip(found, expected, strict=True):
            # Sharing a step out changes how it is packed, and nothing else.
            line, wanted = untimed(line), untimed(wanted)
            assert line == pytest.approx(wanted, abs=1e-6), line


def test_same_evaluation(alone, together):
    expected = read(alone, "straight")[1]["eval"]
    for rank in (0, 1):
        found = read(together, "straight", rank)[1]["eval"]
        assert untimed(found) == pytest.approx(untimed(expected), abs=1e-10)


def test_resuming_changes_nothing(together):
    straight, resumed = read(together, "straight")[0], read(together, "resumed")[0]
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_checkpoints_are_whole_and_written_once(together):
    folder = together / "resumed"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    files = {path.name for path in (folder / "checkpoint-3").iterdir()}
    optimizer = "optimizer_0" if is_sharded(together) else "optimizer.pt"
    assert {"model.safetensors", "trueup.json", "trainer_state.json", optimizer, "rng_state_1.pth"} <= files


def test_a_checkpoint_is_an_ordinary_model(together):
    """Plain transformers loads it, sharded or not, and finds every weight as it was."""
    place = together / "resumed" / "checkpoint-3"
    model, info = AutoModelForSequenceClassification.from_pretrained(place, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = {name.removeprefix("pretrained."): value for name, value in read(together, "resumed")[0].items()}
    assert largest_difference(dict(model.state_dict()), expected) < 1e-7


def test_the_best_weights_come_back_on_every_device(alone, together):
    for folder, world in ((alone, 1), (together, 2)):
        for rank in range(world):
            _, result = read(folder, "best", rank)
            assert result["best"] == str(folder / "best" / "checkpoint-1")
            assert result["eval"]["eval_loss"] == pytest.approx(result["best_loss"], abs=1e-12)
            losses = [line["eval_loss"] for line in result["logs"] if "eval_loss" in line]
            assert losses[1] > losses[0]
