import copy
import json
import math
from typing import Any

import pytest

from trueup.report.page import render, write_page
from trueup.report.reward_audit import audit_page

from .page_reading import Reading, read
from .test_page import check_structure


def words_of(audit: dict[str, Any]) -> str:
    reading = read(render(audit_page(audit)))
    check_structure(reading)
    return reading.words


def test_the_page_is_self_contained(reading: Reading) -> None:
    check_structure(reading)


def test_the_page_of_the_saved_audit_is_the_page_of_the_audit(audit: dict[str, Any], html: str) -> None:
    assert render(audit_page(json.loads(json.dumps(audit)))) == html


def test_every_figure_says_what_it_shows_and_what_good_looks_like(reading: Reading) -> None:
    figures = reading.tags.count("figure")
    assert figures == 8
    assert reading.words.count("What it shows.") == figures
    assert reading.tags.count("svg") == 2 * figures


def test_the_verdict_stands_first_for_every_model(audit: dict[str, Any], reading: Reading) -> None:
    body = reading.words
    first = body.index("Does it rank answers rightly?")
    for model in audit["models"]:
        for finding in audit["verdict"][model["name"]]:
            assert finding["text"][1:] in body[:first]


def test_every_estimate_is_printed_with_its_interval(audit: dict[str, Any], reading: Reading) -> None:
    for by_split in audit["results"].values():
        for result in by_split.values():
            accuracy = result["accuracy"]
            low, value, high = (f"{100 * accuracy[key]:.1f}" for key in ("low", "value", "high"))
            assert f"{value}% {low} to {high}%" in reading.words


def test_examples_show_both_texts_and_both_rewards(audit: dict[str, Any], reading: Reading) -> None:
    example = audit["hacks"]["bradley-terry"]["boilerplate"]["examples"][0]
    assert example["original"] in reading.words
    assert " ".join(example["edited"].split()) in reading.words
    assert f"reward {example['reward_edited']:.2f}: the edit wins" in reading.words


def test_benchmark_tables_hold_domains_and_difficulties(audit: dict[str, Any], reading: Reading) -> None:
    for model in audit["results"].values():
        hard = model["rm-bench"]["benchmark"]["domains"]["chat"]["hard"]
        assert f"{100 * hard['value']:.1f}%" in reading.words
    assert "some subsets are absent" in reading.words


def test_what_was_not_measured_keeps_its_reason(audit: dict[str, Any], reading: Reading) -> None:
    assert audit["results"]["bradley-terry"]["rm-bench"]["absent"]["tau"] in reading.words
    bare = copy.deepcopy(audit)
    for by_split in bare["results"].values():
        for result in by_split.values():
            names = ("accuracy", "ties", "tau", "calibration", "dispersion", "before_final_norm", "decomposition")
            result |= dict.fromkeys((*names, "benchmark"))
            result["length"] = dict.fromkeys(result["length"])
            result["absent"] = {name: f"the reason for {name}" for name in (*names, "length.pairs")}
    bare["differences"], bare["hacks"] = {}, {}
    words = words_of(bare)
    for name in (*names, "length.pairs"):
        assert f"the reason for {name}" in words
    assert "no edited answers were scored" in words
    assert "nan" not in words
    assert "None" not in words


def test_undefined_values_print_a_dash(audit: dict[str, Any]) -> None:
    odd = copy.deepcopy(audit)
    result = odd["results"]["bradley-terry"]["in-domain"]
    result["tau"]["mean"] = {"value": None, "low": None, "high": None, "n": 0}
    result["dispersion"]["skew"]["value"] = math.nan
    result["calibration"]["curve"][0] = {"confidence": None, "accuracy": None, "low": None, "high": None, "n": 0}
    words = words_of(odd)
    assert "undefined: too few cases, or no variation among them" in words
    assert "undefined (not a number)" in words


def test_a_single_model_and_split_without_anything_optional(audit: dict[str, Any]) -> None:
    name = "bradley-terry"
    small = {
        "schema": audit["schema"],
        "models": audit["models"][:1],
        "splits": audit["splits"][:1],
        "results": {name: {"in-domain": audit["results"][name]["in-domain"]}},
    }
    words = words_of(small)
    assert "How robust is bradley-terry?" in words
    assert "no edited answers were scored" in words
    assert "Differences between models" not in words


def test_hostile_names_and_texts_stay_words(audit: dict[str, Any]) -> None:
    evil = "<img src=x onerror=alert(1)>"
    odd = json.loads(json.dumps(audit).replace("bradley-terry", evil).replace("Jupiter", evil))
    words = words_of(odd)
    assert evil in words


def test_the_level_of_the_intervals_is_the_audits_own(audit: dict[str, Any], reading: Reading) -> None:
    assert "with 95% intervals" in reading.words
    other = audit | {"intervals": {"level": 0.9, "resamples": 10, "seed": 0}}
    words = words_of(other)
    assert "with 90% intervals" in words
    assert "95% interval" not in words


def test_provenance_is_printed(audit: dict[str, Any], reading: Reading) -> None:
    assert "data fingerprint sha256:3f1c9b" in reading.words
    assert "torch 2.13.0" in reading.words
    assert "The complete recipe models: - bradley-terry" in reading.words


def test_another_schema_is_refused(audit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"trueup.audit/1 is needed, got 'trueup.audit/9'"):
        audit_page(audit | {"schema": "trueup.audit/9"})


def test_the_page_can_be_written(audit: dict[str, Any], html: str, tmp_path: Any) -> None:
    assert write_page(audit_page(audit), tmp_path / "report.html").read_text(encoding="utf-8") == html
