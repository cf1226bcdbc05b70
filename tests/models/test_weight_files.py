"""Mapped weights against what the safetensors library reads and writes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trueup.errors import CheckpointError
from trueup.models.weight_files import INDEX, SINGLE, StoredTensor, open_weights, write_index, write_weights

TENSORS = {
    "doubles": torch.arange(5, dtype=torch.float64),
    "floats": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "halves": torch.arange(7).bfloat16(),
    "scalar": torch.tensor(2.5),
    "nothing": torch.zeros(0, 3),
    "numbers": torch.tensor([[-1, 2**40]]),
    "flags": torch.tensor([True, False, True]),
}


def stored(name: str, tensor: torch.Tensor, file: str = SINGLE) -> StoredTensor:
    return StoredTensor(name, tensor.dtype, tuple(tensor.shape), file)


def test_what_the_library_writes_is_read_and_the_other_way_round(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / SINGLE)
    files = open_weights(tmp_path)
    assert set(files.tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        place = files.tensors[name]
        assert (place.dtype, place.shape) == (tensor.dtype, tuple(tensor.shape))
        for _ in range(2 if tensor.numel() else 0):  # what was given back is read again
            assert torch.equal(files.flat(name).reshape(place.shape), tensor)
            files.release(name, begin=0, end=tensor.numel())
    again = tmp_path / "again.safetensors"
    write_weights(again, list(files.tensors.values()), lambda place: files.flat(place.name).split(2))
    loaded = load_file(again)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    assert set(loaded) == set(TENSORS)
    with safe_open(again, framework="pt") as whole:
        assert whole.metadata() == {"format": "pt"}  # without which transformers refuses a file


def test_tensors_that_lie_askew(tmp_path: Path) -> None:
    values = torch.tensor([1.5, -2.0])
    entries = {"flag": ("BOOL", 1, b"\1"), "values": ("F32", 2, values.numpy().tobytes())}
    header, data = {}, b""
    for name, (code, count, content) in entries.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": code, "shape": [count], "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    (tmp_path / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert torch.equal(open_weights(tmp_path).flat("values"), values)


def test_several_files(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "two.safetensors")
    write_index(
        tmp_path, [stored("a", torch.ones(2), "one.safetensors"), stored("b", torch.ones(3), "two.safetensors")]
    )
    assert json.loads((tmp_path / INDEX).read_text())["metadata"]["total_size"] == 20
    files = open_weights(tmp_path)
    assert (files.flat("a").tolist(), files.flat("b").tolist()) == ([1, 1], [0, 0, 0])
    assert files.place_of("b") == tmp_path / "two.safetensors"


def test_pieces_must_fill_their_tensor(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 bytes instead of 8"):
        write_weights(tmp_path / "x", [stored("a", torch.ones(2))], lambda _: [torch.ones(1)])


def damage(folder: Path, how: str) -> None:
    """Spoil a model of two files."""
    for name in ("a", "b"):
        save_file({name: torch.ones(2)}, folder / f"{name}.safetensors")
    write_index(folder, [stored(name, torch.ones(2), f"{name}.safetensors") for name in ("a", "b")])
    index = json.loads((folder / INDEX).read_text())
    if how == "no weights":
        (folder / INDEX).unlink()
    elif how == "a file is missing":
        (folder / "b.safetensors").unlink()
    elif how == "a file is cut":
        (folder / "b.safetensors").write_bytes((folder / "b.safetensors").read_bytes()[:-3])
    elif how == "a file is empty":
        (folder / "b.safetensors").write_bytes(b"")
    elif how == "a tensor is missing":
        (folder / INDEX).write_text(json.dumps({"weight_map": index["weight_map"] | {"c": "a.safetensors"}}))
    elif how == "a tensor is elsewhere":
        save_file({"b": torch.ones(2), "a": torch.ones(2)}, folder / "b.safetensors")
    elif how == "the index is cut":
        (folder / INDEX).write_text((folder / INDEX).read_text()[:-9])
    elif how == "the index leads away":
        (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    elif how == "another type":
        save_file({"b": torch.ones(2).to(torch.float8_e4m3fn)}, folder / "b.safetensors")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", "holds no weights as safetensors"),
        ("a file is missing", r"b\.safetensors: is missing"),
        ("a file is cut", r"b\.safetensors: the weights are damaged"),
        ("a file is empty", r"b\.safetensors: the weights are damaged"),
        ("a tensor is missing", "lists `c`, which no file holds"),
        ("a tensor is elsewhere", "holds `a`, which model.safetensors.index.json places elsewhere"),
        ("the index is cut", r"index\.json: is damaged"),
        ("the index leads away", "named by more than its name"),
        ("another type", "has the type F8_E4M3; known: F64"),
    ],
)
def test_damage_is_named(tmp_path: Path, how: str, message: str) -> None:
    damage(tmp_path, how)
    with pytest.raises(CheckpointError, match=message):
        open_weights(tmp_path)
