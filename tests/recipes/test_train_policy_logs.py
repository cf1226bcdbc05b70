"""What a run of `trueup train policy` logs and shows."""

import re

from transformers import TrainerControl, TrainerState

from small_policy_runs import ROOT, documented, names_logged, recipe
from trueup.objectives import POLICY_OBJECTIVES, POLICY_REGULARIZERS, PPO
from trueup.recipes.train_policy import train_policy
from trueup.train.callbacks import ProgressBar
from trueup.train.step import term_name

# What is logged and shown


def section() -> str:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return page.partition("## Of a policy that learns from its own samples")[2].partition("## ")[0]


def test_the_page_names_what_is_logged_and_nothing_else(done, base, tmp_path):
    in_words = set(re.findall(r"`([a-z0-9_/]+)`", "\n".join(re.findall(r"^\| (.*?) \|", section(), re.MULTILINE))))
    losses = {f"loss/{term_name(cls())}" for cls in (*POLICY_OBJECTIVES.values(), *POLICY_REGULARIZERS.values())}
    assert {one for one in in_words if one.startswith("loss/")} == losses
    terms = [cls() for cls in POLICY_REGULARIZERS.values()]
    train_policy(recipe(base, tmp_path, method=PPO(), regularizers=terms, max_steps=1))
    seen = names_logged(tmp_path / "run") | names_logged(done)
    assert {one for one in seen if not re.match("train_|total_flos", one)} <= documented()
    elsewhere = {"engine_gap"}  # where another engine draws, as in tests of the collector
    assert {one for one in in_words if not one.startswith("loss/")} <= seen | elsewhere


def test_the_bar_shows_how_a_policy_does():
    shown = []

    class Bar:
        def set_postfix(self, values):
            shown.append(dict(values))

    bar = ProgressBar("policy")
    bar.bar = Bar()
    for logs in ({"reward": 1.5, "kl": 0.25, "entropy": 9.0}, {"watch/gold": 0.5, "watch/kl": 2.0, "watch/ended": 7.0}):
        bar.on_log(None, TrainerState(), TrainerControl(), logs=logs)
    assert shown[0] == {"reward": "1.500", "kl": "0.250"}
    assert shown[1] == shown[0] | {"watch/gold": "0.500", "watch/kl": "2.000"}


# What is refused, in one message and before anything is written
