"""Measuring policies themselves: on held-out prompts and pairs, against a reference, without a gold model."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from trueup.data.rows import Prompt, prompt_text
from trueup.endpoints.settings import split_label
from trueup.errors import RecipeError
from trueup.files import check_output, write_text, written_together
from trueup.measure.bootstrap import Resampling
from trueup.measure.policy_audit import audit_policies
from trueup.measure.policy_audit_records import PolicyRecord
from trueup.recipes import offline_policies as policies_of
from trueup.recipes.audit_reward import DTYPES
from trueup.recipes.config import dump
from trueup.recipes.offline_inputs import HeldOut, held_out, short_enough
from trueup.recipes.offline_policies import Made
from trueup.recipes.offline_records import Held, Judges, Work
from trueup.recipes.offline_settings import OfflineInputs
from trueup.recipes.places import named_places
from trueup.recipes.provenance import versions
from trueup.recipes.scoring import check_device
from trueup.report.page import write_page
from trueup.report.policy_audit import policy_audit_page
from trueup.rewards.function import import_function
from trueup.rewards.load import load_reward
from trueup.rewards.load_oracle import load_oracle

logger = logging.getLogger(__name__)


def audit_offline(recipe: OfflineInputs) -> Mapping[str, Any]:
    """Draw, compare, verify and score; measure; write `audit.json` and `report.html`.

    All policies and the reference are held in memory together.

    Returns:
        The documented mapping, as in `audit.json`.

    Raises:
        DataError: Prompts or pairs cannot be used, or a policy was trained on them.
        RecipeError: Settings do not fit together, or a judge cannot be used or fails.
        CheckpointError: A policy, the reference or a reward model cannot be loaded.
        OutputError: The folder cannot be written.
    """
    check_output(recipe.output, folder=True)
    check_device(recipe.device)
    places = named_places([_named(run) for run in recipe.runs])
    policies = {name: policies_of.made(name, place) for name, place in places.items()}
    reference = policies_of.reference_of(policies, stated=recipe.reference)
    held = held_out(recipe, tuple(policies.values()), reference=reference)
    judges = _judges(recipe)
    try:
        records, others, prompts = _measured(recipe, policies, reference, held=held, judges=judges)
    except torch.OutOfMemoryError as error:
        raise RecipeError("the GPU is out of memory; lower token_budget, which changes no number") from error
    result = audit_policies(
        records,
        reference=others,
        prompts=[prompt_text(prompt) for prompt in prompts],
        resampling=Resampling(resamples=recipe.resamples, level=recipe.level, seed=recipe.seed),
        most_examples=recipe.examples,
        created_by={"versions": versions(), "recipe": dump(recipe), **held.sources, "policies": dict(places)},
    )
    with written_together(recipe.output) as place:
        write_text(place / "audit.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        write_page(policy_audit_page(result), place / "report.html")
    return result


def _named(run: str) -> str:
    label, place = split_label(run)
    return run if label else f"{policies_of.name_of(place)}={place}"


def _judges(recipe: OfflineInputs) -> Judges:
    """Everyone who judges, loaded before anything is drawn, so that a wrong name stops the audit at once."""
    options: dict[str, Any] = {
        "device": recipe.device,
        "dtype": DTYPES[recipe.dtype],
        "token_budget": recipe.token_budget,
        "trust_remote_code": recipe.trust_remote_code,
        "progress": True,
    }
    found = Judges(
        oracle=load_oracle(recipe.oracle, **options) if recipe.oracle else None,
        reward=load_reward(recipe.reward, **options) if recipe.reward else None,
        verifier=import_function(recipe.verifier) if recipe.verifier else None,
    )
    if found.oracle and found.reward and found.oracle.name == found.reward.name:
        raise RecipeError(f"oracle and reward are both called {found.oracle.name!r}; write LABEL=place for one of them")
    return found


def _measured(
    recipe: OfflineInputs,
    policies: Mapping[str, Made],
    reference: Made | None,
    *,
    held: HeldOut,
    judges: Judges,
) -> tuple[dict[str, PolicyRecord], tuple[str, PolicyRecord] | None, tuple[Prompt, ...]]:
    """What measures read of each policy and of the reference, and the prompts that were answered."""
    opened = {name: policies_of.open_policy(about, recipe) for name, about in policies.items()}
    other = policies_of.open_policy(reference, recipe) if reference is not None else None
    if other is not None:
        other = policies_of.asked_alike(other, next(iter(opened.values())))
    everyone = [*opened.values(), *([other] if other is not None else [])]
    prompts, long = short_enough(
        held.prompts, everyone, max_new_tokens=recipe.max_new_tokens, source=str(recipe.prompts)
    )
    notes = (*held.notes, *([f"{long} prompts leave a model no room for an answer and are not asked"] if long else []))
    for note in notes:
        logger.warning("%s", note)
    about = Held(reference, other) if reference is not None and other is not None else None
    work = Work(recipe=recipe, prompts=prompts, rows=held.rows, judges=judges, held=about)
    theirs = work.record_of_reference()
    records = {}
    for name, policy in policies.items():
        record = work.record(policy, opened[name], theirs)
        records[name] = replace(record, notes=(*notes, *record.notes))
    return records, (about.about.name, theirs) if about is not None and theirs is not None else None, prompts
