"""Inputs that are partly what the policy itself would have said, as IFT reads responses."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trueup.errors import RecipeError


def shared_mix(terms: Iterable[object]) -> float:
    """The `mix` that all terms of a loss agree on; a term that has none reads its responses as they are.

    Raises:
        RecipeError: They do not agree, and one pass cannot serve them.
    """
    found = [(type(term).__name__, float(getattr(term, "mix", 0.0))) for term in terms]
    if len({mix for _, mix in found}) > 1:
        words = ", ".join(f"{name} {mix:g}" for name, mix in found)
        raise RecipeError(f"all terms of a loss read the same inputs, so they need one mix, got {words}; set mix to 0")
    return found[0][1] if found else 0.0


def mixed_inputs(
    table: nn.Module,
    input_ids: Int[Tensor, "rows slots"],
    target: Int[Tensor, " t"],
    predicted: Int[Tensor, " t"],
    *,
    mix: float,
) -> Float[Tensor, "rows slots d"]:
    """`(1 - mix) E(x) + mix E(g)` at the slots of response tokens, `E(x)` elsewhere; E is learned through neither.

    Args:
        table: E, the input embeddings.
        input_ids: x, all tokens.
        target: Flat slots of the response tokens.
        predicted: g, the token to be mixed in at each of them.
        mix: Share of it.
    """
    given: Tensor = table(input_ids)
    with torch.no_grad():
        flat = given.flatten(0, 1)
        mixed = flat.index_copy(0, target, torch.lerp(flat[target], table(predicted), mix))
    # The table stays in the graph, with a gradient of 0: devices that exchange gradients wait for every weight's.
    return mixed.view_as(given) + 0 * given
