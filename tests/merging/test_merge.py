"""Merged checkpoints against the formulas on state dicts, and what is refused."""

import errno
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import trueup.merging.merge as merge_module
from tiny_models import make_tokenizer, save_base
from trueup.errors import CheckpointError, NonFiniteError, OutputError
from trueup.merging.merge import RECORD, merge_checkpoints
from trueup.merging.shares import Shares, group_of, same_shares, spherical
from trueup.models.weight_files import INDEX, SINGLE


def state(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder, as the safetensors library reads them."""
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def vary(source: Path, target: Path, *, seed: int, scale: float = 0.1, **saving: object) -> Path:
    """A copy of a model whose weights moved at random."""
    model = AutoModelForCausalLM.from_pretrained(source)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(target, **saving)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, target)
    return target


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("start"), make_tokenizer(), dtype="float32")


@pytest.fixture(scope="module")
def models(start: Path) -> list[Path]:
    return [vary(start, start.parent / f"model-{seed}", seed=seed) for seed in range(3)]


def merged(
    models: list[Path], output: Path, shares: Shares | list[float], **options: object
) -> dict[str, torch.Tensor]:
    merge_checkpoints(models, output, shares=shares if callable(shares) else same_shares(shares), **options)
    return state(output)


def test_every_tensor_is_the_weighted_sum(models: list[Path], tmp_path: Path) -> None:
    shares = [0.2, 0.5, 0.3]
    result, states = merged(models, tmp_path / "out", shares), [state(model) for model in models]
    assert result.keys() == states[0].keys()
    for name, tensor in result.items():
        expected = sum(share * each[name].double() for share, each in zip(shares, states, strict=True))
        assert torch.allclose(tensor.double(), expected, rtol=0, atol=1e-6)
        assert tensor.dtype == torch.float32
    assert json.loads((tmp_path / "out" / RECORD).read_text())["shares"] == shares


def test_transformers_loads_the_result_as_one_model(models: list[Path], tmp_path: Path) -> None:
    merged(models[:2], tmp_path / "out", [0.5, 0.5])
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    expected = {name: (a + state(models[1])[name]) / 2 for name, a in state(models[0]).items()}
    assert all(torch.allclose(tensor, expected[name], atol=1e-6) for name, tensor in loaded.state_dict().items())
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == make_tokenizer().get_vocab()
    assert (tmp_path / "out" / "generation_config.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_whole_share_gives_the_very_model_back(models: list[Path], tmp_path: Path) -> None:
    for number, shares in enumerate(([1, 0], [0, 1])):
        result, expected = merged(models[:2], tmp_path / f"{number}", list(map(float, shares))), state(models[number])
        assert all(torch.equal(result[name], tensor) for name, tensor in expected.items())
    same = merged([models[0], models[0]], tmp_path / "same", [0.3, 0.7])
    assert all(torch.equal(same[name], tensor) for name, tensor in state(models[0]).items())


def spherical_by_layer(start: dict, first: dict, second: dict, share: float) -> dict[str, np.ndarray]:
    """WARP's formula on whole layers as one vector each, in numpy."""
    groups: dict[str, list[str]] = {}
    for name in start:
        layer = re.match(r"model\.layers\.\d+", name)
        groups.setdefault(layer.group() if layer else name, []).append(name)
    result = {}
    for names in groups.values():
        origin, a, b = (
            np.concatenate([source[name].double().numpy().ravel() for name in names])
            for source in (start, first, second)
        )
        a, b = a - origin, b - origin
        angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        flat = origin + (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
        sizes = np.cumsum([start[name].numel() for name in names])[:-1]
        result |= dict(zip(names, np.split(flat, sizes), strict=True))
    return result


def test_spherical_merge_has_one_angle_for_each_layer(start: Path, models: list[Path], tmp_path: Path) -> None:
    result = merged([start, *models[:2]], tmp_path / "out", spherical(share=0.4), like=1)
    expected = spherical_by_layer(state(start), state(models[0]), state(models[1]), 0.4)
    for name, tensor in result.items():
        assert tensor.numpy().ravel() == pytest.approx(expected[name], abs=2e-6)
    shares = json.loads((tmp_path / "out" / RECORD).read_text())["shares"]
    layers = {tuple(values) for name, values in shares.items() if name.startswith("model.layers.0.")}
    assert len(layers) == 1
    assert len({tuple(values) for values in shares.values()}) == 5  # two layers, embeddings, last norm, head


def test_angles_of_single_tensors(start: Path, models: list[Path], tmp_path: Path) -> None:
    merged([start, *models[:2]], tmp_path / "out", spherical(groups="tensor"), like=1)
    shares = json.loads((tmp_path / "out" / RECORD).read_text())["shares"]
    assert len({tuple(values) for values in shares.values()}) == len(shares)


def test_three_models_merge_as_two_and_then_one(start: Path, models: list[Path], tmp_path: Path) -> None:
    merged([start, *models[:2]], tmp_path / "two", spherical(share=1 / 2), like=1)
    step = merged([start, tmp_path / "two", models[2]], tmp_path / "three", spherical(share=1 / 3), like=1)
    whole = merged([start, *models], tmp_path / "whole", spherical(), like=1)
    assert all(torch.allclose(whole[name], tensor, rtol=0, atol=2e-6) for name, tensor in step.items())


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.layers.11.mlp.experts.3.up_proj.weight", "model.layers.11"),
        ("transformer.h.0.attn.c_attn.bias", "transformer.h.0"),
        ("model.embed_tokens.weight", "model.embed_tokens"),
        ("model.norm.weight", "model.norm"),
        ("lm_head.weight", "lm_head"),
        ("scale", "scale"),
    ],
)
def test_groups(name: str, group: str) -> None:
    assert group_of(name) == group


def test_models_cut_into_files_in_their_own_ways(start: Path, models: list[Path], tmp_path: Path) -> None:
    cut = [vary(start, tmp_path / f"cut-{i}", seed=i, max_shard_size=size) for i, size in enumerate(("20KB", "40KB"))]
    result = merged([*cut, models[2]], tmp_path / "out", [0.25, 0.25, 0.5])
    whole = merged(models, tmp_path / "whole", [0.25, 0.25, 0.5])
    assert all(torch.equal(result[name], tensor) for name, tensor in whole.items())
    files = {path.name for path in cut[0].glob("*.safetensors")}
    assert {path.name for path in (tmp_path / "out").glob("*.safetensors")} == files
    assert len(files) > 2
    assert json.loads((tmp_path / "out" / INDEX).read_text()) | {"metadata": 0} == (
        json.loads((cut[0] / INDEX).read_text()) | {"metadata": 0}
    )
    assert not any(AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)[1].values())


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", make_tokenizer(), tie_word_embeddings=True)
    pair = [vary(base, tmp_path / f"{seed}", seed=seed) for seed in range(2)]
    result = merged(pair, tmp_path / "out", [0.5, 0.5])
    assert "lm_head.weight" not in result
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()
    assert torch.equal(loaded.lm_head.weight, result["model.embed_tokens.weight"])


def plain(folder: Path, tensors: dict[str, torch.Tensor], **config: object) -> Path:
    """A folder of any tensors with a settings file."""
    folder.mkdir()
    save_file(tensors, folder / SINGLE)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_half_precision_is_rounded_once(tmp_path: Path) -> None:
    values = [torch.full((3,), value, dtype=torch.bfloat16) for value in (256.0, 1.0, 1.0)]
    folders = [plain(tmp_path / str(i), {"w": value}) for i, value in enumerate(values)]
    result = merged(folders, tmp_path / "out", [1 / 3, 1 / 3, 1 / 3])
    assert torch.equal(result["w"], torch.full((3,), 86.0, dtype=torch.bfloat16))


def test_types_may_differ_where_the_result_has_its_own(tmp_path: Path) -> None:
    number = torch.tensor([7])
    first = plain(tmp_path / "a", {"w": torch.ones(3), "n": number}, dtype="float32")
    second = plain(tmp_path / "b", {"w": torch.zeros(3, dtype=torch.bfloat16), "n": number}, dtype="bfloat16")
    with pytest.raises(CheckpointError, match=r"`w` is float32 in the first and bfloat16.*--dtype"):
        merged([first, second], tmp_path / "out", [0.5, 0.5])
    result = merged([first, second], tmp_path / "out", [0.5, 0.5], dtype=torch.float16)
    assert torch.equal(result["w"], torch.full((3,), 0.5, dtype=torch.float16))
    assert torch.equal(result["n"], number)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"dtype": "float16"}


def test_integers_are_kept_and_must_be_equal(tmp_path: Path) -> None:
    folders = [
        plain(
            tmp_path / name,
            {"w": torch.full((2,), float(i)), "ids": torch.arange(3) + (i == 2), "empty": torch.ones(0)},
        )
        for i, name in enumerate("abc")
    ]
    assert torch.equal(merged(folders[:2], tmp_path / "out", [0.5, 0.5])["ids"], torch.arange(3))
    assert torch.equal(merged(folders[:2], tmp_path / "round", spherical(), like=1)["ids"], torch.arange(3))
    with pytest.raises(CheckpointError, match=r"a/model.safetensors, .*c/model.safetensors: `ids`: .*integers"):
        merged([folders[0], folders[2]], tmp_path / "refused", [0.5, 0.5])
    assert not (tmp_path / "refused").exists()


def test_the_text_format_is_kept_and_another_models_history_is_not(models: list[Path], tmp_path: Path) -> None:
    form = {"kind": "plain", "append_eos": True, "special_tokens": False, "max_length": 9, "truncation_side": "left"}
    copy = Path(shutil.copytree(models[0], tmp_path / "copy"))
    side = {"format": "trueup.policy/1", "text_format": form}
    (copy / "trueup.json").write_text(json.dumps(side | {"recipe": {"a": 1}}))
    (copy / "README.md").write_text("about another model")
    merged([copy, models[1]], tmp_path / "out", [0.5, 0.5], record={"method": "soup"})
    kept = json.loads((tmp_path / "out" / "trueup.json").read_text())
    assert kept == side
    assert json.loads((tmp_path / "out" / RECORD).read_text())["method"] == "soup"
    assert not (tmp_path / "out" / "README.md").exists()


CHANGES: dict[str, dict[str, object]] = {
    "shape": {"intermediate_size": 64},
    "layers": {"num_hidden_layers": 1},
    "setting": {"rms_norm_eps": 1.0},
    "vocabulary": {},
}


def spoil(folder: Path, how: str, start: Path) -> Path:
    """Another model that does not fit."""
    if how in CHANGES:
        original = json.loads((start / "config.json").read_text())
        tokenizer = make_tokenizer(extra=("<new>",)) if how == "vocabulary" else make_tokenizer()
        save_base(folder, tokenizer, dtype="float32", **{"vocab_size": original["vocab_size"]} | CHANGES[how])
        if how in ("shape", "layers"):  # so that the weights alone tell
            shutil.copy(start / "config.json", folder)
        return folder
    shutil.copytree(start, folder)
    if how == "adapter":
        (folder / "adapter_config.json").write_text("{}")
    elif how == "quantised":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 4}}))
    elif how == "no settings":
        (folder / "config.json").unlink()
    elif how == "damaged settings":
        (folder / "config.json").write_text("[]")
    elif how == "no folder":
        shutil.rmtree(folder)
    return folder


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", r"`model\.layers\.0\.mlp\.\w+\.weight` has the shape \(\d+, \d+\) in the first and \(\d+, \d+\) in"),
        ("layers", r"holds `model\.layers\.1\.\S+`, which .*other lacks"),
        ("setting", r"`rms_norm_eps` is 1e-06 in the first config.json and 1.0 in the second"),
        ("vocabulary", r"vocabularies differ, token '\S+' is .* in the first and .* in the second"),
        ("adapter", "is an adapter, .* make whole models of them first \\(trueup merge adapter\\)"),
        ("quantised", "is quantised"),
        ("no settings", r"holds no config\.json"),
        ("damaged settings", r"config\.json: cannot be read \(it holds a list\)"),
        ("no folder", "there is no such folder"),
    ],
)
def test_models_that_do_not_fit(start: Path, tmp_path: Path, how: str, message: str) -> None:
    other = spoil(tmp_path / "other", how, start)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=message):
        merged([start, other], tmp_path / "out", [0.5, 0.5])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_hub_name_is_to_be_downloaded(start: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="download a model of the hub first"):
        merged([start, Path("someone/something")], tmp_path / "out", [0.5, 0.5])


def test_an_overflow_is_refused(tmp_path: Path) -> None:
    values = [torch.full((2,), value, dtype=torch.float16) for value in (-40_000.0, 40_000.0)]
    folders = [plain(tmp_path / str(i), {"w": value}) for i, value in enumerate(values)]
    with pytest.raises(NonFiniteError, match="`w`: the merged weights are not finite in float16"):
        merged(folders, tmp_path / "out", [-0.5, 1.5])
    assert merged(folders, tmp_path / "wide", [-0.5, 1.5], dtype=torch.float32)["w"].tolist() == [80_000] * 2
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_earlier_merge(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = merged(models[:2], tmp_path / "out", [0.5, 0.5])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merge_module, "write_settings", lambda *_, **__: full())
    with pytest.raises(OutputError, match=r"No space left on device\); free some space"):
        merged(models[:2], tmp_path / "out", [0.1, 0.9])
    assert all(torch.equal(state(tmp_path / "out")[name], tensor) for name, tensor in before.items())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
