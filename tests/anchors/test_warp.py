"""WARP's pieces: their order, resuming, and merges against the formulas on tensors."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from trueup.anchors.warp import MergePiece, RunPiece, Warp, carry_out, geometry, pending
from trueup.errors import RecipeError
from trueup.functional.params import lerp, slerp, slerp_all
from trueup.merging.merge import RECORD

LAYERS = ("model.layers.0.a.weight", "model.layers.0.b.weight", "model.layers.1.a.weight", "model.norm.weight")


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, 2, generator=generator, dtype=torch.float64) for name in LAYERS}


def model(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def read(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    start, first, second, third = (model(tmp_path / f"model-{seed}", weights(seed)) for seed in range(4))
    return start, first, second, third


def by_layer(*states: dict[str, torch.Tensor]) -> list[tuple[list[str], list[torch.Tensor]]]:
    """The two tensors of layer 0 as one vector, the other tensors each on their own."""
    groups = [list(LAYERS[:2]), [LAYERS[2]], [LAYERS[3]]]
    return [(names, [torch.cat([state[name].flatten() for name in names]) for state in states]) for names in groups]


def flat(state: dict[str, torch.Tensor], names: list[str]) -> torch.Tensor:
    return torch.cat([state[name].flatten() for name in names])


# Merges


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0, 1.5])
def test_a_piece_goes_eta_of_the_way_to_the_spherical_merge(eta, models, tmp_path):
    """Three runs: the second is taken with 1/2, the third with 1/3, each layer with its own angles."""
    carry_out(MergePiece(models[0], models[1:], eta, tmp_path / "a" / "out"))
    result, states = read(tmp_path / "a" / "out"), [read(place) for place in models]
    for names, (start, *runs) in by_layer(*states):
        first_two = slerp(start, runs[0], runs[1], 1 / 2)
        merged = slerp(start, first_two, runs[2], 1 / 3)
        assert torch.allclose(flat(result, names), lerp(start, merged, eta), rtol=0, atol=1e-12)
        assert torch.allclose(slerp_all(start, runs), merged, rtol=0, atol=1e-12)


def test_the_ends_of_the_way_are_start_and_run(models, tmp_path):
    for eta, expected in ((0.0, models[0]), (1.0, models[1])):
        carry_out(MergePiece(models[0], models[1:2], eta, tmp_path / f"{eta}"))
        assert all(torch.equal(tensor, read(expected)[name]) for name, tensor in read(tmp_path / f"{eta}").items())


def test_a_run_alone_is_gone_to_in_a_straight_line(models, tmp_path):
    carry_out(MergePiece(models[0], models[1:2], 0.3, tmp_path / "out"))
    start, end, result = read(models[0]), read(models[1]), read(tmp_path / "out")
    assert all(torch.allclose(result[name], 0.7 * start[name] + 0.3 * end[name], atol=1e-14) for name in LAYERS)


def test_runs_that_are_equal_are_their_merge(models, tmp_path):
    """No angle: the spherical formula divides by zero."""
    carry_out(MergePiece(models[0], (models[1], models[1]), 1.0, tmp_path / "out"))
    assert all(
        torch.allclose(tensor, read(models[1])[name], atol=1e-12) for name, tensor in read(tmp_path / "out").items()
    )


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_task_vectors_of_one_length_keep_it(seed, share):
    generator = torch.Generator().manual_seed(seed)
    start, one, two = (torch.randn(7, generator=generator, dtype=torch.float64) for _ in range(3))
    two = two * one.norm() / two.norm()
    merged = slerp(start, start + one, start + two, share)
    assert float((merged - start).norm()) == pytest.approx(float(one.norm()), abs=1e-12)


def test_at_right_angles_the_merge_is_the_sum_over_the_root_of_two():
    start = torch.zeros(2, dtype=torch.float64)
    one, two = torch.tensor([3.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 3.0], dtype=torch.float64)
    assert torch.allclose(slerp(start, one, two, 0.5), (one + two) / 2**0.5, atol=1e-14)


def test_a_linear_policy_on_the_way_is_the_geometric_mixture():
    """Logits are the weights, so LITI of them is `pi_0^(1 - eta) pi_1^eta`, normalised."""
    rng = np.random.default_rng(0)
    first, second, eta = rng.standard_normal(5), rng.standard_normal(5), 0.3
    mixed = lerp(torch.from_numpy(first), torch.from_numpy(second), eta).softmax(0).numpy()
    mixture = np.exp(first) ** (1 - eta) * np.exp(second) ** eta
    assert mixed == pytest.approx(mixture / mixture.sum())


def test_the_record_says_what_it_was_made_of(models, tmp_path):
    carry_out(MergePiece(models[0], models[1:3], 0.3, tmp_path / "out"))
    text = (tmp_path / "out" / RECORD).read_text()
    assert all(str(place) in text for place in models[:3])
    assert '"eta": 0.3' in text


# Geometry


def test_geometry_by_hand():
    """Layer 0 at right angles with lengths 2 and 2; the norm in line, lengths 1 and 1: squares 5 and 5."""
    start = {"layers.0.a": torch.zeros(2), "norm.weight": torch.zeros(1)}
    first = {"layers.0.a": torch.tensor([2.0, 0.0]), "norm.weight": torch.ones(1)}
    second = {"layers.0.a": torch.tensor([0.0, 2.0]), "norm.weight": torch.ones(1)}
    found = geometry(start, first, second)
    assert found.cosine == pytest.approx((0 + 1) / (4 + 1))
    assert found.norm_ratio == pytest.approx(1)
    assert found.slerp_norm == pytest.approx(1)
    assert found.lerp_norm == pytest.approx(math.sqrt((2 + 1) / 5))


@given(st.floats(0.05, 3.0))
def test_the_mean_shrinks_by_the_closed_form(angle):
    """`sqrt(1 - 2 (1 - cos O) (1/2 - 1/4))` for task vectors of one length."""
    start = {"layers.0.a": torch.zeros(2, dtype=torch.float64)}
    first = {"layers.0.a": torch.tensor([1.0, 0.0], dtype=torch.float64)}
    second = {"layers.0.a": torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)}
    found = geometry(start, first, second)
    assert found.lerp_norm == pytest.approx(math.sqrt(1 - 0.5 * (1 - math.cos(angle))))
    assert found.slerp_norm == pytest.approx(1)
    assert found.cosine == pytest.approx(math.cos(angle))


def test_a_model_that_did_not_move_has_no_direction():
    start = weights(0)
    with pytest.raises(ValueError, match="must differ from the start"):
        geometry(start, weights(1), start)


# The procedure


def test_pieces_by_hand():
    """Two iterations of two runs."""
    place = Path("out")
    found = Warp(iterations=2, runs=2, eta=0.4, front=(0.5, 1.0)).pieces(Path("sft"), place)
    one, two = place / "iteration-1", place / "iteration-2"
    assert found == (
        RunPiece(1, 1, Path("sft"), one / "run-1"),
        RunPiece(1, 2, Path("sft"), one / "run-2"),
        MergePiece(Path("sft"), (one / "run-1", one / "run-2"), 1.0, one / "merged"),
        MergePiece(Path("sft"), (one / "merged",), 0.4, two / "start"),
        RunPiece(2, 1, two / "start", two / "run-1"),
        RunPiece(2, 2, two / "start", two / "run-2"),
        MergePiece(two / "start", (two / "run-1", two / "run-2"), 1.0, two / "merged"),
        MergePiece(Path("sft"), (two / "merged",), 0.5, place / "front" / "eta-0.5"),
        MergePiece(Path("sft"), (two / "merged",), 1.0, place / "front" / "eta-1"),
    )


@given(st.integers(1, 4), st.integers(1, 4))
def test_each_piece_finds_what_it_needs(iterations, runs):
    found = Warp(iterations=iterations, runs=runs).pieces(Path("sft"), Path("out"))
    there = {Path("sft")}
    for piece in found:
        needs = {piece.start} if isinstance(piece, RunPiece) else {piece.start, *piece.models}
        assert needs <= there
        assert piece.output not in there
        there.add(piece.output)
    assert sum(isinstance(piece, RunPiece) for piece in found) == iterations * runs


def test_a_procedure_that_stops_anywhere_goes_on_to_the_same_end(models, tmp_path):
    """Training is made up: each run moves the start by random numbers of its own."""

    def train(piece: RunPiece) -> None:
        moved = weights(10 * piece.iteration + piece.number)
        start = read(piece.start)
        model(piece.output, {name: start[name] + 0.1 * moved[name] for name in LAYERS})

    def go_on(folder: Path, most: int | None) -> int:
        pieces = Warp(iterations=2, runs=2, front=(0.5,)).pieces(models[0], folder)
        left = pending(pieces, finished=lambda piece: (piece.output / "config.json").is_file())
        for piece in left[:most]:
            if isinstance(piece, RunPiece):
                train(piece)
            else:
                carry_out(piece)
        return len(left)

    assert go_on(tmp_path / "whole", None) == 8
    assert [go_on(tmp_path / "parts", 1) for _ in range(9)] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    whole, parts = (read(tmp_path / name / "front" / "eta-0.5") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in LAYERS)


def test_what_rests_on_something_missing_is_made_again(models, tmp_path):
    pieces = Warp(iterations=1, runs=2, front=(0.5,)).pieces(models[0], tmp_path / "out")
    runs = [piece for piece in pieces if isinstance(piece, RunPiece)]
    for number, piece in enumerate(runs):
        model(piece.output, weights(number + 1))
    for piece in pending(pieces, finished=lambda piece: True):
        carry_out(piece)
    assert pending(pieces, finished=lambda piece: True) == ()
    assert pending(pieces, finished=lambda piece: piece.number != 2) == pieces[1:]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"iterations": 0}, "at least 1, got 0 and 2"),
        ({"runs": 0}, "at least 1, got 3 and 0"),
        ({"eta": math.nan}, "must be finite, got nan"),
        ({"front": (0.5, math.inf)}, "must be finite, got inf"),
        ({"front": (0.5, 0.5)}, "each share once"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(RecipeError, match=said):
        Warp(**settings)
