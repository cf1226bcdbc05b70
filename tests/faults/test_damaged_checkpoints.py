"""Every file of a checkpoint, cut short, missing, or full of rubbish: one clear message, and nothing else happens."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from .conftest import Workshop
from .processes import assert_refused, run


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def rubbish(path: Path) -> None:
    path.write_bytes(b"\x00\xff rubbish \xfe" * 50)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def list_of_numbers(path: Path) -> None:
    path.write_text("[1, 2, 3]")


def empty_object(path: Path) -> None:
    path.write_text("{}")


def bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def without_head(path: Path) -> None:
    save_file({n: t for n, t in load_file(path).items() if "score" not in n}, path, metadata={"format": "pt"})


def with_two_outputs(path: Path) -> None:
    config = json.loads(path.read_text())
    config["id2label"], config["label2id"] = {"0": "a", "1": "b"}, {"a": 0, "b": 1}
    path.write_text(json.dumps(config))


def of_another_width(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 48}))


def of_no_known_kind(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "martian"}))


def with_unknown_format_field(path: Path) -> None:
    side = json.loads(path.read_text())
    path.write_text(json.dumps({**side, "text_format": {**side["text_format"], "martian": 1}}))


def gone(path: Path) -> None:
    path.unlink()


Damage = Callable[[Path], None]
BINARY: list[Damage] = [cut_short, rubbish, emptied, gone]
TEXT: list[Damage] = [cut_short, rubbish, emptied, list_of_numbers]
FOR_SCORING = [
    *[("model.safetensors", damage) for damage in [*BINARY, without_head]],
    *[
        ("config.json", damage)
        for damage in [*TEXT, empty_object, with_two_outputs, of_another_width, of_no_known_kind]
    ],
    *[("tokenizer.json", damage) for damage in [*TEXT, gone, empty_object]],
    *[("tokenizer_config.json", damage) for damage in TEXT],
    *[("trueup.json", damage) for damage in [*TEXT, with_unknown_format_field]],
]
FOR_RESUMING = [
    *[("model.safetensors", damage) for damage in [*BINARY, without_head]],
    *[("optimizer.pt", damage) for damage in [*BINARY, bit_flipped]],
    *[("scheduler.pt", damage) for damage in BINARY],
    *[("rng_state.pth", damage) for damage in BINARY],
    *[("trainer_state.json", damage) for damage in [*TEXT, gone, empty_object]],
    *[("trueup.json", damage) for damage in [*TEXT, gone, empty_object]],
]


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(cases: list[tuple[str, Damage]]) -> list[str]:
    return [f"{file}-{damage.__name__}" for file, damage in cases]


@pytest.mark.parametrize(("file", "damage"), FOR_SCORING, ids=names(FOR_SCORING))
def test_score_and_audit_refuse(workshop: Workshop, finished: Path, tmp_path: Path, file: str, damage: Damage) -> None:
    shutil.copytree(finished / "model", tmp_path / "model")
    damage(tmp_path / "model" / file)
    output = tmp_path / "scores.jsonl"
    output.write_text("earlier result")
    outcome = run("score", "--model", tmp_path / "model", "--data", workshop.data, "--output", output, "--limit", 4)
    assert_refused(outcome, tmp_path / "model")
    assert output.read_text() == "earlier result"
    outcome = run("audit", "reward", tmp_path / "model", "--data", workshop.data, "--output", tmp_path / "audit")
    assert_refused(outcome, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "scores.jsonl"]


@pytest.mark.parametrize(("file", "damage"), FOR_RESUMING, ids=names(FOR_RESUMING))
def test_resume_refuses(workshop: Workshop, finished: Path, tmp_path: Path, file: str, damage: Damage) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    damage(output / "checkpoint-24" / file)
    before = listing(output)
    cure = "do not fit" if damage is without_head else "delete this checkpoint to resume from an earlier one"
    assert_refused(run(*workshop.training(output, "--resume")), output / "checkpoint-24", cure)
    assert listing(output) == before


def test_after_the_cure_the_run_goes_on(workshop: Workshop, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    shutil.rmtree(output / "checkpoint-24")
    shutil.rmtree(output / "model")
    (output / "checkpoint-not-a-number").mkdir()
    assert run(*workshop.training(output, "--resume")).code == 0
    assert (output / "model" / "model.safetensors").read_bytes() == (finished / "model/model.safetensors").read_bytes()


@pytest.mark.parametrize("damage", [cut_short, rubbish, emptied, gone])
@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_adapters(workshop: Workshop, adapter: Path, tmp_path: Path, file: str, damage: Damage) -> None:
    shutil.copytree(adapter, tmp_path / "model")
    damage(tmp_path / "model" / file)
    outcome = run("score", "--model", tmp_path / "model", "--data", workshop.data, "--output", tmp_path / "s.jsonl")
    assert_refused(outcome, tmp_path / "model")


@pytest.fixture(scope="module")
def adapter(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("adapter") / "run"
    assert run(*workshop.training(output, "--lora.rank", 4, "--max_steps", 1)).code == 0
    return output / "model"


@pytest.mark.parametrize("what", ["no such folder", "an empty folder", "a file", "a causal model"])
def test_models_that_are_none(workshop: Workshop, tmp_path: Path, what: str) -> None:
    places = {"no such folder": tmp_path / "none", "an empty folder": tmp_path / "empty", "a file": workshop.data}
    place = places.get(what, workshop.model)
    (tmp_path / "empty").mkdir()
    words = ["--data", workshop.data, "--output", tmp_path / "s.jsonl"]
    assert_refused(run("score", "--model", place, *words), place)
    assert_refused(run("audit", "reward", place, "--data", workshop.data, "--output", tmp_path / "audit"), place)
    if what != "a causal model":
        training = run(*workshop.training(tmp_path / "run", "--model", place))
        assert_refused(training, place)
        assert not (tmp_path / "run").exists()
