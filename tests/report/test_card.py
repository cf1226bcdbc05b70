import re
from pathlib import Path

import pytest
import yaml

from trueup.errors import OutputError
from trueup.measure.scored import Estimate
from trueup.report.card import CardFacts, plain, render_card, write_card

FACTS = CardFacts(
    name="tiny *reward* <b>",
    base_model="owner/base",
    objective="Bradley-Terry with batch-wise sum-to-zero",
    formula=r"-\log\sigma(r_w - r_l) + \lambda (\sum r)^2",
    coefficients={"lambda": 0.001},
    data="1,000 invented pairs",
    data_fingerprint="sha256:00ff",
    rows=1000,
    text_format={"chat template": "{{ x }}`y`", "maximum length": 1024},
    metrics={"accuracy": Estimate(0.7, 0.6, 0.8, 100), "tau": None},
    caveats=("Rewards of different prompts are not comparable.",),
    recipe="a: 1\n\n\n\nb: |\n  ```\n",
    versions={"torch": "2.13.0"},
    seed=0,
    licence="apache-2.0",
    languages=("en",),
    tags=("demo", "trueup"),
)


def parts(card: str) -> tuple[dict[str, object], str]:
    found = re.match(r"---\n(.*?)^---\n(.*)", card, re.S | re.M)
    assert found is not None
    return yaml.safe_load(found.group(1)), found.group(2)


def test_front_matter_is_what_the_hub_reads() -> None:
    matter, _ = parts(render_card(FACTS))
    assert matter == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "owner/base",
        "license": "apache-2.0",
        "language": ["en"],
        "tags": ["reward-model", "trueup", "demo"],
    }


def test_the_card_says_what_was_trained_and_measured() -> None:
    _, body = parts(render_card(FACTS))
    for words in (
        "# tiny \\*reward\\* \\<b\\>",
        "- lambda, as applied: 0.001",
        "- Data fingerprint: `sha256:00ff`",
        "- chat template: `` {{ x }}`y` ``",
        "- maximum length: 1024",
        "| accuracy | 0.700 (0.600 to 0.800) |",
        "| tau | – (not measured) |",
        "- Seed: 0",
        "- torch 2.13.0",
        f"$$\n{FACTS.formula}\n$$",
        "- Rewards of different prompts are not comparable.",
        'problem_type: "regression"',
    ):
        assert words in body


def test_the_recipe_is_kept_to_the_letter_inside_a_longer_fence() -> None:
    card = render_card(FACTS)
    assert card.endswith(f"````yaml\n{FACTS.recipe.rstrip()}\n````\n")


def test_the_code_of_the_card_is_python() -> None:
    code = re.search(r"```python\n(.*?)```", render_card(FACTS), re.S)
    assert code is not None
    compile(code.group(1), "card", "exec")


def test_what_is_unknown_leaves_no_empty_heading() -> None:
    card = render_card(CardFacts(name="m", objective="Bradley-Terry"))
    assert "Measured" not in card
    assert "None" not in card
    assert not re.search(r"\n{3,}", card)
    assert not re.search(r"## [^\n]+\n+(?=## |\Z)", card)
    assert "base_model" not in card


def test_hostile_words_cannot_break_the_front_matter() -> None:
    matter, body = parts(render_card(CardFacts(name="x\n---\ny", objective="o", base_model="a: b\n---\n# c")))
    assert matter["base_model"] == "a: b\n---\n# c"
    assert body.strip().startswith("# x --- y")
    assert plain("a|b\n# c") == "a\\|b \\# c"


def test_writing_is_atomic_and_names_what_failed(tmp_path: Path) -> None:
    assert write_card(FACTS, tmp_path).read_text(encoding="utf-8") == render_card(FACTS)
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]
    with pytest.raises(OutputError, match=r"README.md"):
        write_card(FACTS, tmp_path / "README.md")
