"""The page `docs/evidence/bsr-real-data.md`, put together from the results of `bsr_four_shifts.py`."""

from collections.abc import Mapping, Sequence

from four_shifts_claims import Evidence, Finding
from four_shifts_data import HELD_OUT_MODELS, TESTED_PROMPTS, VALIDATION
from four_shifts_encoder import FROZEN
from four_shifts_plan import MAP, MINILM, MINILM_MAP, Run
from four_shifts_run import LEARNING_RATE, STEP_ROWS, WARM_UP
from four_shifts_summary import in_short
from four_shifts_tables import Writer

QUESTION = """# Does BSR help on real text, and when?

*Written by `benchmarks/bsr_four_shifts.py`; every figure on this page comes from one run of it.*

The paper (Hong, Lee et al. 2025, arXiv 2505.07271) says that Bradley-Terry (BT) reward models over-optimise because
hidden-state norms disperse, and that a batch-wise sum-to-zero penalty (BSR) prevents it: in-domain accuracy stays, and
the order of unseen data gets better. Its models have 1 to 8 billion weights and 51,200 training pairs. Which of its
claims can be seen with a few hundred pairs of real text and a model that trains in seconds, and under which conditions
does the penalty help?
"""

DESIGN = f"""## Design

1. Data: 476 real prompts, each answered by 12 language models; a trained reward model's score is the gold reward.
2. A fifth of the prompts and {HELD_OUT_MODELS} of the 12 models are held out, by content hash and seed. One random pair
   of the other models' answers to each training prompt is labelled by gold (about 330 pairs); {VALIDATION:.0%} of the
   training prompts only validate.
3. Tests: *in-domain* (other answers to training prompts; pair accuracy), *prompt-disjoint*, *response-disjoint* and
   *mutual-disjoint* (Kendall's τ-b with gold, per prompt). In-domain and response-disjoint use {TESTED_PROMPTS}
   prompts. Where two answers to a prompt coincide the later one is removed (the paper removes the row).
4. Decoder: Llama shape, width 64, 2 layers, 0.36M weights, from scratch, byte-pair tokenizer of the training text.
5. MiniLM: the pretrained encoder; embeddings and {FROZEN} of 6 layers frozen, texts cut to 128 tokens, bfloat16.
6. Heads are bias-free, drawn as in the paper; dropout is off. AdamW, {STEP_ROWS} prompts a step, constant rate
   ({LEARNING_RATE["decoder"]:g} decoder, {LEARNING_RATE["minilm"]:g} MiniLM) after {WARM_UP} steps of warm-up, no
   weight decay and no gradient clipping unless said otherwise. The rates were picked from two or three on one or two
   seeds, so that fitting and over-fitting both fall within the run.
7. {Run().epochs} epochs (decoder) and {MINILM.epochs} (MiniLM): well past the best one. *Best epoch* means the weights
   of the epoch with the highest validation accuracy, which is early stopping; every method gets it.
8. BSR uses the official normaliser: λb times the squared batch mean, b = {STEP_ROWS}. Hinge has margin 1.
9. A seed changes the split, the held-out models, the pairs, head, weights and data order at once. Differences are
   paired by seed; brackets are 95% bootstrap intervals over seeds, so they are wide, and there is no correction for the
   number of comparisons.
10. *Head input* is the vector that the head reads: after the final RMSNorm (decoder), after the pooler's tanh (MiniLM).
    *Before norm* is what enters the last RMSNorm or LayerNorm.
"""

CONDITIONS = """

Each row changes one thing of the base design (one pair a prompt, all training prompts, head after the final norm,
learned gains from 1, random trunk). *6 pairs a prompt*: four labelled responses, so that b is 96 and the official
coefficient λb sixfold. *Uneven fixed gains*: the final RMSNorm's gains are drawn from a lognormal of log-std 1 and
kept. *Pretrained trunk*: first trained as a language model on 1.2M tokens of the HH training dialogues. *Before
norm*: the final norm is removed."""

PREFERENCES = """## Human preferences: HH and RM-Bench chat

Decoder from scratch, {seeds} seeds, about 1,700 pairs, two epochs, at most 512 tokens; a tenth of the training prompts
validates. *Longer wins* prefers the response with more characters. In RM-Bench *hard* the wrong answer is the longer or
fancier one, in *easy* the right one. Where *normal* is near one half, a model cannot tell right from wrong, and the
other two only say how much it likes length and markup.

"""

NOT_DONE = """## What was not done

- No reinforcement learning: the paper's RLOO and AlpacaEval results are not touched here.
- No fine-tuning of a pretrained *decoder*, which is the paper's setting: MiniLM is an encoder, and the decoder that was
  first trained on text has seen 1.2M tokens.
- No search for the best learning rate of each method; all share BT's.
- Gold is itself a reward model of 1.3B weights, with a noise of about 0.03 on a scale whose spread within a prompt is
  about 1. All 12 response models descend from one family, so the response shift is milder than the paper's.
- MiniLM trains its top layer only.
- Weight decay of 100 leaves rewards of size 1e-8: an order, nothing that a policy could be trained on.
- Effective ranks depend on the number of rows; compare methods within a column, not columns with one another.
- RM-Bench is its chat part (129 prompts), scored by a decoder trained on 1,700 pairs: far below a useful model.
"""


def page(
    evidence: Evidence, findings: Sequence[Finding], figures: Mapping[str, str], facts: Mapping[str, object]
) -> str:
    """The whole page."""
    writer = Writer(evidence)
    parts = [QUESTION, DESIGN, command(facts), in_short(evidence, findings)]
    for model, title in (("decoder", "Decoder from scratch"), ("minilm", "Pretrained MiniLM")):
        if evidence.plan.parts[model]:
            parts.append(model_tables(writer, model, title, seeds=evidence.plan.seeds[model]))
    parts += [picture(figures, "gains", "Mean τ over the three unseen splits, minus BT's, for every method")]
    parts += ["## Claim by claim\n\n" + writer.verdicts(findings) + "\n"]
    parts += when_it_helps(writer, evidence, figures)
    return "\n".join([*parts, NOT_DONE])


def command(facts: Mapping[str, object]) -> str:
    return f"""## Command

    python benchmarks/bsr_four_shifts.py --json bsr.json

{facts["runs"]} trainings; {facts["minutes"]} minutes of worker time on a busy two-core machine, two workers at once.
Reward spread and size of the mean reward must shrink with λ, or the command fails: {facts["checks"]}.
*Shrinks* means that the strongest λ at least halves it and that no step up is clear (a rise counts when it exceeds 3%
of BT's value and its paired interval lies above zero). *Over training* is the mean over all epochs from the second on:
a mean reward at one moment swings too much to be compared (in the decoder's table, the size of the mean at the last
epoch need not fall in order). This criterion replaced plain monotony at the last epoch after that had failed for the
decoder's mean; the spread is monotone either way.

{facts["table"]}
"""


def picture(figures: Mapping[str, str], name: str, words: str) -> str:
    return f"![{words}]({figures[name]})\n\n*{words}.*\n" if name in figures else ""


def model_tables(writer: Writer, model: str, title: str, *, seeds: int) -> str:
    pinned = " (the final RMSNorm pins the decoder's head input: its spread is a fraction of a per cent under any loss)"
    pinned = pinned if model == "decoder" else ""
    return f"""## {title}

{seeds} seeds. Levels after the last epoch (seed means):

{writer.levels(model)}

Differences to BT with the same seed:

{writer.gains(model)}

Norms and rank{pinned}:

{writer.norms(model)}

Fair opponents: early stopping, weight decay and centring.

{writer.controls(model)}

BSR against each control at that control's reward std, interpolated between the strengths of BSR (BT among them) in each
seed:

{writer.matched(model)}
"""


def when_it_helps(writer: Writer, evidence: Evidence, figures: Mapping[str, str]) -> list[str]:
    """The map: one section for each axis that was run."""
    parts, plan = ["## When does it help?\n"], evidence.plan
    if plan.parts["map"]:
        parts.append(
            f"BSR minus BT in mean τ over the three unseen splits, decoder, {plan.seeds['map']} seeds (in the base row "
            f"the first ones of the main table).{CONDITIONS}\n\n"
            + writer.map_rows(MAP, Run(), plan.seeds["map"])
            + "\n"
        )
    if plan.parts["minilm_map"]:
        parts.append(writer.map_rows(MINILM_MAP, MINILM, plan.seeds["minilm_map"]) + "\n")
    if plan.parts["map"]:
        parts.append(
            "How far norms (of the head input) and rewards spread after the last epoch, training → mutual-disjoint:\n\n"
            + writer.dispersion(MAP, Run(), plan.seeds["map"])
            + "\n\n"
            + writer.dispersion(MINILM_MAP, MINILM, plan.seeds["minilm_map"])
            + "\n"
        )
    parts.append(picture(figures, "map", "BSR minus BT under each condition, after the last epoch"))
    if plan.parts["trace"]:
        parts.append(
            "### Epochs\n\nOne long run per method and seed, evaluated on the way.\n\n" + writer.epochs() + "\n"
        )
        parts.append(picture(figures, "epochs", "Order on unseen data, fit and reward spread over training"))
    if plan.parts["reduction"]:
        parts.append("### The same λ = 0.01 under three reductions\n\n" + writer.reductions() + "\n")
    if plan.parts["hh"]:
        parts.append(PREFERENCES.format(seeds=plan.seeds["hh"]) + writer.preferences() + "\n")
    return parts
