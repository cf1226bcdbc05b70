"""What `bsr_four_shifts.py` runs: one configuration a run, and the lists of them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1)
CENTRING = (2.5e-3, 2.5e-2)
DECAYS = (1.0, 10.0, 100.0)
TRACE_EPOCHS = (0, 1, 2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Args:
        model: `decoder` (from scratch), `decoder-lm` (the same, first trained on plain text) or `minilm`.
        data: `superhf`, `harmless` or `helpful`.
        method: `bt`, `hinge`, `norm`, `dr`, `centring` or `bsr`.
        coefficient: lambda of BSR, c of centring; 0 elsewhere.
        reduction: The normaliser of BSR.
        weight_decay: AdamW's.
        epochs: Passes over the training pairs, at a constant learning rate after the warm-up.
        trace: Whether every epoch of `TRACE_EPOCHS` is evaluated on all splits.
        share: Share of training prompts that are used.
        responses: Labelled responses per training prompt; 2 make one pair, 4 make six.
        noise: Share of training prompts whose order is reversed.
        head: `after` or `before` the final normalisation; MiniLM: `pooler` or `cls`.
        gains: Standard deviation of the log of the final RMSNorm's fixed gains; 0 leaves them learned, from 1.
        seed: Of split, held-out models, pairs, head, data order and, from scratch, all weights.
    """

    model: str = "decoder"
    data: str = "superhf"
    method: str = "bt"
    coefficient: float = 0.0
    reduction: str = "official"
    weight_decay: float = 0.0
    epochs: int = 8
    trace: bool = False
    share: float = 1.0
    responses: int = 2
    noise: float = 0.0
    head: str = "after"
    gains: float = 0.0
    seed: int = 0

    @property
    def key(self) -> str:
        """A name that is unique to the configuration: what differs from the default."""
        return ",".join(f"{name}={value}" for name, value in asdict(self).items() if value != _DEFAULTS[name])


_DEFAULTS: Mapping[str, Any] = asdict(Run())

METHODS: Mapping[str, Mapping[str, Any]] = (
    {"BT": {}, "hinge": {"method": "hinge"}, "norm": {"method": "norm"}, "DR": {"method": "dr"}}
    | {f"BSR {value:g}": {"method": "bsr", "coefficient": value} for value in LAMBDAS}
    | {f"centring {value:g}": {"method": "centring", "coefficient": value} for value in CENTRING}
    | {f"weight decay {value:g}": {"weight_decay": value} for value in DECAYS}
)
"""Rows of the main tables."""

MAP_METHODS = ("BT", "BSR 0.01", "BSR 0.1")
TRACE_METHODS = ("BT", "BSR 0.01", "BSR 0.1")

MAP: Mapping[str, Mapping[str, Any]] = {
    "base design": {},
    "half of the prompts": {"share": 0.5},
    "a quarter of the prompts": {"share": 0.25},
    "6 pairs a prompt": {"responses": 4},
    "25% of labels reversed": {"noise": 0.25},
    "head before the norm": {"head": "before"},
    "uneven fixed gains": {"gains": 1.0},
    "pretrained trunk": {"model": "decoder-lm"},
    "pretrained trunk, before norm": {"model": "decoder-lm", "head": "before"},
}
"""Conditions under which BSR is compared with BT, on the decoder."""

MINILM = Run(model="minilm", head="pooler", epochs=4)
MINILM_MAP: Mapping[str, Mapping[str, Any]] = {
    "MiniLM, pooler": {},
    "MiniLM, normalised state": {"head": "cls"},
}
HH_EPOCHS = 2
REDUCTIONS = ("official", "mean", "sum")


def spread(base: Run, changes: Sequence[Mapping[str, Any]], seeds: int) -> list[Run]:
    """Every change of the base run under every seed, seeds outermost, so that early results are whole rows."""
    return [replace(base, **change, seed=seed) for seed, change in itertools.product(range(seeds), changes)]


@dataclass(frozen=True)
class Plan:
    """All runs by part, and the seeds of each part."""

    parts: Mapping[str, tuple[Run, ...]]
    seeds: Mapping[str, int]

    @property
    def runs(self) -> list[Run]:
        """Every run once."""
        return list(dict.fromkeys(run for part in self.parts.values() for run in part))


SEEDS = {"decoder": 8, "minilm": 8, "trace": 4, "map": 4, "hh": 3, "reduction": 4, "minilm_map": 8}
QUICK = {"decoder": 2, "minilm": 0, "trace": 0, "map": 0, "hh": 0, "reduction": 0, "minilm_map": 0}


def lanes(plan: Plan) -> tuple[list[Run], list[Run]]:
    """Two ordered lists of work: the encoder first in one, the decoder first in the other; then each helps.

    Low seeds come first, so that a run that is stopped has something of every part.
    """
    first = [run for name in ("minilm", "minilm_map", "hh") for run in plan.parts[name]]
    second = [run for name in ("decoder", "trace", "map", "reduction") for run in plan.parts[name]]
    first, second = (sorted(runs, key=lambda run: run.seed) for runs in (first, second))
    return list(dict.fromkeys([*first, *second[::-1]])), list(dict.fromkeys([*second, *first[::-1]]))


def make_plan(*, quick: bool) -> Plan:
    """The full experiment, or a small part of it that shows that everything runs."""
    seeds = QUICK if quick else SEEDS
    crossed, minilm_crossed = (
        [point | METHODS[name] for point in table.values() for name in MAP_METHODS] for table in (MAP, MINILM_MAP)
    )
    reductions = [{"method": "bsr", "coefficient": 1e-2, "reduction": name} for name in REDUCTIONS]
    traced = [{"trace": True, "epochs": TRACE_EPOCHS[-1]} | METHODS[name] for name in TRACE_METHODS]
    hh = [
        {"data": data, "epochs": HH_EPOCHS} | METHODS[name] for data in ("helpful", "harmless") for name in MAP_METHODS
    ]
    main = [change for name, change in METHODS.items() if not quick or name.startswith(("BT", "BSR"))]
    changes: dict[str, list[Mapping[str, Any]]] = {
        "decoder": main,
        "minilm": minilm_methods(),
        "trace": traced,
        "map": crossed,
        "hh": hh,
        "reduction": [METHODS["BT"], *reductions],
        "minilm_map": minilm_crossed,
    }
    bases = {name: MINILM if name.startswith("minilm") else Run() for name in changes}
    return Plan({name: tuple(spread(bases[name], changes[name], seeds[name])) for name in changes}, seeds)


def minilm_methods() -> list[Mapping[str, Any]]:
    """Main-table rows that MiniLM runs too; the other strengths of the controls are left to the decoder."""
    left_out = {f"centring {CENTRING[0]:g}", *(f"weight decay {value:g}" for value in DECAYS[1:])}
    return [change for name, change in METHODS.items() if name not in left_out]
