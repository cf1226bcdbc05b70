"""One name for any policy: a directory, a run, a hub id, a Python function, or a server."""

from dataclasses import replace
from pathlib import Path

import torch

from trueup.endpoints.settings import build, is_settings_file, read_address, read_settings, split_label
from trueup.errors import RecipeError
from trueup.policies.base import Policy
from trueup.policies.function import import_policy
from trueup.policies.http import HttpPolicySettings, open_http_policy


def load_policy(
    name: str,
    *,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    token_budget: int = 65_536,
    progress: bool = False,
    trust_remote_code: bool = False,
) -> Policy:
    """Load a policy.

    Args:
        name: `package.module:function`, a model directory, a run directory of ours (its `model` is taken), a hub id;
            `http://HOST` of an OpenAI-style server, its settings being the query (`?model=NAME`); or a YAML or JSON
            file of settings. `LABEL=` in front gives it a name for reports.
        max_new_tokens: Length limit in tokens; a function keeps its own.
        temperature: Of sampling; a function keeps its own.
        top_p: Probability mass that is sampled from; a function keeps its own.
        device: Where models run; CUDA if there is one.
        dtype: Type of weights; as saved by default.
        token_budget: Token slots of a model held at a time.
        progress: Whether a progress bar is shown.
        trust_remote_code: Whether code that comes with a model may run.

    Raises:
        RecipeError: The function cannot be imported, or settings cannot be used.
        CheckpointError: There is no such model, or it is no causal language model.
    """
    label, place = split_label(name)
    settings = _server(place)
    if settings is not None:
        return open_http_policy(
            settings,
            name=label,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            progress=progress,
        )
    if ":" in place and not Path(place).exists():
        policy = import_policy(place)
        return replace(policy, name=label or policy.name)
    from trueup.policies.model import load_model_policy  # a server needs no model code

    return load_model_policy(
        place,
        label=label,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        device=device,
        dtype=dtype,
        token_budget=token_budget,
        progress=progress,
        trust_remote_code=trust_remote_code,
    )


def _server(place: str) -> HttpPolicySettings | None:
    """Settings of a server, if the name is that of one or of a file that describes one."""
    if place.startswith(("http://", "https://")):
        return build(HttpPolicySettings, read_address(place), place=place.partition("?")[0])
    if not is_settings_file(place) or Path(place).is_dir():
        return None
    values = read_settings(Path(place))
    if values.pop("kind", "http") != "http":
        raise RecipeError(f"{place}: a policy's `kind` is http; a judge is a reward")
    return build(HttpPolicySettings, values, place=place)
