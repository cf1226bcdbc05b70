"""All measures of one model on one split, as one mapping."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from trueup.errors import DataError, NonFiniteError
from trueup.measure.benchmarks import benchmark, recognize
from trueup.measure.bootstrap import Resampling
from trueup.measure.calibration import calibration
from trueup.measure.dispersion import (
    common_edges,
    decomposition,
    drift,
    hidden_norm,
    histogram,
    moments,
    within_prompt_std,
)
from trueup.measure.effective_rank import effective_rank
from trueup.measure.length import length_accuracy, length_correlation
from trueup.measure.ranking import accuracy, mean_tau, rankable, ties
from trueup.measure.scored import Array, ScoredSplit

NO_PAIRS = "the data state no preferred response"
NO_GOLD = "no prompt has gold scores for two responses"
NO_HIDDEN = "hidden states were not recorded"
NO_NORM = "norms before the final normalisation were not recorded"
NO_BENCHMARK = "not a benchmark split"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What the splits of one model share, so that they can be compared.

    Args:
        reference: The model's first split, against which drift is measured.
        edges: Histogram edges by quantity ("reward", "norm", "before_norm") that cover all splits.
    """

    reference: ScoredSplit
    edges: Mapping[str, Float[Array, " edges"]]


def quantities(split: ScoredSplit) -> dict[str, Float[Array, " responses"]]:
    """The recorded quantities whose distributions are shown."""
    found = {"reward": split.reward}
    if split.hidden is not None:
        found["norm"] = hidden_norm(split.hidden)
    if split.before_norm is not None:
        found["before_norm"] = split.before_norm
    return found


def frame(splits: tuple[ScoredSplit, ...]) -> Frame:
    """Common ground of one model's splits."""
    tables = [quantities(split) for split in splits]
    names = {name for table in tables for name in table}
    edges = {name: common_edges([table[name] for table in tables if name in table]) for name in names}
    return Frame(reference=splits[0], edges=edges)


def split_measures(
    split: ScoredSplit,
    *,
    shared: Frame,
    resampling: Resampling,
    correct: Bool[Array, " responses"] | None = None,
) -> dict[str, Any]:
    """Every measure of the split; None where it cannot be taken, with the reason under "absent"."""
    absent: dict[str, str] = {}
    pairs = bool(len(split.pairs))
    if not pairs:
        absent |= dict.fromkeys(("accuracy", "ties", "calibration", "length.pairs"), NO_PAIRS)
    out: dict[str, Any] = {"prompts": split.prompts, "responses": len(split.reward), "pairs": len(split.pairs)}
    out["accuracy"] = accuracy(split, resampling=resampling) if pairs else None
    out["ties"] = ties(split) if pairs else None
    out["tau"] = _tau(split, resampling, absent)
    out["length"] = _length(split, resampling)
    out["calibration"] = calibration(split, resampling=resampling) if pairs else None
    out |= _spreads(split, shared=shared, resampling=resampling, absent=absent)
    kind = recognize(split, correct)
    out["benchmark"] = None
    if kind is None or correct is None:
        absent["benchmark"] = NO_BENCHMARK
    else:
        scores = benchmark(split, correct, kind=kind, resampling=resampling)
        out["benchmark"] = {"kind": kind, **scores._asdict()}
    return out | {"absent": absent}


def _tau(split: ScoredSplit, resampling: Resampling, absent: dict[str, str]) -> dict[str, Any] | None:
    if not rankable(split):
        absent["tau"] = NO_GOLD
        return None
    average, undefined = mean_tau(split, resampling=resampling)
    return {"mean": average, "undefined": undefined}


def _length(split: ScoredSplit, resampling: Resampling) -> dict[str, Any]:
    correlation = length_correlation(split, resampling=resampling)
    out: dict[str, Any] = {
        "spearman": correlation.overall,
        "spearman_within_prompt": correlation.within_prompt,
        "undefined": correlation.undefined,
    }
    names = ("longer_wins", "over_longer_wins", "matched", "chosen_shorter", "chosen_longer", "tolerance")
    if not len(split.pairs):
        return out | dict.fromkeys(names)
    return out | length_accuracy(split, resampling=resampling)._asdict()


def _spreads(split: ScoredSplit, *, shared: Frame, resampling: Resampling, absent: dict[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {"reward": None, "dispersion": None, "before_final_norm": None, "decomposition": None}
    found, reference = quantities(split), quantities(shared.reference)
    places = {"reward": "reward", "norm": "dispersion", "before_norm": "before_final_norm"}
    for name, values in found.items():
        entry = moments(values, split.prompt, resampling=resampling)._asdict()
        entry["histogram"] = histogram(values, shared.edges[name])
        moved = drift(reference[name], values) if split is not shared.reference and name in reference else None
        entry["drift"] = {"from": shared.reference.name, **moved._asdict()} if moved else None
        out[places[name]] = entry
    del out["reward"]["cv"]
    out["reward"]["within_prompt_std"] = within_prompt_std(split, resampling=resampling)
    if split.hidden is None:
        absent |= dict.fromkeys(("dispersion", "decomposition"), NO_HIDDEN)
    else:
        rank = effective_rank(split.hidden, level=resampling.level)
        out["dispersion"] |= {"measured_at": "head input", "effective_rank": rank}
        if split.head is None:
            absent["decomposition"] = "the head's weight was not recorded"
        else:
            out["decomposition"] = decomposition(split, resampling=resampling)
    if split.before_norm is None:
        absent["before_final_norm"] = NO_NORM
    else:
        out["before_final_norm"]["measured_at"] = "before the final normalisation"
    return out


def check_split(split: ScoredSplit, *, model: str) -> None:
    """Refuse arrays that no measure can trust.

    Raises:
        DataError: If the split is empty, its prompts are not in order, or a pair crosses prompts.
        NonFiniteError: If a reward is NaN or infinite.
    """
    where = f"{split.name} under {model}"
    if not len(split.reward):
        raise DataError(f"{where}: no responses", cure="give a file with at least one usable row")
    bad = np.flatnonzero(~np.isfinite(split.reward))
    if len(bad):
        row = split.ids[split.prompt[bad[0]]] if split.ids else f"number {split.prompt[bad[0]] + 1}"
        raise NonFiniteError(
            f"{where}: {len(bad)} of {len(split.reward)} rewards are not finite, the first "
            f"({split.reward[bad[0]]}) at prompt {row}; score in float32 or bfloat16"
        )
    given = (split.prompt, split.length, split.gold, split.hidden, split.before_norm)
    if {len(values) for values in given if values is not None} != {len(split.reward)}:
        raise DataError(f"{where}: what is recorded of responses must be given for each of the {len(split.reward)}")
    if (np.diff(split.prompt) < 0).any():
        raise DataError(f"{where}: responses must come in order of prompts")
    ends = split.pairs.reshape(-1, 2)
    outside = (ends < 0) | (ends >= len(split.reward))
    if outside.any() or (split.prompt[ends[:, 0]] != split.prompt[ends[:, 1]]).any():
        raise DataError(f"{where}: a pair does not lie within one prompt")
