"""The sections of a reward model's audit: from its numbers to figures and tables."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from trueup.report.audit_values import Audit, known
from trueup.report.dots import Estimates
from trueup.report.figures import (
    NARROW,
    WIDE,
    Scale,
    forest,
    histograms,
    length_bias,
    reliability,
)
from trueup.report.page import Block, Column, Details, Figure, Section, Table
from trueup.report.text import Cell

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


def folded(content: Table) -> Details:
    """A long table that repeats a figure's numbers and more."""
    return Details("The numbers", (content,))


def ranking(audit: Audit) -> Section:
    """Accuracy and Kendall's tau."""
    accuracy = dots(
        audit.estimates("accuracy"),
        Scale(label="pair accuracy", reference=0.5, name="chance", style="percent", digits=3),
        "Accuracy on pairs",
        shows=f"How often the chosen answer gets the higher reward, with {audit.level} intervals. "
        "The dashed line is what guessing gets.",
        good="Far to the right of chance on every split, and little lower on splits unlike the training data.",
        missing=audit.why("accuracy"),
    )
    tau = dots(
        audit.estimates("tau", "mean"),
        Scale(label="Kendall's tau with gold", reference=0.0, name="no relation"),
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
    numbers = table(audit, f"Accuracy and rank agreement, with {audit.level} intervals", columns)
    return Section("Does it rank answers rightly?", (*accuracy, *tau, numbers, *differences(audit)))


def differences(audit: Audit) -> tuple[Block, ...]:
    """Paired differences between models, where there are several."""
    rows = audit.differences()
    if not rows:
        return ()
    columns = (
        Column("Split"), Column("Difference"), Column("Accuracy (points)", "points"), Column("Kendall's tau", "signed"),
    )  # fmt: skip
    caption = "Differences between models on the same prompts; an interval without 0 is a difference you can trust"
    return (Table(columns=columns, rows=rows, caption=caption),)


def spread(audit: Audit, key: str, label: str, title: str, *, shows: str, good: str) -> tuple[Block, ...]:
    """The distribution of one quantity on each split, or a sentence that says why there is none."""
    panels = audit.histograms(key, "histogram")
    if not panels:
        return (f"{title}: {audit.why(key)}.",)
    return (figure(partial(histograms, panels, label), title, shows=shows, good=good),)


def _moments(key: str) -> tuple[tuple[Column, tuple[str, ...]], ...]:
    return (
        (Column("Mean", "number", 2), (key, "mean")),
        (Column("Std", "number", 2), (key, "std")),
        (Column("Skew", "signed", 2), (key, "skew")),
        (Column("Mean moved (in std)", "signed", 2), (key, "drift", "mean_shift_in_std")),
        (Column("Std ratio", "number", 2), (key, "drift", "std_ratio")),
        (Column("Distance (KS)", "number", 2), (key, "drift", "distance")),
    )


def _relative(key: str) -> tuple[Column, tuple[str, ...]]:
    return Column("Std / mean", "percent"), (key, "cv")


def rewards(audit: Audit) -> Section:
    """The distribution of rewards."""
    drawn = spread(
        audit,
        "reward",
        "reward",
        "How rewards are spread",
        shows="The distribution of rewards on each split; the line marks the mean. Each model has its own scale.",
        good="Similar places and widths on all splits. Where a split drifts or widens, the model extrapolates.",
    )
    columns = (*_moments("reward"), (Column("Std within a prompt", "number", 2), ("reward", "within_prompt_std")))
    caption = "Rewards, and how each split moved from the first one"
    return Section("What do its rewards look like?", (*drawn, folded(table(audit, caption, columns))))


def hidden_norms(audit: Audit) -> Section:
    """Dispersion of hidden-state norms, and which factor of the reward varies."""
    heading = "How do hidden states spread?"
    good = (
        "Narrow, and in the same place on every split. Norms that spread on unseen data make rewards extreme where "
        "the model knows least."
    )
    shows = "The norm of the vector from which the reward is read, on each split; the line marks the mean."
    before = "The same norm before the model's final normalisation, which may hide how widely it spreads."
    blocks = list(spread(audit, "dispersion", "norm of the hidden state", "Norms at the head", shows=shows, good=good))
    if audit.nodes("dispersion"):
        rank = (Column("Effective rank", "number", 1), ("dispersion", "effective_rank"))
        columns = (*_moments("dispersion"), _relative("dispersion"), rank)
        blocks.append(folded(table(audit, "Norms at the head, and the effective rank", columns)))
    title = "Norms before the final normalisation"
    blocks += spread(audit, "before_final_norm", "norm", title, shows=before, good=good)
    if audit.nodes("before_final_norm"):
        blocks.append(folded(table(audit, title, (*_moments("before_final_norm"), _relative("before_final_norm")))))
    return Section(heading, (*blocks, *decomposition(audit)))


def decomposition(audit: Audit) -> tuple[Block, ...]:
    """Which factor of the reward varies."""
    if not audit.nodes("decomposition"):
        return (f"What makes rewards vary: {audit.why('decomposition')}.",)
    shares = (
        (Column("From the norm", "percent"), ("decomposition", "norm_share")),
        (Column("From the direction", "percent"), ("decomposition", "cos_share")),
        (Column("From both together", "percent"), ("decomposition", "joint_share")),
        (Column("Mean cosine", "signed"), ("decomposition", "cos_mean")),
        (Column("Unexplained reward", "number"), ("decomposition", "unexplained")),
    )
    return (
        "A reward is the norm of the head times the norm of the hidden state times the cosine between them. The last "
        "table says which of the two varies when rewards vary. A sound model speaks through the direction.",
        table(audit, "What makes rewards vary", shares),
    )


def calibration(audit: Audit) -> Section:
    """Calibration of pairwise confidence."""
    curves = audit.curves()
    blocks: list[Block] = []
    if not curves:
        blocks.append(f"Confidence against accuracy: {audit.why('calibration')}.")
    else:
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
    blocks.append(folded(table(audit, "Calibration, with the error that chance alone would give", columns)))
    return Section("Is it as sure as it should be?", tuple(blocks))


def length(audit: Audit) -> Section:
    """Length bias."""
    within = audit.estimates("length", "spearman_within_prompt")
    blocks: list[Block] = []
    if not known(within):
        blocks.append(f"Reward and length: {audit.why('length', 'spearman_within_prompt')}.")
    else:
        blocks.append(
            figure(
                partial(length_bias, within),
                "Does reward follow length?",
                shows="The rank correlation of reward and length among answers to the same prompt.",
                good="Close to what the data's own preferences show, and not far from zero.",
            )
        )
    columns = (
        (Column("Rank correlation", "signed", 2), ("length", "spearman_within_prompt")),
        (Column("Longer-wins rule", "percent"), ("length", "longer_wins")),
        (Column("Model over the rule", "points"), ("length", "over_longer_wins")),
        (Column("Same length", "percent"), ("length", "matched")),
        (Column("Chosen shorter", "percent"), ("length", "chosen_shorter")),
        (Column("Chosen longer", "percent"), ("length", "chosen_longer")),
    )
    caption = "Accuracy of the rule that the longer answer wins, and of the model by what length says of a pair"
    return Section("Does it just like long answers?", (*blocks, folded(table(audit, caption, columns))))
