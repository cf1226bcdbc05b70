"""WARP in pieces: runs from one start, their spherical merge, the next start between both, and the front at the end.

The pieces of a whole procedure are known beforehand, each with the folder that it writes; whoever trains the runs
carries them out in order, and after a stop goes on with the first that is missing.

**Source** Ramé et al. 2024, "WARP", arXiv 2406.16768, algorithm 1. **Deviations** the start after the last iteration,
which nothing uses, is not made; the front goes from the SFT model, one of the two choices of the paper.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from trueup.anchors.base import Weights
from trueup.errors import RecipeError
from trueup.functional.params import slerp_shares, task_products
from trueup.merging.merge import RECORD, Merged, merge_checkpoints
from trueup.merging.shares import group_of, same_shares, spherical


@dataclass(frozen=True)
class RunPiece:
    """A policy to be trained with the average of its own weights as anchor (`ExponentialAverage`).

    Args:
        iteration: From 1.
        number: Of the run within the iteration, from 1; runs differ by the order of their prompts.
        start: The model that it starts from.
        output: Where the trained policy is to be.
    """

    iteration: int
    number: int
    start: Path
    output: Path


@dataclass(frozen=True)
class MergePiece:
    """A merge around a start.

    Args:
        start: The model that all others are measured from.
        models: What is merged: several spherically, one by going `eta` of the way.
        eta: How far to go from the start to the merge of the models.
        output: Folder of the result.
    """

    start: Path
    models: tuple[Path, ...]
    eta: float
    output: Path


Piece = RunPiece | MergePiece


@dataclass(frozen=True, kw_only=True)
class Warp:
    """The procedure.

    Args:
        iterations: How often runs are trained and merged.
        runs: Policies of one iteration.
        eta: How far each next start goes from the last one towards the merge.
        front: How far the models at the end go from the SFT model towards the last merge.
    """

    iterations: int = 3
    runs: int = 2
    eta: float = 0.3
    front: tuple[float, ...] = (0.1, 0.3, 0.5, 0.8, 1.0)

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.runs < 1:
            raise RecipeError(f"iterations and runs must be at least 1, got {self.iterations} and {self.runs}")
        wrong = [eta for eta in (self.eta, *self.front) if not math.isfinite(eta)]
        if wrong:
            raise RecipeError(f"eta and front must be finite, got {wrong[0]}")
        if len(set(self.front)) < len(self.front):
            raise RecipeError(f"front must name each share once, got {list(self.front)}")

    def pieces(self, sft: Path, folder: Path) -> tuple[Piece, ...]:
        """Everything that is to be made, in an order in which each piece finds what it needs.

        Args:
            sft: The SFT model.
            folder: Where everything is written.
        """
        found: list[Piece] = []
        start = sft
        for iteration in range(1, self.iterations + 1):
            place = folder / f"iteration-{iteration}"
            runs = [RunPiece(iteration, m, start, place / f"run-{m}") for m in range(1, self.runs + 1)]
            merged = MergePiece(start, tuple(run.output for run in runs), 1.0, place / "merged")
            found += [*runs, merged]
            if iteration < self.iterations:
                following = folder / f"iteration-{iteration + 1}" / "start"
                found.append(MergePiece(start, (merged.output,), self.eta, following))
                start = following
        ends = [MergePiece(sft, (merged.output,), eta, folder / "front" / f"eta-{eta:g}") for eta in self.front]
        return (*found, *ends)


def pending(pieces: Sequence[Piece], *, finished: Callable[[RunPiece], bool]) -> tuple[Piece, ...]:
    """The pieces that are still to be made; a merge is made again where something that it needs is.

    Args:
        pieces: All, in their order.
        finished: Whether a run was trained to its end.
    """
    missing: dict[Path, Piece] = {}
    for piece in pieces:
        needs = (piece.start,) if isinstance(piece, RunPiece) else (piece.start, *piece.models)
        there = finished(piece) if isinstance(piece, RunPiece) else (piece.output / RECORD).is_file()
        if not there or any(need in missing for need in needs):
            missing[piece.output] = piece
    return tuple(missing.values())


def carry_out(piece: MergePiece, *, groups: Literal["layer", "tensor"] = "layer") -> Merged:
    """Make one merge; its folder appears whole or not at all.

    `eta` of the way from the start to `slerp(start; models)`: shares are affine, so both steps are one sum.

    Raises:
        CheckpointError: A model is missing or damaged, or the models do not fit together.
        OutputError: The folder cannot be written.
    """
    piece.output.parent.mkdir(parents=True, exist_ok=True)
    around = spherical(groups=groups) if len(piece.models) > 1 else same_shares((0.0, 1.0))

    def shares(sources: Sequence[object]) -> Mapping[str, Sequence[float]]:
        found = around(sources)  # type: ignore[arg-type]
        return {name: (1 - piece.eta + piece.eta * own[0], *(piece.eta * one for one in own[1:]))
                for name, own in found.items()}  # fmt: skip

    record = {
        "method": "warp",
        "start": str(piece.start),
        "models": [str(model) for model in piece.models],
        "eta": piece.eta,
    }
    return merge_checkpoints([piece.start, *piece.models], piece.output, shares=shares, record=record)


@dataclass(frozen=True)
class Geometry:
    """How the task vectors of two models lie, over all layers.

    Args:
        cosine: Of the angle between them, mean over layers, each by the product of its norms.
        norm_ratio: Norm of the second relative to the first.
        slerp_norm: Norm of their spherical merge in equal parts, relative to the root mean square of theirs.
        lerp_norm: The same of their mean.
    """

    cosine: float
    norm_ratio: float
    slerp_norm: float
    lerp_norm: float


def geometry(start: Weights, first: Weights, second: Weights) -> Geometry:
    """Measure two task vectors, layer by layer.

    Raises:
        ValueError: A model did not move at all.
    """
    products: dict[str, Tensor] = {}
    for name, tensor in start.items():
        if tensor.is_floating_point():
            total = products.setdefault(group_of(name), torch.zeros(2, 2, dtype=torch.float64))
            total += task_products(tensor, [first[name], second[name]])
    squares = sum(products.values(), torch.zeros(2, 2, dtype=torch.float64)).diagonal()
    if float(squares.min()) == 0.0:
        raise ValueError("both models must differ from the start")
    merged = {"slerp": 0.0, "lerp": 0.0}
    aligned, weight = 0.0, 0.0
    for own in products.values():
        for kind, shares in (("slerp", slerp_shares(own)[1:]), ("lerp", [0.5, 0.5])):
            mixed = torch.tensor(shares, dtype=torch.float64)
            merged[kind] += float(mixed @ own @ mixed)
        norms = math.sqrt(float(own[0, 0]) * float(own[1, 1]))
        aligned, weight = aligned + float(own[0, 1]), weight + norms
    usual = float(squares.mean())
    return Geometry(
        cosine=aligned / weight,
        norm_ratio=math.sqrt(float(squares[1] / squares[0])),
        slerp_norm=math.sqrt(merged["slerp"] / usual),
        lerp_norm=math.sqrt(merged["lerp"] / usual),
    )
