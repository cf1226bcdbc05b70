"""WARP in the small language world: a moving anchor, spherical merges, and the way back to the start.

**Source** Ramé et al. (2024), WARP: On the Benefits of Weight Averaged Rewarded Policies, arXiv 2406.16768.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from trueup.anchors import ExponentialAverage
from trueup.anchors.warp import Geometry, MergePiece, carry_out, geometry
from trueup.files import cache_folder
from trueup.lab.look_files import kept_looks
from trueup.lab.merged_looks import joined, look_at_each, taken
from trueup.lab.optimizing import Looks
from trueup.lab.policy_runs import PolicyRun, policy_folder
from trueup.lab.reproduce.fronts import (
    best_within,
    directed_claim,
    drift,
    front_table,
    gains,
    kl_table,
    paired,
    unit_of,
)
from trueup.lab.reproduce.policy_arms import PolicyWorld, gold_gain, over_known, paired_at, run_policies, shared_kls
from trueup.lab.reproduce.policy_pages import gold_and_proxy_figure, named_kls, optimization_settings, proxy_gain
from trueup.lab.reproduce.policy_plans import FREE, plain, varied
from trueup.lab.reproduce.scale import Scale
from trueup.merging.merge import merge_checkpoints
from trueup.merging.shares import same_shares
from trueup.models.policy_checkpoints import load_policy_checkpoint
from trueup.report.evidence import Claim, Evidence
from trueup.report.tables import markdown_table, with_interval
from trueup.report.text import Cell

PAPER = "Ramé et al. 2024"
FIXED, MOVING, SECOND = "fixed anchor", "moving anchor", "moving anchor, second run"
SLERP, ALONE = "two runs, SLERP and LITI", "one run, LITI"
ETAS = (0.3, 0.5, 0.8, 1.0)
COEFFICIENT = 0.1

_LAG = 0.2
"""Steps that the average lags behind, 1 / mu, as a share of the run; the paper's 100 of 9,000 are one step here."""

_OTHER_SEED = 1_000
_KLS = (2.0, 4.0, 8.0, 16.0)
_VERSION = 1


def arms(scale: Scale, seed: int) -> dict[str, PolicyRun]:
    """RLOO without a KL, held to the start, and twice held to its own moving average."""
    fixed = plain(scale, seed, kl_coefficient=COEFFICIENT)
    anchor = ExponentialAverage(decay=1 - rate_of(scale))
    moving = replace(varied(fixed, anchor=anchor), keep=True)
    return {FREE: plain(scale, seed), FIXED: fixed, MOVING: moving, SECOND: varied(moving, seed=seed + _OTHER_SEED)}


def rate_of(scale: Scale) -> float:
    """The anchor's rate mu."""
    return 1 / max(_LAG * scale.policy_steps, 1.0)


def finals_of(scale: Scale, world: PolicyWorld) -> tuple[Path, Path]:
    """Folders of the two policies at the end of their runs."""
    runs = arms(scale, world.seed)
    first, second = (policy_folder(world.setup, runs[name], folder=scale.folder) for name in (MOVING, SECOND))
    return first, second


def look_at_merges(scale: Scale, world: PolicyWorld) -> Looks:
    """Look at the spherical merge and at the first run at each of `ETAS`, then at the mean of both runs."""
    home = scale.folder or cache_folder() / "lab"
    runs = arms(scale, world.seed)
    keys = [runs[name].key(world.setup) for name in (MOVING, SECOND)]
    name = hashlib.sha256(json.dumps([_VERSION, "merges", *keys, ETAS]).encode()).hexdigest()[:20]

    def make() -> Looks:
        with tempfile.TemporaryDirectory() as aside:
            places = _merges(world.setup.policy, finals_of(scale, world), Path(aside))
            return look_at_each(world.setup, runs[MOVING], places, folder=scale.folder)

    return kept_looks(home / "merged" / f"{name}.npz", make)


def _merges(start: Path, finals: tuple[Path, Path], folder: Path) -> list[Path]:
    pieces = [
        MergePiece(start, models, eta, folder / f"{len(models)}-{eta:g}")
        for models in (finals, finals[:1])
        for eta in ETAS
    ]
    for piece in pieces:
        carry_out(piece)
    merge_checkpoints(finals, folder / "mean", shares=same_shares((0.5, 0.5)))
    return [*(piece.output for piece in pieces), folder / "mean"]


def with_fronts(world: PolicyWorld, merges: Looks) -> PolicyWorld:
    """The world with two more arms: from the start, through merges ever further from it, as if they were steps."""
    start, count = taken(world.looks[MOVING], [0]), len(ETAS)
    fronts = {
        SLERP: joined(start, taken(merges, range(count))),
        ALONE: joined(start, taken(merges, range(count, 2 * count))),
    }
    return replace(world, looks={**world.looks, **fronts})


def geometry_of(scale: Scale, world: PolicyWorld) -> Geometry:
    """How the two runs' task vectors lie."""
    places = (world.setup.policy, *finals_of(scale, world))
    models = [load_policy_checkpoint(place, dtype=torch.float32).model.pretrained for place in places]
    start, first, second = (dict(model.named_parameters()) for model in models)
    with torch.no_grad():
        return geometry(start, first, second)


def warp(scale: Scale, *, command: str, progress: bool = False) -> Evidence:
    """Run the worlds and write down what became of the paper's claims."""
    worlds = run_policies(scale, arms, progress=progress)
    merges = [look_at_merges(scale, world) for world in worlds]
    shapes = [geometry_of(scale, world) for world in worlds]
    return evidence_of(worlds, merges, shapes, scale=scale, command=command)


def evidence_of(
    run_worlds: Sequence[PolicyWorld],
    merges: Sequence[Looks],
    shapes: Sequence[Geometry],
    *,
    scale: Scale,
    command: str,
) -> Evidence:
    """The page, from what was run."""
    worlds = [with_fronts(world, looks) for world, looks in zip(run_worlds, merges, strict=True)]
    front = paired(worlds, SLERP, MOVING, read=_front)
    return Evidence(
        name="warp",
        title="Do averages of weights give more reward at less drift, in the small language world?",
        lead=(
            "RLOO optimises one proxy of gold: without a KL, with a KL to the start, and with a KL to a moving "
            "average of the policy's own weights. Two runs of the last kind, which differ by their seed, are merged "
            "spherically around the start (SLERP), and the way from the start to the merge is looked at (LITI). All "
            "KLs are to the start, never to the anchor.\n\n"
            "One iteration of the procedure was run, so what the paper says of further iterations was not tested. "
            "The paper's method is REINFORCE; here it is RLOO, as on the other pages."
        ),
        finding=f"best gold within a KL of 2 to 16 nats, merged front minus its own run: {with_interval(front)}",
        claims=[*_anchor_claims(worlds), *_merge_claims(worlds, merges, shapes), *_liti_claims(worlds)],
        command=command,
        seeds=[world.seed for world in worlds],
        settings=_settings(scale),
        sections=_sections(worlds, shapes),
        figures={"warp-kl.svg": gold_and_proxy_figure(worlds, (FREE, FIXED, MOVING, SLERP, ALONE))},
    )


def _settings(scale: Scale) -> Mapping[str, str]:
    return {
        "arms": f"4 runs of RLOO and 9 merged policies a world; KL coefficient {COEFFICIENT:g}",
        "moving anchor": f"mu = {rate_of(scale):g} a step",
        "merges": f"SLERP in equal parts with an angle for each layer; eta {', '.join(f'{eta:g}' for eta in ETAS)}",
        **optimization_settings(scale, plain(scale, scale.seeds[0]).how),
    }


def _front(world: PolicyWorld, arm: str) -> float:
    return float(np.mean([best_within(world, arm, kl, what="gold") for kl in _KLS]))


def _at_equal_kl(worlds: Sequence[PolicyWorld], statement: str, where: str, *, one: str, other: str) -> list[Claim]:
    """One claim each for the optimised reward and for gold."""
    kls = shared_kls(worlds, (one, other))
    return [
        directed_claim(
            f"{statement}: {name}.",
            paired_at(worlds, one, other, kls=kls, read=read),
            source=f"{PAPER}, {where}",
            ran=f"{one} minus {other}: {what}, {named_kls(kls)}",
        )
        for what, name, read in (("proxy", "optimised reward", proxy_gain), ("gold", "gold", gold_gain))
    ]


def _last(world: PolicyWorld, arm: str) -> float:
    """Proxy at the last step at which the run was looked at."""
    return float(gains(world, arm, "proxy")[-1])


def _anchor_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    where = "experiments, anchors"
    return [
        *_at_equal_kl(worlds, "The moving anchor gives more at equal KL than no anchor", where, one=MOVING, other=FREE),
        *_at_equal_kl(
            worlds, "The moving anchor gives more at equal KL than a fixed one", where, one=MOVING, other=FIXED
        ),
        directed_claim(
            "The moving anchor goes on where the fixed one is at its end.",
            paired(worlds, MOVING, FIXED, read=_last),
            source=f"{PAPER}, {where}",
            ran="moving minus fixed anchor, proxy at the end of the run",
        ),
    ]


def merged_gain(world: PolicyWorld, merges: Looks, *, what: str) -> float:
    """SLERP of the two runs minus their mean (LERP): proxy in standard deviations, or KL in nats."""
    slerp, lerp = len(ETAS) - 1, 2 * len(ETAS)
    if what == "kl":
        return float(drift(merges)[slerp] - drift(merges)[lerp])
    values = getattr(merges, what).astype(float).mean(axis=(1, 2))
    return float((values[slerp] - values[lerp]) / unit_of(world, MOVING, what))


def _merge_claims(worlds: Sequence[PolicyWorld], merges: Sequence[Looks], shapes: Sequence[Geometry]) -> list[Claim]:
    pairs = list(zip(worlds, merges, strict=True))
    found = (
        (
            "Task vectors of two runs are nearly at right angles.",
            "0.5 minus the cosine of their angle, mean over layers",
            [0.5 - shape.cosine for shape in shapes],
        ),
        (
            "SLERP keeps the length of task vectors that their mean loses.",
            "length of the merged task vector relative to the runs' own, SLERP minus mean",
            [shape.slerp_norm - shape.lerp_norm for shape in shapes],
        ),
        (
            "SLERP of two runs has more of the optimised reward than their mean.",
            "proxy, SLERP minus mean, equal parts",
            [merged_gain(world, looks, what="proxy") for world, looks in pairs],
        ),
        (
            "The mean of two runs is nearer to the start than their SLERP.",
            "KL to the start, SLERP minus mean, nats",
            [merged_gain(world, looks, what="kl") for world, looks in pairs],
        ),
    )
    return [
        directed_claim(statement, over_known(values), source=f"{PAPER}, experiments, SLERP and LERP", ran=ran)
        for statement, ran, values in found
    ]


def _liti_claims(worlds: Sequence[PolicyWorld]) -> list[Claim]:
    where = "experiments, LITI"
    return [
        *_at_equal_kl(
            worlds, "The way from the start to the end of a run lies above the run", where, one=ALONE, other=MOVING
        ),
        *_at_equal_kl(worlds, "The way to the merge of two runs lies above a run", where, one=SLERP, other=MOVING),
        *_at_equal_kl(worlds, "Two runs give a better front than one", "experiments, M", one=SLERP, other=ALONE),
    ]


def _sections(worlds: Sequence[PolicyWorld], shapes: Sequence[Geometry]) -> list[tuple[str, str]]:
    every = (FREE, FIXED, MOVING, SECOND, SLERP, ALONE)
    rows: list[tuple[Cell, ...]] = [
        (str(world.seed), one.cosine, one.norm_ratio, one.slerp_norm, one.lerp_norm)
        for world, one in zip(worlds, shapes, strict=True)
    ]
    header = ("world", "cosine", "second run's length / first's", "SLERP's length", "the mean's length")
    return [
        ("Against distance", "![gold and proxy against distance](warp-kl.svg)"),
        ("Gold where a KL is first reached", kl_table(worlds, every)),
        ("The optimised reward there", kl_table(worlds, every, read=proxy_gain)),
        ("The front: best gold within a KL", front_table(worlds, every, what="gold")),
        ("Task vectors of the two runs", "Lengths relative to the runs' own.\n\n" + markdown_table(header, rows)),
    ]
