"""The command line: parse, call, print. All logic is in the recipes."""

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from trueup import __version__
from trueup.errors import RecipeError, TrueupError

USER_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
_RESUME = "; the same command with --resume goes on from the last checkpoint"
STOPPED = {
    ("train", "reward"): _RESUME,
    ("train", "sft"): _RESUME,
    ("train", "policy"): _RESUME,
    ("train", "preference"): _RESUME,
    ("train", "inpo"): "; the same command with --resume goes on from what was drawn, compared and learned",
    ("train", "modpo"): "; the same command with --resume goes on from what was trained, scored and drawn",
    ("bestofn",): "; the same command goes on from what was drawn and scored",
    ("demo",): "; the same command with --overwrite begins anew",
}
"""What an interrupted verb leaves, where that is more than nothing."""


@dataclass(frozen=True)
class Verb:
    """One command.

    Args:
        words: What is typed.
        place: `module:Recipe:function`, imported only when the verb is used.
        summary: One line for the help text.
        positional: Field that plain words fill, if any.
    """

    words: tuple[str, ...]
    place: str
    summary: str
    positional: str | None = None


VERBS = (
    Verb(("demo",), "trueup.recipes.demo:Demo:demo", "the whole story on generated data; ends with report.html"),
    Verb(("train", "reward"), "trueup.recipes.train_reward:TrainReward:train_reward", "train a reward model"),
    Verb(("train", "sft"), "trueup.recipes.train_sft:TrainSft:train_sft", "fine-tune a policy on demonstrations"),
    Verb(
        ("train", "preference"),
        "trueup.recipes.train_preference:TrainPreference:train_preference",
        "train a policy on preferences between given responses, or on rewards of single ones",
    ),
    Verb(
        ("train", "inpo"),
        "trueup.recipes.train_inpo:TrainInpo:train_inpo",
        "train a policy on preferences between its own responses, in rounds, by INPO",
    ),
    Verb(
        ("train", "modpo"),
        "trueup.recipes.train_modpo:TrainModpo:train_modpo",
        "train policies on several objectives, one for each weighting, by MODPO: the front between them",
    ),
    Verb(
        ("train", "policy"),
        "trueup.recipes.train_policy:TrainPolicy:train_policy",
        "optimise a policy against a reward, on its own samples",
    ),
    Verb(
        ("train", "warp"),
        "trueup.recipes.train_warp:TrainWarp:train_warp",
        "optimise policies by WARP: runs, merges, and the front between start and end",
    ),
    Verb(
        ("audit", "reward"),
        "trueup.recipes.audit_reward:AuditReward:audit_reward",
        "measure reward models; writes audit.json and report.html",
        positional="models",
    ),
    Verb(
        ("audit", "policy"),
        "trueup.recipes.audit_policy:AuditPolicy:audit_policy",
        "did a run go too far, or what has a policy learned? writes audit.json and report.html",
        positional="runs",
    ),
    Verb(("score",), "trueup.recipes.score:Score:score", "rewards for a file of prompts and responses"),
    Verb(
        ("bestofn",),
        "trueup.recipes.best_of_n:BestOfN:best_of_n",
        "proxy and gold against KL for n = 1..N, from one pool",
    ),
    Verb(
        ("merge", "soup"),
        "trueup.recipes.merge:MergeSoup:merge_soup",
        "average the weights of models",
        positional="models",
    ),
    Verb(
        ("merge", "slerp"),
        "trueup.recipes.merge:MergeSlerp:merge_slerp",
        "merge models spherically around their base",
        positional="models",
    ),
    Verb(
        ("merge", "liti"),
        "trueup.recipes.merge:MergeLiti:merge_liti",
        "go from a start towards an end, or beyond",
        positional="models",
    ),
    Verb(
        ("merge", "ema"),
        "trueup.recipes.merge:MergeEma:merge_ema",
        "moving average over checkpoints of a run",
        positional="models",
    ),
    Verb(
        ("merge", "adapter"),
        "trueup.recipes.merge_adapter:MergeAdapter:merge_adapter",
        "a whole model from an adapter and its base",
    ),
    Verb(("lab", "build"), "trueup.recipes.lab_build:LabBuild:lab_build", "a scale policy of the small language world"),
    Verb(
        ("lab", "reproduce"),
        "trueup.recipes.lab_reproduce:LabReproduce:lab_reproduce",
        "run a paper's claims again; writes a page of evidence",
        positional="names",
    ),
    Verb(("data", "check"), "trueup.recipes.data_check:DataCheck:data_check", "the data report", positional="files"),
    Verb(("data", "split"), "trueup.recipes.data_split:DataSplit:data_split", "the four distribution-shift splits"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if words in (["--version"], ["version"]):
        print(__version__)
        return 0
    verb = next(
        (v for v in sorted(VERBS, key=lambda v: -len(v.words)) if tuple(words[: len(v.words)]) == v.words), None
    )
    if verb is None:
        return _overview(words)
    _prepare_process()
    try:
        code = _run(verb, words[len(verb.words) :])
        sys.stdout.flush()
        return code
    except TrueupError as error:
        print(f"trueup: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"trueup: stopped{STOPPED.get(verb.words, '; nothing was written')}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has read enough; what Python flushes at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _overview(words: Sequence[str]) -> int:
    asked = not words or any(word in ("-h", "--help", "help") for word in words)
    lines = [f"  trueup {' '.join(verb.words):<14} {verb.summary}" for verb in VERBS]
    text = "usage: trueup VERB [--config recipe.yaml] [--field value ...]\n\n" + "\n".join(lines)
    text += "\n\n`trueup VERB --help` lists a verb's fields, `--print_config` prints its whole recipe."
    if asked:
        print(text)
        return 0
    print(f"trueup: unknown command {' '.join(words[:2])!r}\n\n{text}", file=sys.stderr)
    return USER_ERROR


def _prepare_process() -> None:
    """Readable logs, output in any terminal's encoding, and no network chatter from libraries."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "datasets", "filelock", "urllib3", "fsspec", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Its retries are logged line by line, twice; the error that ends them says enough.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def _quiet_transformers() -> None:
    """Its loading reports and shard bars say what our own checks say better."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RecipeError(message)


def _run(verb: Verb, words: Sequence[str]) -> int:
    from trueup.recipes.config import dump, help_text, load

    module_name, recipe_name, function_name = verb.place.split(":")
    module = importlib.import_module(module_name)
    cls, function = getattr(module, recipe_name), getattr(module, function_name)
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--print_config", action="store_true")
    known, rest = parser.parse_known_args(list(words))
    if known.help:
        plain = f" {verb.positional.upper()} ..." if verb.positional else ""
        print(f"usage: trueup {' '.join(verb.words)}{plain} [--config recipe.yaml] [--field value ...]\n")
        print(help_text(cls))
        return 0
    recipe = load(cls, config=known.config, overrides=_with_positional(rest, verb.positional))
    if known.print_config:
        print(dump(recipe), end="")
        return 0
    _quiet_transformers()
    result = function(recipe)
    _show(result)
    return int(getattr(result, "exit_code", 0))


def _with_positional(words: Sequence[str], field: str | None) -> list[str]:
    """Turn leading plain words into a list-valued field."""
    count = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    if field is None or count == 0:
        return list(words)
    quoted = ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words[:count])
    return [f"--{field}", f"[{quoted}]", *words[count:]]


def _show(result: Any) -> None:
    text: Callable[[], str] | None = getattr(result, "summary", None)
    if text is not None:
        print(text())


if __name__ == "__main__":
    sys.exit(main())
