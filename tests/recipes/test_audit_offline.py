"""`trueup audit policy` of policies themselves, from the command line to the page."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from run_files import write
from tiny_models import make_tokenizer, save_base
from trueup.cli import main
from trueup.recipes.audit_policy import AuditPolicy, audit_policy

FRUITS = ("apples", "pears", "plums")


def pairs(count: int, first: int = 0):
    return [
        {"prompt": f"Fruit {i}:", "chosen": f" {FRUITS[i % 3]}", "rejected": f" {FRUITS[(i + 1) % 3]} and more"}
        for i in range(first, first + count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("audited")


@pytest.fixture(scope="module")
def base(folder) -> Path:
    return save_base(folder / "base", make_tokenizer(bos="<s>", pad="<pad>"))


@pytest.fixture(scope="module")
def run(base, folder) -> Path:
    """A finished run of H-DPO from the command line; nobody may change it."""
    train = write(folder / "train.jsonl", pairs(16))
    words = ["--model", base, "--output", folder / "run", "--data.train", train, "--data.cache", folder / "cache"]
    words += ["--data.max_length", 40, "--max_steps", 6, "--batch_size", 8, "--learning_rate", 2e-3]
    words += ["--method", "h_dpo", "--method.alpha", 0.7, "--method.beta", 0.2]
    assert main(["train", "preference", *map(str, words)]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def prompts(folder) -> Path:
    return write(folder / "prompts.jsonl", [{"prompt": f"Fruit {i}:"} for i in range(30, 38)])


@pytest.fixture(scope="module")
def held_out(folder) -> Path:
    return write(folder / "pairs.jsonl", pairs(6, first=30))


COMMON = ("--samples", 3, "--max_new_tokens", 5, "--resamples", 15)


def told(*words: object) -> int:
    return main(["audit", "policy", *map(str, words)])


@pytest.fixture(scope="module")
def audited(run, prompts, held_out, folder) -> dict:
    words = ["--prompts", prompts, "--pairs", held_out, "--oracle", "policy_judges:longer", *COMMON]
    words += ["--verifier", "policy_judges:even", "--reward", "policy_rewards:length", "--temperatures", "[1.0, 0.5]"]
    assert told(run, *words, "--output", folder / "out") == 0
    return json.loads((folder / "out" / "audit.json").read_text())


def test_everything_is_measured_and_on_the_page(audited, folder) -> None:
    result = audited["policies"]["run"]
    assert result["absent"] == {}
    assert result["trained"] == "h_dpo (beta 0.2, alpha 0.7)"
    assert audited["reference"]["name"] == "base"
    assert [one["temperature"] for one in result["samples"]] == [1.0, 0.5]
    assert set(result["win_rates"]) == {"longer", "length"}
    assert result["pass_at_k"]["k"] == [1, 2, 3]
    assert result["win_rates"]["longer"]["comparisons"] == 24
    assert result["win_rates"]["length"]["by"] == "decided"
    page = (folder / "out" / "report.html").read_text()
    for words in ("What has run learned?", "pass@k", "Reward of run: implied by h_dpo (beta 0.2, alpha 0.7)."):
        assert words in page
    assert {path.name for path in (folder / "out").iterdir()} == {"audit.json", "report.html"}


def test_the_oracle_is_asked_in_both_orders(audited) -> None:
    """It favours what stands first, which the mean of both orders takes out."""
    found = audited["policies"]["run"]["win_rates"]["longer"]
    assert found["consistency"]["position_bias"]["value"] == pytest.approx(0.2)
    assert found["rate"]["value"] == pytest.approx((found["first"]["value"] + found["second"]["value"]) / 2)
    assert found["first"]["value"] == pytest.approx(found["second"]["value"] + 0.2)


def test_the_implicit_reward_is_the_methods_own(audited, run, base, held_out) -> None:
    """Against log-probabilities of plain transformers: alpha beta log pi - beta log pi_ref."""
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    records = [json.loads(line) for line in held_out.read_text().splitlines()]
    sums = {}
    for name, place in (("policy", run / "model"), ("reference", base)):
        model = AutoModelForCausalLM.from_pretrained(place).eval()
        sums[name] = np.array(
            [[plain_logprob(model, tokenizer, one["prompt"], one[side]) for side in ("chosen", "rejected")]
             for one in records]
        )  # fmt: skip
    found = audited["policies"]["run"]["implicit_reward"]
    reward = 0.2 * (0.7 * sums["policy"] - sums["reference"])
    margin = reward[:, 0] - reward[:, 1]
    assert found["margin"]["value"] == pytest.approx(margin.mean(), abs=1e-4)
    assert found["accuracy"]["value"] == pytest.approx((margin > 0).mean())
    moved = (sums["policy"] - sums["reference"]).mean(axis=0)
    assert [found[side]["value"] for side in ("chosen", "rejected")] == pytest.approx(moved, abs=1e-4)
    before = (sums["reference"][:, 0] > sums["reference"][:, 1]).mean()
    assert found["reference_accuracy"]["value"] == pytest.approx(before)


@torch.no_grad()
def plain_logprob(model, tokenizer, prompt: str, reply: str) -> float:
    """Of a reply and its end, after the one `<s>` that the tokenizer writes."""
    asked, whole = (tokenizer(text)["input_ids"] for text in (prompt, prompt + reply + tokenizer.eos_token))
    assert whole.count(tokenizer.bos_token_id) == 1
    assert whole[: len(asked)] == asked
    logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return float(sum(logits[i - 1, whole[i]] for i in range(len(asked), len(whole))))


def test_the_same_command_gives_the_same_numbers(audited, run, prompts, folder) -> None:
    words = ["--prompts", prompts, "--oracle", "policy_judges:longer", *COMMON]
    first, second = folder / "again", folder / "once-more"
    assert told(run, *words, "--output", first) == 0
    assert told(run, *words, "--output", second) == 0
    one, other = (json.loads((place / "audit.json").read_text()) for place in (first, second))
    assert one["policies"] == other["policies"]
    assert one["policies"]["run"]["kl"] == audited["policies"]["run"]["kl"]
    absent = one["policies"]["run"]["absent"]
    assert absent["implicit_reward"] == "no held-out pairs were given (--pairs)"
    assert absent["pass_at_k"] == "no verifier was given (--verifier)"
    assert "no reward was given (--reward)" in (first / "report.html").read_text()


def test_a_policy_against_itself(base, prompts, folder) -> None:
    """No distance, and half of the wins: the answers are drawn apart, and not the same twice."""
    recipe = AuditPolicy(
        runs=[f"mine={base}"], reference=str(base), prompts=str(prompts), oracle="policy_judges:longer",
        samples=24, max_new_tokens=4, resamples=15, output=folder / "itself",
    )  # fmt: skip
    found = audit_policy(recipe).audit
    result = found["policies"]["mine"]
    assert result["kl"]["response"]["value"] == pytest.approx(0, abs=1e-4)
    rate = result["win_rates"]["longer"]
    assert 0.4 < rate["headline"]["value"] < 0.6
    assert rate["ties"]["value"] < 0.9
    assert result["entropy"]["token"]["value"] == pytest.approx(
        found["reference"]["entropy"]["token"]["value"], rel=0.2
    )
    assert any("is not known" in note for note in result["notes"])


def test_kl_of_one_token_is_that_of_the_whole_vocabulary(run, base, folder) -> None:
    one = write(folder / "one.jsonl", [{"prompt": "Fruit 30:"}])
    recipe = AuditPolicy(
        runs=[str(run)], prompts=str(one), samples=512, max_new_tokens=1, resamples=5, output=folder / "kl"
    )
    found = audit_policy(recipe).audit["policies"]["run"]["kl"]["response"]["value"]
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    ids = torch.tensor([tokenizer("Fruit 30:")["input_ids"]])
    with torch.no_grad():
        p, q = (
            AutoModelForCausalLM.from_pretrained(place)(ids).logits[0, -1].double().log_softmax(-1)
            for place in (run / "model", base)
        )
    exact = float((p.exp() * (p - q)).sum())
    spread = float((p.exp() * (p - q - exact).square()).sum().sqrt())
    assert exact > 0.01
    assert abs(found - exact) < 4 * spread / 512**0.5


def test_pairs_alone_are_enough(run, held_out, folder, capsys) -> None:
    assert told(run, "--pairs", held_out, "--resamples", 15, "--output", folder / "pairs-only") == 0
    assert "run: implicit reward right in " in capsys.readouterr().out


def test_a_policy_that_is_a_function_has_no_log_probabilities(run, prompts, held_out, folder) -> None:
    words = [
        "--reference",
        run,
        "--prompts",
        prompts,
        "--pairs",
        held_out,
        "--reward",
        "policy_rewards:length",
        *COMMON,
    ]
    assert told("policy_judges:parrot", *words, "--output", folder / "function") == 0
    result = json.loads((folder / "function" / "audit.json").read_text())["policies"]["parrot"]
    for part in ("kl", "implicit_reward"):
        assert "parrot is no model that could be asked for log-probabilities" in result["absent"][part]
    assert "does not state log-probabilities" in result["absent"]["entropy"]
    assert result["win_rates"]["length"]["comparisons"] == 24


def test_another_vocabulary_is_compared_by_its_answers_alone(run, prompts, folder) -> None:
    other = save_base(folder / "other", make_tokenizer(bos="<s>", pad="<pad>", extra=("<more>",)))
    assert told(run, "--reference", other, "--prompts", prompts, *COMMON, "--output", folder / "foreign") == 0
    result = json.loads((folder / "foreign" / "audit.json").read_text())["policies"]["run"]
    assert "different vocabularies" in result["absent"]["kl"]
    assert result["length_change"] is not None


def test_what_is_wrong_is_one_message_and_nothing_is_written(run, base, prompts, held_out, folder, capsys) -> None:
    out = folder / "nothing"
    trained = folder / "train.jsonl"
    long = write(folder / "long.jsonl", [{"prompt": "How long? " * 40}])
    alike = write(folder / "alike.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "b"}])
    asked = ["--prompts", prompts, *COMMON]
    cases = {
        (run, "--oracle", "policy_judges:longer"): "oracle looks at answers to prompts; name held-out ones",
        (run, "--reference", base): "reference needs something to compare on",
        (run,): "is a run without a record of its own samples; name held-out --prompts FILE",
        (base,): "is a model, and not the record of a run",
        (run, "--prompts", trained): "16 of 16 prompts are among those that run was trained on",
        (run, "--pairs", trained): "16 of 16 rows of pairs are among those that run was trained on",
        (run, "--prompts", folder / "no.jsonl"): "no such file",
        (run, "--prompts", long): "no prompt leaves",
        (run, "--pairs", alike): "zero usable rows (1 identical responses)",
        (run, *asked, "--oracle", "policy_judges:nobody"): "cannot be imported",
        (run, *asked, "--oracle", "policy_judges:broken"): "broken failed on 48 comparisons: ValueError: out of order",
        (run, *asked, "--verifier", "policy_judges:half"): "half returned 0.5 for response 0; a verifier returns",
        (run, *asked, "--reward", "policy_rewards:not_a_number"): "not_a_number returned nan",
        (run, *asked, "--reference", folder / "no" / "such"): "no such folder",
        (folder / "no" / "such", *asked): "no such folder",
        (run, *asked, "--reference", f"run={base}"): "the reference and a policy are both called 'run'",
        (run, *asked, "--temperatures", "[-1]"): "temperatures must be 0 or more, got -1",
        (run, *asked, "--temperatures", "[1, 1]"): "temperatures must differ",
        (run, *asked, "--comparisons", 9): "comparisons (9) cannot exceed samples (3)",
        (run, *asked, "--seen", "perhaps"): "seen",
        (run, *asked, "--oracle", "policy_rewards:length", "--reward", "policy_rewards:length"): "both called 'length'",
    }  # fmt: skip
    for words, expected in cases.items():
        assert told(*words, "--output", out) == 2, words
        message = capsys.readouterr().err
        assert expected in message, (words, message)
        assert "Traceback" not in message
        assert not out.exists()
