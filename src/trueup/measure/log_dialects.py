"""What other frameworks call the quantities of an online run, and in which unit their KL is.

A KL of whole responses is what over-optimisation is measured against. Where a framework logs the mean over tokens, it
is multiplied by the mean length, which is exact if every response has the same length and near it otherwise.

**Source** The frameworks' own sources: TRL 1.16 (`kl`: mean over tokens), its PPO of before (`objective/kl`: sum over
the response), verl (`actor/reward_kl_penalty`, `actor/kl_loss`: means over tokens; `actor/ppo_kl` is the distance to
the policy of the step before and is not used), OpenRLHF (`kl`: mean over tokens).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from trueup.errors import RecipeError

Quantity = Literal["proxy", "gold", "kl", "tokens", "ended", "entropy", "equal_groups", "distinct_2", "repetition"]
"""`proxy`, `gold`: mean reward; `kl`: nats a response; `tokens`: mean length; `ended`: share ended by itself;
`entropy`: nats a token; `equal_groups`: share of groups whose rewards are all equal."""


@dataclass(frozen=True)
class Dialect:
    """Names of one framework; of several for one quantity the first that is there counts.

    Args:
        name: What a user calls it.
        signs: Names that tell it from the others.
        names: Names of each quantity. For `ended`, a name that begins with `!` is the share that was cut.
        kl_unit: Whether its KL is summed over a response or averaged over tokens.
        steps: Names of the step.
    """

    name: str
    signs: tuple[str, ...]
    names: Mapping[Quantity, tuple[str, ...]]
    kl_unit: Literal["response", "token"]
    steps: tuple[str, ...] = ("step", "global_step", "_step")


TRUEUP = Dialect(
    "trueup",
    ("watch/proxy", "watch/kl", "watch/gold"),
    {
        "proxy": ("watch/proxy",),
        "gold": ("watch/gold",),
        "kl": ("watch/kl",),
        "tokens": ("watch/length",),
        "ended": ("watch/ended",),
        "distinct_2": ("watch/distinct_2",),
        "repetition": ("watch/repetition",),
    },
    "response",
)
TRAINING = Dialect(
    "trueup-training",
    (),
    {
        "proxy": ("reward",),
        "kl": ("kl",),
        "tokens": ("completions/mean_length",),
        "ended": ("!completions/clipped_ratio",),
        "entropy": ("entropy",),
        "equal_groups": ("frac_reward_zero_std",),
    },
    "response",
)
VERL = Dialect(
    "verl",
    ("critic/score/mean", "response_length/mean", "actor/kl_loss", "actor/reward_kl_penalty"),
    {
        "proxy": ("critic/score/mean", "critic/rewards/mean"),
        "gold": ("gold",),
        "kl": ("actor/reward_kl_penalty", "critic/kl", "actor/kl_loss"),
        "tokens": ("response_length/mean",),
        "ended": ("!response_length/clip_ratio",),
        "entropy": ("actor/entropy", "actor/entropy_loss"),
    },
    "token",
    ("step", "training/global_step", "_step"),
)
OLD_TRL = Dialect(
    "trl-ppo",
    ("objective/kl", "objective/scores", "objective/rlhf_reward"),
    {
        "proxy": ("objective/scores", "env/reward_mean", "ppo/mean_scores"),
        "gold": ("eval/gold", "gold"),
        "kl": ("objective/kl",),
        "tokens": ("tokens/responses_len_mean",),
        "entropy": ("objective/entropy", "policy/entropy_avg"),
    },
    "response",
    ("step", "global_step", "episode", "_step"),
)
OPENRLHF = Dialect(
    "openrlhf",
    ("train/kl", "response_length", "train/response_length"),
    {
        "proxy": ("train/reward", "reward"),
        "gold": ("eval/gold", "gold"),
        "kl": ("train/kl", "kl"),
        "tokens": ("train/response_length", "response_length"),
        "ended": ("!train/truncated", "!truncated"),
        "entropy": ("train/entropy_loss", "entropy_loss"),
    },
    "token",
    ("train/global_step", "global_step", "step", "_step"),
)
TRL = Dialect(
    "trl",
    ("completions/mean_length", "frac_reward_zero_std", "completions/clipped_ratio"),
    {
        "proxy": ("reward", "rewards"),
        "gold": ("watch/gold", "gold", "eval_gold"),
        "kl": ("kl",),
        "tokens": ("completions/mean_length", "completion_length"),
        "ended": ("!completions/clipped_ratio",),
        "entropy": ("entropy",),
        "equal_groups": ("frac_reward_zero_std",),
    },
    "token",
)
DIALECTS = {dialect.name: dialect for dialect in (TRUEUP, TRAINING, VERL, OLD_TRL, OPENRLHF, TRL)}


def dialect_of(names: Iterable[str], asked: str = "auto") -> Dialect:
    """The dialect asked for, or the first that one of the names is a sign of.

    Args:
        names: All names that a log holds.
        asked: Name of a dialect, or `auto`.

    Raises:
        RecipeError: The dialect is unknown, or none of the names tells it.
    """
    if asked in DIALECTS:
        return DIALECTS[asked]
    if asked != "auto":
        raise RecipeError(f"dialect must be auto or one of {', '.join(DIALECTS)}, got {asked}")
    held = set(names)
    found = next((dialect for dialect in DIALECTS.values() if held.intersection(dialect.signs)), None)
    if found is None:
        few = ", ".join(sorted(held)[:8]) or "nothing"
        raise RecipeError(f"cannot tell whose log this is from {few}; name its dialect: {', '.join(DIALECTS)}")
    return found
