"""The oracle of `trueup train inpo`: loading it, keeping its answers, and measuring how far it contradicts itself."""

import json
import logging
from collections.abc import Sequence

from trueup.data.fingerprint import prompt_record
from trueup.data.rows import Prompt
from trueup.endpoints.settings import split_label
from trueup.errors import RecipeError
from trueup.files import write_text
from trueup.measure.plain import plain
from trueup.recipes.inpo_settings import TrainInpo
from trueup.recipes.places import fingerprint_of
from trueup.rewards.kept_answers import KeptOracle
from trueup.rewards.load_oracle import load_oracle
from trueup.rewards.oracle import Contradictions, PreferenceOracle, Symmetrized, contradictions
from trueup.rewards.reward_oracle import RewardOracle

logger = logging.getLogger(__name__)

ANSWERS, CONTRADICTIONS = "answers", "oracle.json"


def open_oracle(recipe: TrainInpo) -> PreferenceOracle:
    """The oracle as the recipe names it, in no way wrapped.

    Raises:
        RecipeError: There is no such oracle, or pairs are to be chosen by a reward and it is none.
        CheckpointError: There is no such model.
    """
    oracle = load_oracle(
        recipe.oracle,
        scale=recipe.oracle_scale,
        token_budget=recipe.token_budget,
        progress=True,
        trust_remote_code=recipe.trust_remote_code,
    )
    if recipe.pairs == "best_worst" and not isinstance(oracle, RewardOracle):
        cure = "write --pairs tournament, or name a reward"
        raise RecipeError(f"best_worst chooses by a reward, and {recipe.oracle} only compares; {cure}")
    return oracle


def oracle_fingerprint(recipe: TrainInpo) -> str | None:
    """A hash that changes when the oracle's files do; None where they are elsewhere."""
    return fingerprint_of(split_label(recipe.oracle)[1])


def says_consistent(oracle: PreferenceOracle) -> bool:
    """Whether an oracle states that its two orders agree: a reward does, and whatever has a true `consistent`.

    A Python function says so by an attribute, `prefer.consistent = True`.
    """
    told = getattr(oracle, "consistent", None) or getattr(getattr(oracle, "function", None), "consistent", None)
    return isinstance(oracle, RewardOracle | Symmetrized) or told is True


def with_memory(recipe: TrainInpo, oracle: PreferenceOracle) -> KeptOracle:
    """The oracle, whose answers are kept in the run's folder, apart from those of an earlier state of its files."""
    return KeptOracle(oracle=oracle, folder=recipe.output / ANSWERS, identity=oracle_fingerprint(recipe) or "")


def check_oracle(
    recipe: TrainInpo,
    oracle: PreferenceOracle,
    prompts: Sequence[Prompt],
    *,
    first: Sequence[str],
    second: Sequence[str],
    consistent: bool,
) -> None:
    """Measure how far an oracle contradicts itself, write it down, and warn where that is too much.

    Args:
        recipe: Where to write, and what is too much.
        oracle: The oracle, asked as it is.
        prompts: One for each comparison.
        first: A response to each.
        second: Another response to each.
        consistent: Whether it states that it does not, and so was asked in one order alone.
    """
    found = contradictions(oracle, prompts, first=first, second=second)
    path = recipe.output / CONTRADICTIONS
    record = {
        "oracle": oracle.name,
        "mean": found.mean,
        "position_bias": found.position_bias,
        "reversals": found.reversals,
        "comparisons": found.comparisons,
        "limit": recipe.max_contradiction,
        "asked_in_both_orders": not consistent,
        "worst": [{**one._asdict(), "prompt": prompt_record(one.prompt)} for one in found.worst],
    }
    write_text(path, json.dumps(plain(record), indent=1, ensure_ascii=False) + "\n")
    words = f"{oracle.name} contradicts itself by {found.mean:.3f} on average over {found.comparisons} pairs"
    logger.info("%s (position bias %+.3f, reversals %.3f)", words, found.position_bias, found.reversals)
    if found.mean > recipe.max_contradiction:
        logger.warning(
            "%s, more than max_contradiction (%g): %s; the worst cases are in %s",
            *(words, recipe.max_contradiction, _cure(found, consistent=consistent), path),
        )


def _cure(found: Contradictions, consistent: bool) -> str:
    if consistent:
        return "though it says that it is consistent; let it not say so, and it is asked in both orders"
    favoured = "first" if found.position_bias > 0 else "second"
    return (
        f"it favours what stands {favoured}. Both orders are asked and averaged, so that no place gains by it, but its "
        "preferences may be little more than noise; ask a clearer question or a better judge"
    )
