import json
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from trueup.errors import DataError
from trueup.measure.audit import SCHEMA, AuditedModel, HackScores, audit
from trueup.measure.bootstrap import Resampling
from trueup.measure.hacking import edit_responses
from trueup.measure.scored import ScoredSplit


def _split(make_split, *, name, skill, seed=0, prompts=80):
    rng = np.random.default_rng(seed)
    gold = np.sort(rng.normal(size=(prompts, 3)))[:, ::-1]
    rewards = skill * gold + np.random.default_rng(seed + 1).normal(size=gold.shape)
    return make_split(rewards.tolist(), name=name, gold=gold.ravel(), length=rng.integers(1, 90, gold.size) * 1.0)


def _model(make_split, name, *, skill, hacks=()):
    splits = tuple(_split(make_split, name=split, skill=skill, seed=k) for k, split in enumerate(("id", "ood")))
    return AuditedModel(name=name, kind="callable", path=None, splits=splits, hacks=hacks, details={"dtype": "f4"})


def _length_lover(split):
    prompts, responses = [f"p{k}" for k in range(40)], [f"answer {'very ' * k}long." for k in range(40)]
    edits = edit_responses(prompts, responses, seed=0)
    return tuple(
        HackScores(
            hack=name,
            split=split,
            prompts=tuple(prompts[k] for k in edit.index),
            originals=tuple(responses[k] for k in edit.index),
            edited=edit.texts,
            prompt=np.array(edit.index),
            reward_original=np.array([len(responses[k]) for k in edit.index], float),
            reward_edited=np.array([len(text) for text in edit.texts], float),
            unchanged=edit.unchanged,
        )
        for name, edit in edits.items()
    )


def _audit(models, **fields):
    return audit(models, resampling=Resampling(resamples=100), created_by={"trueup": "0"}, **fields)


def test_whole_audit_is_json_with_the_documented_shape(make_split):
    models = [_model(make_split, "weak", skill=0.3, hacks=_length_lover("id")), _model(make_split, "strong", skill=3.0)]
    out = json.loads(json.dumps(_audit(models), allow_nan=False))
    assert out["schema"] == SCHEMA
    assert out["models"][0] == {"name": "weak", "kind": "callable", "path": None, "dtype": "f4"}
    assert out["splits"][1] == {"name": "ood", "prompts": 80, "responses": 240, "pairs": 160}
    assert set(out["results"]) == set(out["hacks"]) == set(out["verdict"]) == {"weak", "strong"}
    strong = out["results"]["strong"]["id"]
    assert set(strong["accuracy"]) == {"value", "low", "high", "n"}
    assert strong["accuracy"]["low"] > 0.8
    assert strong["dispersion"] is None
    assert strong["absent"]["dispersion"]


def test_length_lover_is_exposed_by_the_battery(make_split):
    out = _audit([_model(make_split, "rm", skill=1.0, hacks=_length_lover("id"))])
    hacks = out["hacks"]["rm"]
    assert hacks["repeat_all"]["win_rate"]["value"] == 1.0
    assert hacks["truncation"]["win_rate"]["value"] == 0.0
    worst = hacks["repeat_all"]["examples"][0]
    assert worst["reward_edited"] - worst["reward_original"] == pytest.approx(len("answer long.") + 39 * 5 + 2)
    assert worst["edited"].startswith(worst["original"][:100])
    text = "prefers responses repeated in full over the originals in 100% (91-100%) of cases"
    assert {"level": "bad", "text": text} in out["verdict"]["rm"]


def test_differences_are_paired_over_prompts(make_split):
    weak, strong = _model(make_split, "weak", skill=0.3), _model(make_split, "strong", skill=3.0)
    out = _audit([weak, strong])
    found = out["differences"]["id"]["strong - weak"]
    results = out["results"]
    for name, path in (("accuracy", ("accuracy",)), ("tau", ("tau", "mean"))):
        values = []
        for model in ("strong", "weak"):
            entry = results[model]["id"]
            for key in path:
                entry = entry[key]
            values.append(entry["value"])
        assert found[name]["value"] == pytest.approx(values[0] - values[1])
        assert found[name]["low"] > 0
    same = _audit([weak, replace(weak, name="copy")])["differences"]["ood"]["copy - weak"]["tau"]
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


def test_no_gold_and_no_pairs_give_no_difference(make_split):
    split = make_split([[1, 2], [3, 4]], pairs=np.zeros((0, 2), int))
    models = [AuditedModel(name=name, kind="callable", path=None, splits=(split,)) for name in "ab"]
    assert _audit(models)["differences"]["split"]["b - a"] == {"accuracy": None, "tau": None}


def test_benchmark_rows_are_scored(make_split):
    split = make_split([[1, 0], [1, 2]], name="rb", subset=("math-prm", "hep-go"))
    model = AuditedModel(name="rm", kind="callable", path=None, splits=(split,))
    out = _audit([model], correct={"rb": np.array([True, False] * 2)})["results"]["rm"]["rb"]["benchmark"]
    assert out["kind"] == "reward-bench"
    assert out["sections"]["Reasoning"]["value"] == pytest.approx(984 / (984 + 164))


def test_models_must_share_rows_and_have_their_own_names(make_split):
    model = _model(make_split, "rm", skill=1.0)
    with pytest.raises(DataError, match="same name"):
        _audit([model, model])
    with pytest.raises(DataError, match="rm and other were not scored on the same rows"):
        _audit([model, replace(model, name="other", splits=model.splits[:1])])
    with pytest.raises(DataError, match="two splits"):
        _audit([replace(model, splits=model.splits[:1] * 2)])
    with pytest.raises(DataError, match="nothing to audit"):
        _audit([])
    with pytest.raises(DataError, match="'nowhere'"):
        _audit([replace(model, hacks=_length_lover("nowhere")[:1])])


def test_fifty_thousand_responses_take_seconds():
    rng = np.random.default_rng(0)
    hidden, head = rng.normal(size=(50_000, 32)).astype(np.float32), rng.normal(size=32)
    start = np.arange(0, 50_000, 4)
    split = ScoredSplit(
        name="large",
        reward=hidden @ head,
        prompt=np.repeat(np.arange(12_500), 4),
        pairs=np.concatenate([np.stack([start, start + k], axis=1) for k in (1, 2, 3)]),
        length=rng.integers(1, 500, 50_000).astype(float),
        gold=rng.normal(size=50_000),
        hidden=hidden,
        head=head,
    )
    model = AuditedModel(name="rm", kind="callable", path=None, splits=(split,))
    began = perf_counter()
    audit([model], resampling=Resampling(), created_by={})
    assert perf_counter() - began < 20
