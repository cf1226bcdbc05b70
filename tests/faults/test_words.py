"""The words of the command line and recipe files: help, round trips, and everything that can be typed wrong."""

import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.cli import VERBS, Verb
from trueup.recipes.best_of_n import BestOfN
from trueup.recipes.config import dump, fields_of, help_text, load
from trueup.recipes.train_settings import TrainReward

from .conftest import Workshop
from .making import write_jsonl
from .processes import assert_refused, run

NAMES = [" ".join(verb.words) for verb in VERBS]
NEEDED = {
    "demo": [],
    "train reward": ["--model", "m", "--output", "o", "--data.train", "d"],
    "train policy": ["--model", "m", "--output", "o", "--data.train", "d", "--reward", "r"],
    "train preference": ["--model", "m", "--output", "o", "--data.train", "d"],
    "train inpo": ["--model", "m", "--output", "o", "--data.train", "d", "--oracle", "q:prefer"],
    "train modpo": [
        *("--model", "m", "--output", "o", "--data.train", "d", "--reward", "r", "--weights", "[[0.5, 0.5]]")
    ],
    "train warp": ["--model", "m", "--output", "o", "--data.train", "d", "--reward", "r"],
    "train sft": ["--model", "m", "--output", "o", "--data.train", "d"],
    "audit reward": ["m", "--data", "d"],
    "audit policy": ["r"],
    "bestofn": ["--proxy", "m", "--pool", "p"],
    "lab build": [],
    "lab reproduce": ["scaling-laws"],
    "merge soup": ["m", "n", "--output", "o"],
    "merge slerp": ["m", "n", "--base", "b", "--output", "o"],
    "merge liti": ["m", "n", "--output", "o"],
    "merge ema": ["m", "n", "--decay", "0.5", "--output", "o"],
    "merge adapter": ["--model", "m", "--output", "o"],
    "score": ["--model", "m", "--data", "d", "--output", "o.jsonl"],
    "data check": ["d"],
    "data split": ["--data", "d", "--output", "o"],
}


def recipe_of(verb: Verb) -> type:
    module, name, _ = verb.place.split(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_help_gives_every_field_and_its_meaning(verb: Verb) -> None:
    outcome = run(*verb.words, "--help")
    assert outcome.code == 0
    assert f"usage: trueup {' '.join(verb.words)}" in outcome.out
    listed = dict(re.findall(r"^  --([\w.]+)  .*\n      (.*)$", outcome.out, re.MULTILINE))
    known = {name: meaning for name, _, _, meaning in fields_of(recipe_of(verb))}
    assert listed == known
    assert all(len(meaning) > 10 and meaning.endswith(".") for meaning in listed.values()), listed
    top = {name.partition(".")[0] for name in listed}
    assert top == {field.name for field in dataclasses.fields(recipe_of(verb))}


@pytest.mark.parametrize("verb", VERBS, ids=NAMES)
def test_a_printed_recipe_loads_back(verb: Verb, tmp_path: Path) -> None:
    needed = NEEDED[" ".join(verb.words)]
    outcome = run(*verb.words, *needed, "--print_config")
    assert outcome.code == 0, outcome.err
    (tmp_path / "recipe.yaml").write_text(outcome.out)
    again = run(*verb.words, "--config", tmp_path / "recipe.yaml", "--print_config")
    assert again.out == outcome.out
    assert set(yaml.safe_load(outcome.out)) == {field.name for field in dataclasses.fields(recipe_of(verb))}


OTHER = {
    "seed": [7],
    "epochs": [0.5, 3.0],
    "learning_rate": ["5e-6", 1e-3],
    "max_steps": [None, 5],
    "bf16": [None, True, False],
    "lora.rank": [2],
    "data.max_length": [2, 77],
    "data.flip": [0.25],
    "data.learn": ["all", "listwise", "best_versus_worst"],
    "data.eval": [None, "other file.jsonl", "ü: [weird]"],
    "objective": ["bradley_terry", "hinge", "listwise", "margin"],
    "regularizer": ["none", "bsr", "centering"],
    "regularizer.coefficient": [0.5],
    "report_to": ["[]", "[tensorboard]"],
    "output": ["a b", "~/runs", "'quoted'"],
}


@given(chosen=st.dictionaries(st.sampled_from(sorted(OTHER)), st.integers(0, 5), max_size=6))
@settings(deadline=None, max_examples=60)
def test_any_training_recipe_loads_back(tmp_path_factory: pytest.TempPathFactory, chosen: dict[str, int]) -> None:
    words = list(NEEDED["train reward"])
    for name, number in chosen.items():
        value = OTHER[name][number % len(OTHER[name])]
        words += [f"--{name}", "null" if value is None else str(value)]
    outcome = run("train", "reward", *words, "--print_config")
    if outcome.code == 2:  # an objective and a setting of another one, in this order
        assert_refused(outcome)
        return
    path = tmp_path_factory.mktemp("recipe") / "r.yaml"
    path.write_text(outcome.out, encoding="utf-8")
    recipe = load(TrainReward, config=path)
    assert dump(recipe) == outcome.out
    assert load(TrainReward, config=path) == recipe


def test_the_overview() -> None:
    for words in ([], ["--help"], ["-h"], ["train", "--help"], ["data", "-h"]):
        outcome = run(*words)
        assert outcome.code == 0
        assert all(" ".join(verb.words) in outcome.out for verb in VERBS)
    assert run("--version").code == 0


@pytest.mark.parametrize("words", [["trian"], ["train"], ["train", "rewards"], ["data"], ["audit", "m"], [""], ["-x"]])
def test_unknown_verbs(words: list[str]) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert outcome.messages == [f"trueup: unknown command {' '.join(words)!r}"]
    assert "usage: trueup VERB" in outcome.err


def yaml_file(content: str | bytes | None) -> Callable[[Path], list[object]]:
    def words(folder: Path) -> list[object]:
        if content is not None:
            (folder / "r.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
        return ["--config", folder / "r.yaml"]

    return words


def flags(*words: object) -> Callable[[Path], list[object]]:
    return lambda _: list(words)


BASE = "model: m\noutput: o\ndata: {train: d}\n"
WRONG = {
    "unknown field": (yaml_file(BASE + "learning_rte: 1\n"), "unknown field `learning_rte`; did you mean `learning_r"),
    "unknown inner field": (yaml_file(BASE[:-2] + ", max_len: 5}"), "`data.max_len`; did you mean `data.max_length`?"),
    "unknown flag": (flags("--learning_rat", 1), "unknown field `--learning_rat`; did you mean `learning_rate`?"),
    "unknown inner flag": (flags("--data.trian", "x"), "`data.trian`; did you mean `data.train`?"),
    "unlike any field": (flags("--qqqqq", 1), "unknown field `--qqqqq`; known: "),
    "wrong type": (yaml_file(BASE + "batch_size: many\n"), "field `batch_size`: ", "got 'many'"),
    "wrong type of flag": (flags("--batch_size", 1.5), "field `batch_size`", "got 1.5"),
    "list for a word": (flags("--model", "[1, 2]"), "field `model`", "got [1, 2]"),
    "mapping for a number": (flags("--epochs", "{a: 1}"), "field `epochs`"),
    "word for a mapping": (yaml_file("model: m\noutput: o\ndata: d\n"), "field `data`"),
    "missing fields": (yaml_file("model: m\n"), "field `output` is missing", "field `data` is missing"),
    "missing file": (yaml_file(None), "r.yaml: cannot be read (No such file or directory)"),
    "a folder as recipe": (lambda folder: ["--config", folder], "cannot be read (Is a directory)"),
    "empty file": (yaml_file(""), "field `model` is missing"),
    "invalid YAML": (yaml_file("model: m\noutput: [\n"), "r.yaml:3: not valid YAML"),
    "tabs in YAML": (yaml_file("model: m\n\tx: 1\n"), "r.yaml:2: not valid YAML"),
    "a list": (yaml_file("- 1\n- 2\n"), "holds a list; expected fields"),
    "Latin-1": (yaml_file(b"model: caf\xe9\n"), "not UTF-8"),
    "a zero byte": (yaml_file(b"model: a\x00b\n"), "not valid YAML"),
    "impossible date": (yaml_file(BASE + "tokenizer: 2024-99-99\n"), "holds a value that cannot be read"),
    "unknown objective": (flags("--objective", "bradley_tery"), "did you mean `bradley_terry`?"),
    "unknown setting": (flags("--regularizer.coeficient", 1), "bsr has no setting 'coeficient'; did you mean"),
    "setting out of range": (flags("--regularizer.coefficient", -1), "coefficient"),
    "no word as setting": (yaml_file(BASE + "objective: {null: 1, 5: 2}\n"), "bradley_terry has no setting None"),
    "a list as a method's name": (yaml_file(BASE + "regularizer: {name: [1]}\n"), "unknown name [1]"),
    "number as objective": (flags("--objective", 3), "expected a name or"),
    "unknown schedule": (flags("--schedule", "wiggly"), "field `schedule`", "linear"),
    "zero batch": (flags("--batch_size", 0), "batch_size must be at least 1, got 0"),
    "not a number": (flags("--learning_rate", ".nan"), "learning_rate must be positive, got nan"),
    "negative seed": (flags("--seed", -1), "seed must be in [0, 4.29497e+09], got -1"),
    "huge seed": (flags("--seed", 2**40), "seed must be in"),
    "negative steps": (flags("--max_steps", -5), "max_steps must be at least 1, got -5"),
    "negative warmup": (flags("--warmup", -0.1), "warmup must be in [0, 1]"),
    "zero rank": (flags("--lora.rank", 0), "rank must be at least 1"),
    "flip beyond 1": (flags("--data.flip", 1.5), "flip must be in [0, 1], got 1.5"),
    "patience alone": (flags("--patience", 2), "patience needs data.eval"),
    "uneven patience": (
        flags("--patience", 2, "--data.eval", "e", "--eval_steps", 3, "--save_steps", 4),
        "save_steps must be a multiple of eval_steps",
    ),
    "a word too many": (flags("--seed", 1, "surplus"), "unexpected word 'surplus'; fields are written --name value"),
    "config without a name": (flags("--config"), "expected one argument"),
    "a value for a switch": (flags("--print_config=no"), "print_config"),
    "an unknown home": (lambda _: ["--output", "~nobody-of-that-name/x"], "names no known user's home"),
}


@pytest.mark.parametrize("case", WRONG)
def test_recipes_that_are_wrong(tmp_path: Path, case: str) -> None:
    make, *fragments = WRONG[case]
    words = make(tmp_path)
    if "--config" not in words:
        words = [*NEEDED["train reward"], *words]
    message = assert_refused(run("train", "reward", *words), *fragments)
    assert "``" not in message


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["audit", "reward", "--data", "d"], "field `models` is missing"),
        (["audit", "reward", "--models", "[]", "--data", "d"], "no model is named"),
        (["audit", "reward", "m", "--data", "d", "--level", "1"], "level must lie between 0 and 1, got 1.0"),
        (["audit", "reward", "m", "--data", "d", "--hack_prompts", "-1"], "hack_prompts must be at least 0"),
        (["audit", "reward", "m", "--data", "d", "--seed", "-1"], "seed must be at least 0"),
        (["audit", "reward", "m", "--data", "d", "--device", "toaster"], "device 'toaster' cannot be used"),
        (["audit", "reward", "m", "--data", "d", "--dtype", "int8"], "field `dtype`"),
        (["score", "--model", "m", "--data", "d", "--output", "o.jsonl", "--device", "cuda:99"], "cannot be used"),
        (["score", "--model", "m", "--data", "d", "--output", "o.jsonl", "--token_budget", "0"], "token_budget must"),
        (["score", "extra", "--model", "m"], "unexpected word 'extra'"),
        (["data", "check"], "field `files` is missing"),
        (["data", "check", "--strict", "file"], "field `strict`"),
        (["data", "check", "f", "--max_length", "0"], "max_length must be at least 1"),
        (["data", "check", "no-such-file.jsonl"], "no-such-file.jsonl: no such file or folder"),
        (["data", "check", "~nobody-of-that-name/f"], "is no valid file name"),
        (["demo", "--prompts", "0"], "prompts must be at least 1"),
    ],
)
def test_other_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], fragment: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*words), fragment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--lora.target_modules", "no_such_layer"], "lora cannot be used with"),
        (["--report_to", "[abacus]"], "unknown tracker 'abacus'; known:"),
        (["--report_to", "[neptune]"], "neptune"),
        (["--tokenizer", "/nowhere/at/all"], "/nowhere/at/all: there is no such folder"),
        (["--data.format", "martian"], "format must be auto or one of"),
    ],
)
def test_what_only_the_model_tells(workshop: Workshop, tmp_path: Path, words: list[str], fragment: str) -> None:
    assert_refused(run(*workshop.training(tmp_path / "run", *words)), fragment)


def test_a_list_may_be_given_one_by_one() -> None:
    words = ["--proxy", "a", "--seed", "1", "--proxy", "b", "--seed", "2"]
    recipe = load(BestOfN, overrides=["--pool", "p", *words])
    assert (recipe.proxy, recipe.seed) == (["a", "b"], 2)


def test_plain_words_fill_the_positional_field(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / 'with "quotes", a \\ and a ü.jsonl', [{"prompt": "p", "chosen": "a", "rejected": "b"}]
    )
    outcome = run("data", "check", path, path)
    assert outcome.code == 0
    assert outcome.out.count("pairs") >= 2


GENERATED = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=5,
)
FIELD_NAMES = sorted({name for verb in VERBS for name, *_ in fields_of(recipe_of(verb))} | {"objective.name", "x.y"})
TYPED = st.text(max_size=8) | st.sampled_from(
    ["", "-1", "1e999", "0x_", "._", "2024-13-45", "{", "[[", "&a [*a]", "!!python/name:os.system", "!x y", "--", "-h "]
)


@given(verb=st.sampled_from(VERBS), data=st.data())
@GENERATED
def test_random_recipe_files(tmp_path: Path, verb: Verb, data: st.DataObject) -> None:
    known = sorted({name.partition(".")[0] for name, *_ in fields_of(recipe_of(verb))})
    values = data.draw(st.dictionaries(st.sampled_from(known) | SCALARS, VALUES, max_size=6))
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    needed = NEEDED[" ".join(verb.words)] if data.draw(st.booleans()) else []
    outcome = run(*verb.words, *needed, "--config", tmp_path / "r.yaml", "--print_config")
    assert outcome.code in (0, 2)


@given(verb=st.sampled_from(VERBS), content=st.binary(max_size=80) | st.text(max_size=80).map(lambda t: t.encode()))
@GENERATED
def test_random_text_as_recipe(tmp_path: Path, verb: Verb, content: bytes) -> None:
    (tmp_path / "r.yaml").write_bytes(content)
    outcome = run(*verb.words, "--config", tmp_path / "r.yaml", "--print_config")
    assert outcome.code in (0, 2)


@given(verb=st.sampled_from(VERBS), data=st.data())
@GENERATED
def test_random_flags(verb: Verb, data: st.DataObject) -> None:
    words = list(NEEDED[" ".join(verb.words)])
    for _ in range(data.draw(st.integers(1, 4))):
        name, value = data.draw(st.sampled_from(FIELD_NAMES) | st.text(max_size=5)), data.draw(TYPED)
        words += [f"--{name}={value}"] if data.draw(st.booleans()) else [f"--{name}", value]
    outcome = run(*verb.words, *words, "--print_config")
    assert outcome.code in (0, 2)


@given(
    words=st.lists(st.text(max_size=8) | st.sampled_from(["--", "-", "--=", "--.", "-h", "data", "check"]), max_size=4)
)
@GENERATED
def test_random_words(words: list[str]) -> None:
    outcome = run("data", "check", *words, "--print_config")
    assert outcome.code in (0, 2)
    assert run("\0", *words).code in (0, 2)


def test_help_never_fails_to_name_a_default() -> None:
    text = help_text(TrainReward)
    assert "--learning_rate  float (default: 5e-06)" in text
    assert "--objective  bradley_terry | " in text
