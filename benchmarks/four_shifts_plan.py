"""What `bsr_four_shifts.py` runs: one configuration a run, and the lists of them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

LAMBDAS = (1e-4, 1e-3, 1e-2, 1e-1)
CENTRING = (2.5e-4, 2.5e-3, 2.5e-2, 2.5e-1)
DECAYS = (0.1, 1.0, 10.0)
TRACE_EPOCHS = (0, 1, 2, 4, 8, 16, 32)


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
        scratch: MiniLM's shape with random weights, all of them trained.
        seed: Of split, held-out models, pairs, head, data order and, from scratch, all weights.
    """

    model: str = "decoder"
    data: str = "superhf"
    method: str = "bt"
    coefficient: float = 0.0
    reduction: str = "official"
    weight_decay: float = 0.0
    epochs: int = 12
    trace: bool = False
    share: float = 1.0
    responses: int = 2
    noise: float = 0.0
    head: str = "after"
    gains: float = 0.0
    scratch: bool = False
    seed: int = 0

    @property
    def key(self) -> str:
        """A name that is unique to the configuration: what differs from the default."""
        return ",".join(f"{name}={value}" for name, value in asdict(self).items() if value != _DEFAULTS[name])

    def with_method(self, method: str, coefficient: float = 0.0) -> "Run":
        """The same run with another loss."""
        return replace(self, method=method, coefficient=coefficient)


_DEFAULTS: Mapping[str, Any] = asdict(Run())

METHODS: Mapping[str, Mapping[str, Any]] = (
    {"BT": {}, "hinge": {"method": "hinge"}, "norm": {"method": "norm"}, "DR": {"method": "dr"}}
    | {f"BSR {value:g}": {"method": "bsr", "coefficient": value} for value in LAMBDAS}
    | {f"centring {value:g}": {"method": "centring", "coefficient": value} for value in CENTRING}
    | {f"weight decay {value:g}": {"weight_decay": value} for value in DECAYS}
)
"""Rows of the main tables."""

MAP_METHODS = ("BT", "BSR 0.001", "BSR 0.01", "BSR 0.1")

MAP: Mapping[str, Mapping[str, Any]] = {
    "base: 1 pair a prompt, all prompts, head after the norm": {},
    "half of the prompts": {"share": 0.5},
    "a quarter of the prompts": {"share": 0.25},
    "6 pairs a prompt (4 responses)": {"responses": 4},
    "25% of labels reversed": {"noise": 0.25},
    "head before the final norm": {"head": "before"},
    "fixed uneven gains (lognormal, 1.0)": {"gains": 1.0},
    "trunk first trained on text": {"model": "decoder-lm"},
    "trunk first trained on text, head before the norm": {"model": "decoder-lm", "head": "before"},
}
"""Conditions under which BSR is compared with BT, on the decoder."""

MINILM = Run(model="minilm", head="pooler", epochs=4)
MINILM_MAP: Mapping[str, Mapping[str, Any]] = {
    "MiniLM, head on the pooler (pretrained)": {},
    "MiniLM, head on the normalised state": {"head": "cls"},
    "MiniLM's shape, random weights": {"scratch": True},
}


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


SEEDS = {"decoder": 8, "minilm": 5, "map": 5, "minilm_map": 4, "trace": 5, "reduction": 5, "hh": 4}
QUICK = {"decoder": 2, "minilm": 0, "map": 0, "minilm_map": 0, "trace": 1, "reduction": 0, "hh": 0}


def make_plan(*, quick: bool) -> Plan:
    """The full experiment, or a small part of it that shows that everything runs."""
    seeds = QUICK if quick else SEEDS
    named = {name: METHODS[name] for name in MAP_METHODS}
    crossed = [point | method for point in MAP.values() for method in named.values()]
    minilm_crossed = [point | method for point in MINILM_MAP.values() for method in named.values()]
    strong = {"method": "bsr", "coefficient": 1e-2}
    reductions = [strong | {"reduction": name} for name in ("official", "mean", "sum")]
    traced = [{"trace": True, "epochs": TRACE_EPOCHS[-1], **named[name]} for name in MAP_METHODS]
    hh = [{"data": data, "epochs": 3, **method} for data in ("helpful", "harmless") for method in named.values()]
    parts = {
        "decoder": spread(Run(), list(METHODS.values()), seeds["decoder"]),
        "minilm": spread(MINILM, minilm_methods(), seeds["minilm"]),
        "trace": spread(Run(), traced, seeds["trace"]),
        "map": spread(Run(), crossed, seeds["map"]),
        "hh": spread(Run(), hh, seeds["hh"]),
        "reduction": spread(Run(), [METHODS["BT"], *reductions], seeds["reduction"]),
        "minilm_map": spread(MINILM, minilm_crossed, seeds["minilm_map"]),
    }
    return Plan({name: tuple(runs) for name, runs in parts.items()}, seeds)


def minilm_methods() -> list[Mapping[str, Any]]:
    """Main-table rows that MiniLM runs: all but the weakest and strongest controls, which cost half a minute each."""
    left_out = {f"centring {CENTRING[0]:g}", f"weight decay {DECAYS[0]:g}", f"weight decay {DECAYS[2]:g}"}
    return [change for name, change in METHODS.items() if name not in left_out]
