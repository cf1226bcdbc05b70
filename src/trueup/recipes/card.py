"""The model card of a finished run, from what the run wrote beside its model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError
from trueup.models.kinds import members_of
from trueup.models.lora_checkpoints import KIND
from trueup.models.side_files import SIDE_FILE, is_adapter
from trueup.report.card import CardFacts
from trueup.report.text import Cell

_CAVEATS = (
    "Rewards of responses to different prompts are not comparable unless training made them so.",
    "A reward is a proxy: audit it with `trueup audit reward` before anything is optimised against it.",
)
_ADAPTER = (
    "This is an adapter: make a whole model of it (`trueup merge adapter`) before a tool scores padded batches, since "
    "the base's configuration may lack the pad token and the regression setting."
)


def card_of(folder: Path, *, metrics: Mapping[str, Cell] | None = None) -> CardFacts:
    """What the card of a saved model says.

    Args:
        folder: The model's folder, with its side file.
        metrics: Measured values by name.

    Raises:
        CheckpointError: The folder holds no model that we trained.
    """
    try:
        side = json.loads((folder / SIDE_FILE).read_text(encoding="utf-8"))
        form = TextFormat(**side["text_format"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder}: has no readable {SIDE_FILE} ({error}); save the model anew") from error
    recipe: Mapping[str, Any] = side.get("recipe") or {}
    data: Mapping[str, Any] = side.get("data") or {}
    terms = [term for term in (recipe.get("objective"), recipe.get("regularizer")) if term]
    return CardFacts(
        name=folder.resolve().parent.name if folder.name == "model" else folder.name,
        base_model=str(recipe.get("model") or ""),
        objective=" with ".join(_words(term) for term in terms) or "not recorded",
        coefficients=_coefficients(side.get("applied_coefficient") or {}, terms),
        data=str(data.get("train") or ""),
        data_fingerprint=str(data.get("fingerprint") or ""),
        rows=int(data.get("rows") or 0),
        members=members_of(side),
        adapters=(side.get("ensemble") or {}).get("kind") == KIND,
        form=form,
        text_format={"Pad token": side.get("pad_token"), "Reward read at": _reading(side.get("pooling"))},
        metrics=dict(metrics or {}),
        caveats=(*_CAVEATS, _ADAPTER) if is_adapter(folder) else _CAVEATS,
        recipe=yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True) if recipe else "",
        versions={str(name): str(version) for name, version in (side.get("versions") or {}).items()},
        seed=side.get("seed"),
    )


def _words(term: Mapping[str, Any]) -> str:
    return str(term["name"]).replace("_", " ")


def _coefficients(applied: Mapping[str, float], terms: list[Mapping[str, Any]]) -> dict[str, Cell]:
    """Every setting of the terms, and the penalty weights that a full step really got."""
    settings: dict[str, Cell] = {
        f"{_words(term)} {name}": value
        for term in terms
        for name, value in term.items()
        if name != "name" and isinstance(value, (int, float, str))
    }
    return settings | {f"{name} on the squared mean reward of a full step": value for name, value in applied.items()}


def _reading(pooling: object) -> str:
    return "the last token" if pooling == "last_token" else "the encoder's own pooling"
