"""`trueup lab reproduce NAME`: a paper's claims, run again in the small language world."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trueup.errors import RecipeError
from trueup.files import check_output
from trueup.lab.reproduce.a_lol import a_lol
from trueup.lab.reproduce.alarms import alarms
from trueup.lab.reproduce.bsr import bsr
from trueup.lab.reproduce.bsr_rloo import bsr_rloo
from trueup.lab.reproduce.correlated_proxies import correlated_proxies
from trueup.lab.reproduce.correlated_proxies_language import correlated_proxies_language
from trueup.lab.reproduce.elastic_reset import elastic_reset
from trueup.lab.reproduce.h_dpo import h_dpo
from trueup.lab.reproduce.ift import ift
from trueup.lab.reproduce.inpo import inpo
from trueup.lab.reproduce.modpo import modpo
from trueup.lab.reproduce.rm_ensembles import rm_ensembles
from trueup.lab.reproduce.rm_ensembles_ppo import rm_ensembles_ppo
from trueup.lab.reproduce.salsa import salsa
from trueup.lab.reproduce.scale import Scale, full_scale, quick_scale
from trueup.lab.reproduce.scaling_laws import scaling_laws
from trueup.lab.reproduce.scaling_laws_rl import scaling_laws_rl
from trueup.lab.reproduce.superhf import superhf
from trueup.lab.reproduce.warp import warp
from trueup.recipes.config import Recipe, check_range
from trueup.report.evidence import Evidence, write_evidence

EXPERIMENTS: dict[str, Callable[..., Evidence]] = {
    "scaling-laws": scaling_laws,
    "rm-ensembles": rm_ensembles,
    "bsr": bsr,
    "alarms": alarms,
    "correlated-proxies": correlated_proxies,
    "correlated-proxies-language": correlated_proxies_language,
    "scaling-laws-rl": scaling_laws_rl,
    "bsr-rloo": bsr_rloo,
    "elastic-reset": elastic_reset,
    "salsa": salsa,
    "warp": warp,
    "rm-ensembles-ppo": rm_ensembles_ppo,
    "superhf": superhf,
    "h-dpo": h_dpo,
    "ift": ift,
    "inpo": inpo,
    "modpo": modpo,
    "a-lol": a_lol,
}


@dataclass(frozen=True, kw_only=True)
class LabReproduce(Recipe):
    """Run a paper's claims again and write a page of evidence.

    Args:
        names: Which: scaling-laws, rm-ensembles, bsr, alarms, correlated-proxies, correlated-proxies-language,
            scaling-laws-rl, bsr-rloo, elastic-reset, salsa, warp, rm-ensembles-ppo, superhf, h-dpo, ift, inpo,
            modpo, a-lol.
        quick: A much smaller run that takes minutes, to see the whole.
        seeds: Number of independent worlds; 5 by default, 2 with quick.
        workers: Processes; each computes one world at a time. All cores by default.
        output: Folder of the page and its figures; docs/evidence by default, quick-evidence with quick.
        folder: Where policies, pools and scores are kept; the user's cache folder by default.
    """

    names: list[str]
    quick: bool = False
    seeds: int | None = None
    workers: int | None = None
    output: Path | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in EXPERIMENTS]
        if unknown or not self.names:
            found = f"there is no experiment {unknown[0]!r}" if unknown else "no experiment is named"
            raise RecipeError(f"{found}; known: {', '.join(EXPERIMENTS)}")
        check_range(self, "seeds", "workers", low=1)

    @property
    def scale(self) -> Scale:
        """How large the run is."""
        make = quick_scale if self.quick else full_scale
        workers = self.workers or os.cpu_count() or 1
        return make(seeds=self.seeds, workers=workers, folder=self.folder)


@dataclass(frozen=True)
class Reproduced:
    """What was written.

    Args:
        pages: The pages.
        evidence: What stands on each.
    """

    pages: tuple[Path, ...]
    evidence: tuple[Evidence, ...]

    def summary(self) -> str:
        """Each claim's verdict, and where the page is."""
        lines: list[str] = []
        for page, evidence in zip(self.pages, self.evidence, strict=True):
            lines += [evidence.title, *(f"  {c.verdict}: {c.statement} {c.effect}" for c in evidence.claims)]
            lines += [f"page: {page}", ""]
        return "\n".join(lines)


def lab_reproduce(recipe: LabReproduce) -> Reproduced:
    """Run the experiments, one after another; what an earlier run has computed is used again.

    Raises:
        OutputError: The folder cannot be written.
    """
    output = recipe.output or (Path("quick-evidence") if recipe.quick else Path("docs") / "evidence")
    check_output(output, folder=True)
    pages, found = [], []
    for name in recipe.names:
        options = " --quick" if recipe.quick else ""
        options += f" --seeds {recipe.seeds}" if recipe.seeds else ""
        evidence = EXPERIMENTS[name](recipe.scale, command=f"trueup lab reproduce {name}{options}", progress=True)
        pages.append(write_evidence(evidence, output))
        found.append(evidence)
    return Reproduced(tuple(pages), tuple(found))
