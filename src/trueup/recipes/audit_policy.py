"""`trueup audit policy`: whether runs went too far, from what was watched, or what policies do on held-out prompts."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueup.data.watched import history, read_points
from trueup.errors import DataError, RecipeError, TrueupError
from trueup.files import check_output, write_text, written_together
from trueup.measure.bootstrap import Resampling
from trueup.measure.foreign_logs import RunLog, read_log
from trueup.measure.log_dialects import DIALECTS
from trueup.measure.policy_audit_verdict import headline as policy_headline
from trueup.measure.policy_run import RunRecord, audit_runs
from trueup.measure.policy_run_verdict import headline
from trueup.recipes.config import dump
from trueup.recipes.offline_settings import OfflineInputs
from trueup.recipes.places import named_places
from trueup.recipes.provenance import versions
from trueup.recipes.run_recipe import refuse_unmeasured
from trueup.report.page import write_page
from trueup.report.policy_run import policy_run_page

logger = logging.getLogger(__name__)

_TRAINING = ("proxy", "entropy", "equal_groups")


@dataclass(frozen=True, kw_only=True)
class AuditPolicy(OfflineInputs):
    """Measure runs side by side: from the record of their own samples, or on held-out prompts and pairs.

    Args:
        dialect: Whose names log files use: trl, trl-ppo, verl or openrlhf; told from the names by default.
    """

    dialect: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dialect not in ("auto", *DIALECTS):
            raise RecipeError(f"dialect must be auto or one of {', '.join(DIALECTS)}, got {self.dialect}")


@dataclass(frozen=True)
class PolicyAudit:
    """A finished audit.

    Args:
        audit: The documented mapping, as in `audit.json`.
        folder: Where it was written.
    """

    audit: Mapping[str, Any]
    folder: Path

    def summary(self) -> str:
        """One line and the verdict for each run or policy, and where the page is."""
        marks = {"good": "+", "watch": "~", "bad": "-"}
        told = headline if "runs" in self.audit else policy_headline
        lines = []
        for name, result in self.audit.get("runs", self.audit.get("policies", {})).items():
            found = [f"  {marks[one['level']]} {one['text']}" for one in result["verdict"]]
            lines += [f"{name}: {told(result)}", *found, ""]
        return "\n".join([*lines, f"report: {self.folder / 'report.html'}"])


def audit_policy(recipe: AuditPolicy) -> PolicyAudit:
    """Read every run, or measure every policy where prompts or pairs are given; write `audit.json` and `report.html`.

    Raises:
        DataError: A run, a log, prompts or pairs cannot be used.
        RecipeError: Two runs have one name, whose log it is cannot be told, or a judge cannot be used.
        CheckpointError: A policy cannot be loaded.
        OutputError: The folder cannot be written.
    """
    if recipe.is_asked:
        from trueup.recipes.audit_offline import audit_offline  # records of runs need no model code

        return PolicyAudit(audit_offline(recipe), recipe.output)
    check_output(recipe.output, folder=True)
    places = named_places([_named(run) for run in recipe.runs])
    records = {name: read_run(Path(place), dialect=recipe.dialect) for name, place in places.items()}
    result = audit_runs(
        records,
        resampling=Resampling(resamples=recipe.resamples, level=recipe.level, seed=recipe.seed),
        most_examples=recipe.examples,
        created_by={"versions": versions(), "recipe": dump(recipe), "sources": dict(places)},
    )
    with written_together(recipe.output) as place:
        write_text(place / "audit.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        write_page(policy_run_page(result), place / "report.html")
    return PolicyAudit(result, recipe.output)


def _named(run: str) -> str:
    """A log of a usual name is called as its folder is."""
    path = Path(run)
    usual = path.name in ("metrics.jsonl", "trainer_state.json", "watch.jsonl") and len(path.parts) > 1
    return f"{path.parent.name}={run}" if usual and "=" not in run and path.parent.name else run


def read_run(place: Path, *, dialect: str = "auto") -> RunRecord:
    """All that is known of the run at a place: a run folder of ours, a folder with a log, or a log file.

    Raises:
        DataError: There is nothing to read, or it is damaged.
    """
    if place.name == "watch.jsonl":
        place = place.parent
    if (place / "watch.jsonl").is_file():
        return RunRecord(
            watched=history(read_points(place / "watch.jsonl")),
            source=str(place),
            stopped=_stopped(place / "stopped.json"),
            training=_series(_training_log(place / "metrics.jsonl")),
        )
    refuse_unmeasured(place)
    ours = dialect == "auto" and (place / "recipe.yaml").is_file() and (place / "metrics.jsonl").is_file()
    log = read_log(place, dialect="trueup-training" if ours else dialect)
    note = "Nothing was watched: these are means of training rollouts" if ours else f"Read as a log of {log.dialect}"
    return RunRecord(watched=log.watched(), source=str(place), training=_series(log), notes=(note, *log.notes))


def _stopped(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError("is not JSON", file=path, cure="delete it: it only says why the run was stopped") from error
    return found if isinstance(found, Mapping) else None


def _training_log(path: Path) -> RunLog | None:
    if not path.is_file():
        return None
    try:
        return read_log(path, dialect="trueup-training")
    except TrueupError as error:
        logger.warning("the training log is left out: %s", error)
        return None


def _series(log: RunLog | None) -> dict[str, tuple[list[int], list[float]]]:
    if log is None:
        return {}
    return {name: series for name in _TRAINING if (series := log.series(name))[0]}
