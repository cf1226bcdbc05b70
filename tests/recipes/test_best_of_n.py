"""Best-of-n from end to end, with policies and rewards that are small functions."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tiny_models import make_checkpoint, make_tokenizer, save_base
from trueup.cli import main
from trueup.data.pool_files import PoolFolder
from trueup.data.pools import Pool
from trueup.errors import DataError, RecipeError
from trueup.measure.best_of_n import best_of_n as expected_best
from trueup.measure.bootstrap import Resampling
from trueup.recipes.best_of_n import best_of_n, measure_pool
from trueup.recipes.best_of_n_examples import add_examples
from trueup.recipes.best_of_n_settings import BestOfN
from trueup.rewards.load import load_reward

CODE = """
import numpy as np

LOG = {log!r}

def _note(what):
    with open(LOG, "a") as file:
        file.write(what + "\\n")

def policy(prompts, count, seed):
    _note(f"policy {{len(prompts)}}x{{count}}")
    generator = np.random.default_rng(seed)
    return [["word " * int(k) + "end" for k in generator.geometric(0.2, count)] for _ in prompts]

def _text(reply):
    return reply if isinstance(reply, str) else reply[-1]["content"]

def longer(prompts, completions, **columns):
    _note(f"longer {{len(completions)}}")
    return [float(len(_text(c))) for c in completions]

def steady(prompts, completions, **columns):
    return [1.0 / (1 + len(_text(c))) for c in completions]

def gold(prompts, completions, **columns):
    _note(f"gold {{len(completions)}}")
    words = [len(_text(c).split()) for c in completions]
    return [k - 0.1 * k * k for k in words]

def parts(prompts, completions, **columns):
    return [{{"words": len(_text(c).split())}} for c in completions]

def broken(prompts, completions, **columns):
    return [float("nan")] * len(completions)
"""
_NUMBERS = itertools.count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module in the working directory, with prompts beside it; its log says what was asked of it."""
    name = f"users_functions_{next(_NUMBERS)}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text(CODE.format(log=str(tmp_path / "log.txt")))
    prompts = [{"id": f"q{k}", "prompt": f"Question {k}?"} for k in range(40)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    return name


def recipe(module: str, **changes: Any) -> BestOfN:
    given: dict[str, Any] = {
        "policy": f"{module}:policy",
        "prompts": "prompts.jsonl",
        "proxy": f"{module}:longer",
        "gold": f"{module}:gold",
        "samples": 32,
        "resamples": 40,
        "output": Path("out"),
    }
    return BestOfN(**{**given, **changes})


def log() -> list[str]:
    path = Path("log.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_from_the_command_line_to_the_page(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--policy", f"{module}:policy", "--prompts", "prompts.jsonl", "--samples", "64", "--resamples", "200"]
    rewards = ["--proxy.long", f"{module}:longer", "--proxy.short", f"{module}:steady", "--gold", f"{module}:gold"]
    assert main(["bestofn", *words, *rewards, "--gold_features", f"{module}:parts", "--output", "out"]) == 0
    told = capsys.readouterr().out
    assert "long: gold peaks at n = " in told
    assert "correlation with gold" in told
    assert "report: out/report.html" in told
    result = json.loads(Path("out/best_of_n.json").read_text())
    assert result["schema"] == "trueup.best_of_n/1"
    assert list(result["results"]) == ["long", "short"]
    assert result["created_by"]["prompts"]["source"] == "prompts.jsonl"
    assert result["created_by"]["pool"]["policy"] == f"{module}:policy"
    assert "samples: 64" in result["created_by"]["recipe"]
    page = Path("out/report.html").read_text()
    assert "Does gold fall while the proxy rises?" in page
    assert "words " in page
    pool = PoolFolder(Path("out/pool")).read(rewards=["long", "gold"])
    n = np.asarray(result["n"])
    expected = expected_best(pool.score("long"), pool.score("gold"), n).mean(axis=0)
    np.testing.assert_allclose([e["value"] for e in result["results"]["long"]["gold"]], expected)


def test_a_second_run_draws_and_scores_nothing(module: str) -> None:
    first = best_of_n(recipe(module)).result
    assert log() != []
    again = best_of_n(recipe(module)).result
    assert log() == []
    assert again == first


def test_more_samples_draw_only_what_is_missing(module: str) -> None:
    best_of_n(recipe(module, samples=8))
    before = PoolFolder(Path("out/pool")).read().responses
    log()
    best_of_n(recipe(module, samples=32))
    assert [line for line in log() if line.startswith("policy")] == ["policy 40x24"]
    after = PoolFolder(Path("out/pool")).read().responses
    assert tuple(group[:8] for group in after) == before
    assert PoolFolder(Path("out/pool")).missing([f"q{k}" for k in range(40)], 32, reward="gold") == []


def test_another_reward_leaves_the_rest_alone(module: str) -> None:
    best_of_n(recipe(module))
    log()
    result = best_of_n(recipe(module, proxy=[f"{module}:longer", f"short={module}:steady"])).result
    assert log() == []
    assert list(result["results"]) == ["longer", "short"]


def test_a_pool_alone_is_enough(module: str) -> None:
    best_of_n(recipe(module))
    given = {"policy": None, "prompts": None, "samples": None, "pool": Path("out/pool"), "output": Path("again")}
    result = best_of_n(recipe(module, proxy="longer", gold="gold", **given)).result
    assert (result["prompts"], result["samples"]) == (40, 32)
    fewer = best_of_n(recipe(module, proxy="longer", gold="gold", **{**given, "samples": 8, "limit": 5})).result
    assert (fewer["prompts"], fewer["samples"], fewer["n"][-1]) == (5, 8, 8)
    with pytest.raises(DataError, match=r"prompt 'q0' has 32 samples of 33.*name the policy"):
        best_of_n(recipe(module, proxy="longer", gold="gold", **{**given, "samples": 33}))
    with pytest.raises(DataError, match=r"lnger: no such folder, and no reward of the pool; .*gold, longer"):
        best_of_n(recipe(module, proxy="lnger", gold="gold", **given))


def test_an_edited_reward_scores_again_and_rescore_forces_it(module: str, caplog: pytest.LogCaptureFixture) -> None:
    best_of_n(recipe(module))
    log()
    best_of_n(recipe(module, rescore=True))
    assert {line.split()[0] for line in log()} == {"longer", "gold"}
    path = Path(f"{module}.py")
    path.write_text(path.read_text() + "\n# edited\n")
    best_of_n(recipe(module))
    assert {line.split()[0] for line in log()} == {"longer", "gold"}
    assert "has changed since it scored the pool" in caplog.text


def test_a_stopped_run_goes_on(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = best_of_n(recipe(module, samples=256, output=Path("whole"))).result

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trueup.recipes.best_of_n.score_folder", stop)
        with pytest.raises(KeyboardInterrupt):
            best_of_n(recipe(module, samples=256))
    parts = sorted(Path("out/pool/samples").iterdir())
    assert len(parts) == 3
    parts[-1].unlink()
    log()
    result = best_of_n(recipe(module, samples=256)).result
    assert [line for line in log() if line.startswith("policy")] == ["policy 8x256"]
    assert result["results"]["longer"]["gold"] == whole["results"]["longer"]["gold"]


def test_without_gold(module: str) -> None:
    done = best_of_n(recipe(module, gold=None))
    assert "no gold given" in done.summary()
    one = done.result["results"]["longer"]
    assert one["gold"] is None
    assert one["signals"]["characters"]["change"][-1]["low"] > 0
    assert all(choice["gold"] is None for shown in one["examples"]["prompts"] for choice in shown["choices"])
    assert "Gold was not given" in Path("out/report.html").read_text()


def test_other_settings_and_other_prompts_are_refused(module: str) -> None:
    best_of_n(recipe(module))
    with pytest.raises(DataError, match=r"drawn with temperature 1\.0, not 0\.5"):
        best_of_n(recipe(module, temperature=0.5))
    Path("other.jsonl").write_text(json.dumps({"id": "q1", "prompt": "Something else?"}))
    with pytest.raises(DataError, match="prompt 1, 'q1', is not the pool's prompt of that name"):
        best_of_n(recipe(module, prompts="other.jsonl"))
    with pytest.raises(DataError, match="prompt 1, 'q1', is not the pool's prompt"):
        best_of_n(recipe(module, prompts="other.jsonl", policy=None, pool=Path("out/pool")))


def test_wrong_rewards_are_named_and_nothing_is_written(module: str) -> None:
    with pytest.raises(RecipeError, match="broken returned nan"):
        best_of_n(recipe(module, proxy=f"{module}:broken"))
    assert not Path("out/best_of_n.json").exists()
    assert PoolFolder(Path("out/pool")).read().shape == (40, 32)


def test_nan_planted_in_the_pool_is_found(module: str) -> None:
    best_of_n(recipe(module))
    path = Path("out/pool/rewards/gold/000000.parquet")
    table = pq.read_table(path)
    values = table.column("reward").to_pylist()
    values[3][4] = float("nan")
    place = table.schema.get_field_index("reward")
    pq.write_table(table.set_column(place, table.schema.field("reward"), [values]), path)
    with pytest.raises(DataError, match=r"rewards/gold, field `reward`: nan for sample 5 of prompt 'q3'"):
        best_of_n(recipe(module))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": None}, "name a policy and prompts"),
        ({"prompts": None}, "name a policy and prompts"),
        ({"proxy": []}, "no proxy is named"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"samples": 8, "n": [1, 9]}, "n must lie from 1 to the 8 samples"),
        ({"n": [0]}, "n must lie from 1"),
        ({"proxy": ["a/m", "b/m"]}, "both called 'm'"),
        ({"proxy": "a/m", "gold": "b/m"}, "gold and a proxy are both called 'm'"),
        ({"top_p": 0.0}, "top_p must lie"),
        ({"level": 1.0}, "level must lie"),
        ({"temperature": float("nan")}, "temperature must be"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe("m", **changes)


def test_sizes_beyond_the_pool_stop_before_any_scoring(module: str) -> None:
    best_of_n(recipe(module))
    log()
    with pytest.raises(RecipeError, match="best-of-64 needs as many samples"):
        best_of_n(recipe(module, samples=None, n=[64]))
    assert log() == []


def made_pool(prompts: int = 12, samples: int = 64) -> Pool:
    """Gold falls with the proxy's tail on prompt 7 above all."""
    generator = np.random.default_rng(0)
    proxy = generator.normal(size=(prompts, samples))
    gold = np.where(proxy > 1.7, -3.0, proxy)
    gold[7 % prompts] -= np.where(proxy[7 % prompts] > 1.7, 30.0, 0.0)
    return Pool(
        ids=tuple(f"p{k}" for k in range(prompts)),
        prompts=tuple(f"prompt {k}" for k in range(prompts)),
        responses=tuple(tuple(f"{p} {s}" for s in range(samples)) for p in range(prompts)),
        tokens=np.ones((prompts, samples), int),
        finished=np.ones((prompts, samples), bool),
        logprob=np.zeros((prompts, samples)),
        scores={"proxy": proxy, "gold": gold, "proxy/0": proxy - 1, "proxy/1": proxy + 1},
    )


def test_examples_are_the_best_of_the_first_n_samples_chosen_as_they_say() -> None:
    pool = made_pool()
    result = measure_pool(pool, proxies=("proxy",), gold="gold", resampling=Resampling(resamples=100))
    add_examples(result, pool, count=3, seed=0)
    shown = result["results"]["proxy"]["examples"]
    assert result["results"]["proxy"]["law"]["verdict"] == "peaks"
    assert shown["middle"] == "gold's peak by the fitted law"
    assert [one["why"].partition(" from")[0] for one in shown["prompts"]] == [
        "on which gold falls most",
        "on which gold falls most",
        "drawn at random",
    ]
    assert shown["prompts"][0]["id"] == "p7"
    assert len({one["id"] for one in shown["prompts"]}) == 3
    for one in shown["prompts"]:
        row = pool.ids.index(one["id"])
        assert [choice["n"] for choice in one["choices"]][0::2] == [1, 64]
        for choice in one["choices"]:
            best = max(range(choice["n"]), key=lambda s, row=row: pool.scores["proxy"][row, s])
            assert (choice["sample"], choice["text"]) == (best, f"{row} {best}")
            assert choice["gold"] == pool.scores["gold"][row, best]


def test_examples_may_be_few_or_none() -> None:
    pool = made_pool(prompts=2, samples=8)
    result = measure_pool(pool, proxies=("proxy",), gold=None, resampling=Resampling(resamples=10))
    add_examples(result, pool, count=0, seed=0)
    assert "examples" not in result["results"]["proxy"]
    rules = {}
    for count in (1, 2, 9):
        add_examples(result, pool, count=count, seed=0)
        rules[count] = result["results"]["proxy"]["examples"]["rule"]
    assert len(result["results"]["proxy"]["examples"]["prompts"]) == 2
    assert rules == {
        1: "one prompt drawn at random",
        2: "the 1 prompt on which the proxy gains most (extreme, not typical), and one prompt drawn at random",
        9: "the 2 prompts on which the proxy gains most (extreme, not typical)",
    }


def test_members_show_as_disagreement() -> None:
    pool = made_pool()
    result = measure_pool(pool, proxies=("proxy",), gold="gold", resampling=Resampling(resamples=10))
    values = result["results"]["proxy"]["signals"]["disagreement"]["values"]
    assert [value["value"] for value in values] == pytest.approx([1.0] * len(values))


def test_a_breakdown_that_is_none_is_refused(module: str) -> None:
    with pytest.raises(RecipeError, match="gold_features returned"):
        best_of_n(recipe(module, gold_features=f"{module}:gold"))


def test_models_draw_and_score_and_give_norms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything from folders: a causal model, a reward model, and the same one as gold."""
    monkeypatch.chdir(tmp_path)
    base = save_base(tmp_path / "policy", make_tokenizer(eos="</s>"))
    make_checkpoint(base, tmp_path / "proxy")
    make_checkpoint(base, tmp_path / "judge")
    Path("prompts.jsonl").write_text("\n".join(json.dumps({"prompt": f"Name {k} fruits."}) for k in range(4)))
    given = {"policy": "policy", "proxy": "proxy", "gold": "judge", "samples": 8, "max_new_tokens": 6}
    result = best_of_n(recipe("", **given)).result
    one = result["results"]["proxy"]
    assert one["proxy"] == one["gold"]
    assert one["agreement"]["pooled"]["pearson"]["value"] == pytest.approx(1.0)
    assert {"tokens", "hidden_norm", "before_norm"} <= set(one["signals"])
    pool = PoolFolder(Path("out/pool")).read(rewards=["proxy"])
    assert pool.settings["policy_fingerprint"] is not None
    assert (pool.tokens <= 6).all()
    assert (pool.logprob < 0).all()
    loaded = load_reward("proxy", keep_hidden=True)
    scores = loaded.score(pool.prompts, pool.responses)
    np.testing.assert_allclose(pool.scores["proxy"].ravel(), scores.reward, atol=1e-5)
    norms = np.linalg.norm(scores.hidden, axis=1)
    np.testing.assert_allclose(pool.scores["proxy/hidden_norm"].ravel(), norms, rtol=1e-5)
    Path("policy").rename("moved")
    again = best_of_n(recipe("", **{**given, "policy": "moved", "samples": 12})).result
    assert again["samples"] == 12
    assert PoolFolder(Path("out/pool")).read(samples=8).responses == pool.responses
