"""The sections of a reward model's audit: from its numbers to figures and tables."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from trueup.report.audit_values import Audit, Estimates, known
from trueup.report.figures import (
    NARROW,
    WIDE,
    Scale,
    forest,
    histograms,
    length_bias,
    reliability,
)
from trueup.report.page import Block, Column, Figure, Section, Table
from trueup.report.text import Cell, Missing

_WHO = (Column("Split"), Column("Model"))


class Draw(Protocol):
    """A figure with everything given but its width."""

    def __call__(self, *, width: int) -> str:
        """Draw it."""


def figure(draw: Draw, title: str, *, shows: str, good: str) -> Figure:
    """A figure at both widths."""
    return Figure(svg=draw(width=WIDE), narrow=draw(width=NARROW), title=title, shows=shows, good=good)


def dots(values: Estimates, scale: Scale, title: str, *, shows: str, good: str, missing: str) -> tuple[Block, ...]:
    """A dot figure, or a sentence that says why there is none."""
    if not known(values):
        return (f"{title}: {missing}.",)
    return (figure(partial(forest, values, scale), title, shows=shows, good=good),)


def table(audit: Audit, caption: str, columns: Sequence[tuple[Column, tuple[str, ...]]]) -> Table:
    """A table with one row for each split and model, and one column for each path into their results."""
    rows: list[tuple[Cell, ...]] = [
        (split, model, *(audit.cell(model, split, *path) for _, path in columns)) for model, split in audit.rows()
    ]
    return Table(columns=(*_WHO, *(column for column, _ in columns)), rows=tuple(rows), caption=caption)


def ranking(audit: Audit) -> Section:
    """Accuracy and Kendall's tau."""
    accuracy = dots(
        audit.estimates("accuracy"),
        Scale(label="pair accuracy", reference=0.5, style="percent", digits=3),
        "Accuracy on pairs",
        shows="How often the chosen answer gets the higher reward, with 95% intervals. The dashed line is chance.",
        good="Far to the right of chance on every split, and little lower on splits unlike the training data.",
        missing=audit.why("accuracy"),
    )
    tau = dots(
        audit.estimates("tau", "mean"),
        Scale(label="Kendall's tau with gold", reference=0.0),
        "Agreement with the gold ranking",
        shows="How well the reward orders all answers to one prompt: 1 is gold's order, 0 is no relation.",
        good="High, and about as high on every split.",
        missing=audit.why("tau", "mean"),
    )
    columns = (
        (Column("Accuracy", "percent"), ("accuracy",)),
        (Column("Tied pairs", "count"), ("ties",)),
        (Column("Kendall's tau", "number", 2), ("tau", "mean")),
        (Column("Prompts without tau", "count"), ("tau", "undefined")),
    )
    numbers = table(audit, "Accuracy and rank agreement, with 95% intervals", columns)
    return Section("Does it rank answers rightly?", (*accuracy, *tau, numbers, *differences(audit)))


def differences(audit: Audit) -> tuple[Block, ...]:
    """Paired differences between models, where there are several."""
    rows = audit.differences()
    if not rows:
        return ()
    columns = (
        Column("Split"), Column("Difference"), Column("Accuracy", "signed"), Column("Kendall's tau", "signed"),
    )  # fmt: skip
    caption = "Differences between models on the same prompts; an interval without 0 is a difference you can trust"
    return (Table(columns=columns, rows=rows, caption=caption),)


def rewards(audit: Audit) -> Section:
    """The distribution of rewards."""
    panels = audit.histograms("reward", "histogram")
    blocks: list[Block] = []
    if panels:
        blocks.append(
            figure(
                partial(histograms, panels, "reward"),
                "How rewards are spread",
                shows="The distribution of rewards on each split; the line marks the mean. "
                "Each model has its own scale.",
                good="Similar places and widths on all splits. A split that drifts or widens is one on which the "
                "model extrapolates.",
            )
        )
    columns = (
        (Column("Mean", "number", 2), ("reward", "mean")),
        (Column("Spread (std)", "number", 2), ("reward", "std")),
        (Column("Spread within a prompt", "number", 2), ("reward", "within_prompt_std")),
    )
    blocks.append(table(audit, "Rewards", columns))
    return Section("What do its rewards look like?", tuple(blocks))


def hidden_norms(audit: Audit) -> Section:
    """Dispersion of hidden-state norms, and which factor of the reward varies."""
    panels = audit.histograms("dispersion", "histogram")
    if not panels:
        return Section("How do hidden states spread?", (f"Not measured: {audit.why('dispersion')}.",))
    drawn = figure(
        partial(histograms, panels, "norm of the hidden state"),
        "Hidden-state norms",
        shows="The norm of the vector from which the reward is read, on each split.",
        good="Narrow, and in the same place on every split. Norms that spread on unseen data make rewards "
        "extreme where the model knows least.",
    )
    columns = (
        (Column("Measured"), ("dispersion", "measured_at")),
        (Column("Mean norm", "number", 2), ("dispersion", "mean")),
        (Column("Std", "number", 2), ("dispersion", "std")),
        (Column("Std / mean", "percent"), ("dispersion", "cv")),
        (Column("Skew", "signed", 2), ("dispersion", "skew")),
        (Column("Effective rank", "number", 1), ("dispersion", "effective_rank")),
    )
    before = (
        (Column("Mean norm", "number", 2), ("before_final_norm", "mean")),
        (Column("Std", "number", 2), ("before_final_norm", "std")),
        (Column("Std / mean", "percent"), ("before_final_norm", "cv")),
        (Column("Skew", "signed", 2), ("before_final_norm", "skew")),
    )
    shares = (
        (Column("From the norm", "percent"), ("decomposition", "norm_share")),
        (Column("From the direction", "percent"), ("decomposition", "cos_share")),
        (Column("From both together", "percent"), ("decomposition", "joint_share")),
    )
    return Section(
        "How do hidden states spread?",
        (
            drawn,
            table(audit, "Norms of hidden states where the reward is read", columns),
            table(audit, "Norms before the model's final normalisation", before),
            "A reward is the head's norm times the hidden state's norm times the cosine between them. The table "
            "says which of the two varies when rewards vary; a sound model speaks through the direction.",
            table(audit, "Where the variance of rewards comes from", shares),
        ),
    )


def calibration(audit: Audit) -> Section:
    """Calibration of pairwise confidence."""
    curves = audit.curves()
    blocks: list[Block] = []
    if curves:
        blocks.append(
            figure(
                partial(reliability, curves),
                "Confidence against accuracy",
                shows="Pairs grouped by how sure the model was (sigmoid of the reward margin), and how often each "
                "group was right. Larger marks hold more pairs.",
                good="Marks on the dashed line. Below it the model claims more than it knows.",
            )
        )
    columns = (
        (Column("Calibration error", "percent"), ("calibration", "ece")),
        (Column("If calibrated", "percent"), ("calibration", "ece_if_calibrated")),
        (Column("Mean confidence", "percent"), ("calibration", "confidence")),
        (Column("Over-confidence", "percent"), ("calibration", "overconfidence")),
        (Column("Log loss (nats)", "number"), ("calibration", "nll")),
    )
    blocks.append(table(audit, "Calibration", columns))
    return Section("Is it as sure as it should be?", tuple(blocks))


def length(audit: Audit) -> Section:
    """Length bias."""
    within = audit.estimates("length", "within_prompt")
    blocks: list[Block] = []
    if known(within):
        blocks.append(
            figure(
                partial(length_bias, within),
                "Does reward follow length?",
                shows="The rank correlation of reward and length among answers to the same prompt.",
                good="Close to what the data's own preferences show, and not far from zero.",
            )
        )
    columns = (
        (Column("Correlation", "signed", 2), ("length", "within_prompt")),
        (Column("Longer wins", "percent"), ("length", "longer_wins")),
        (Column("Accuracy over that rule", "percent"), ("length", "over_longer_wins")),
        (Column("Equal length", "percent"), ("length", "matched")),
        (Column("Chosen is shorter", "percent"), ("length", "chosen_shorter")),
        (Column("Chosen is longer", "percent"), ("length", "chosen_longer")),
    )
    caption = (
        "Length: correlation within prompts, accuracy of the rule that the longer answer wins, "
        "and the model's accuracy by what length says"
    )
    return Section("Does it just like long answers?", (*blocks, table(audit, caption, columns)))


def not_measured(what: str, why: Missing) -> str:
    """One sentence about a measure that has no value."""
    return f"{what}: not measured: {why.reason}."
