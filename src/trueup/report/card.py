"""The model card of a trained reward model: facts in, README.md with YAML front matter out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from trueup.data.templates import TextFormat
from trueup.files import write_text
from trueup.measure.scored import Estimate
from trueup.report.text import Cell, printable, shown

_TAGS = ("reward-model", "trueup")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~])")


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card says. Empty strings and mappings leave their lines out.

    Args:
        name: Name of the model.
        base_model: Hub id or name of the model it was trained from.
        objective: Name of the objective, in words.
        formula: The loss, as LaTeX without dollar signs.
        coefficients: Hyper-parameters as they were applied, such as the BSR weight lambda.
        data: Where the training data come from, in words.
        data_fingerprint: Hash of the training data.
        rows: Number of training pairs, 0 where unknown.
        members: Number of members; several are an ensemble.
        adapters: Whether the members are adapters instead of heads.
        form: How text becomes tokens, which decides the code that the card shows; a chat model's where unknown.
        text_format: Further facts about the text a score belongs to.
        metrics: Measured values by name; estimates print their interval.
        caveats: What a user should know before trusting a score; one sentence each.
        recipe: The complete recipe as YAML text.
        versions: Library versions.
        seed: Seed of the run.
        licence: Licence identifier for the front matter.
        languages: Language codes for the front matter.
        tags: Further tags.
    """

    name: str
    objective: str
    base_model: str = ""
    formula: str = ""
    coefficients: Mapping[str, Cell] = field(default_factory=dict)
    data: str = ""
    data_fingerprint: str = ""
    rows: int = 0
    members: int = 1
    adapters: bool = False
    form: TextFormat | None = None
    text_format: Mapping[str, Cell] = field(default_factory=dict)
    metrics: Mapping[str, Cell] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    recipe: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    licence: str = ""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def render_card(facts: CardFacts) -> str:
    """The card as Markdown. Equal facts give equal text."""
    environment = Environment(
        loader=PackageLoader("trueup.report"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": plain, "cell": _cell, "code": _code}
    body = re.sub(
        r"\n{3,}", "\n\n", environment.get_template("card.md.jinja").render(facts=facts, text=_text_facts(facts))
    ).strip()
    parts = [f"---\n{_front_matter(facts)}---", body, *([_fenced(facts.recipe)] if facts.recipe else [])]
    return "\n\n".join(parts) + "\n"


def _text_facts(facts: CardFacts) -> dict[str, Cell]:
    """What the text format means, in words."""
    form, known = facts.form, dict[str, Cell]()
    if form is not None:
        known = {
            "Text": "turns, rendered by the chat template" if form.kind == "chat" else "prompt and response, joined",
            "Special tokens of the tokenizer": "added" if form.special_tokens else "written by the template",
            "EOS": "appended where the text does not end in it" if form.append_eos else "not appended",
            "Longest sequence in tokens": form.max_length if form.max_length is not None else "no limit",
            "Side that is cut": form.truncation_side,
        }
    return known | dict(facts.text_format)


def write_card(facts: CardFacts, folder: str | Path) -> Path:
    """Write the card as `README.md` into the model's folder, wholly or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    return write_text(Path(folder) / "README.md", render_card(facts))


def plain(text: str) -> str:
    """Words that Markdown prints as they are, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(printable(text).split()))


def _front_matter(facts: CardFacts) -> str:
    matter: dict[str, object] = {"library_name": "transformers", "pipeline_tag": "text-classification"}
    if facts.base_model:
        matter["base_model"] = printable(facts.base_model)
    if facts.licence:
        matter["license"] = facts.licence
    if facts.languages:
        matter["language"] = list(facts.languages)
    matter["tags"] = list(dict.fromkeys((*_TAGS, *facts.tags)))
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=1000)


def _cell(value: Cell) -> str:
    """A value as Markdown: its number, its interval in brackets, a reason where there is none."""
    if isinstance(value, float):
        return f"{value:.6g}"
    words = shown(value, "number" if isinstance(value, Estimate) else "text")
    interval = f" ({words.interval})" if words.interval else ""
    reason = f" ({plain(words.reason)})" if words.reason else ""
    return plain(words.value) + interval + reason


def _code(text: str) -> str:
    """An inline code span, whatever backticks the text holds."""
    text = " ".join(printable(text).split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if len(ticks) > 1 else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _fenced(recipe: str) -> str:
    """A code block whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", recipe)), default=0))
    return f"{fence}yaml\n{printable(recipe).rstrip()}\n{fence}"
