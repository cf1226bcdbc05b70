"""The reference sample over which gold is standardised, and the measuring of its constants."""

from collections.abc import Iterator

import numpy as np

from trueup.lab.world.gold import Features, Scale, features, weighted
from trueup.lab.world.language import stream
from trueup.lab.world.ontology import load_ontology
from trueup.lab.world.prompts import CORE_FAMILIES, draw_prompt
from trueup.lab.world.records import WorldPrompt
from trueup.lab.world.writers import TRAINING_WRITERS

REFERENCE_PROMPTS = 400
REFERENCE_SEED = 20_250_101


def reference_sample() -> Iterator[tuple[WorldPrompt, str, str]]:
    """Prompt, writer and response: one answer of every training writer to each of 400 prompts of the core families."""
    generator = stream(REFERENCE_SEED)
    for _ in range(REFERENCE_PROMPTS):
        prompt = draw_prompt(generator, CORE_FAMILIES)
        for name, writer in TRAINING_WRITERS.items():
            yield prompt, name, writer(prompt, load_ontology(), generator)


def measure() -> Scale:
    """Means and standard deviations over the reference sample, as `trueup.lab.world.gold.SCALE` holds them."""
    measured = [features(prompt, text) for prompt, _, text in reference_sample()]
    table = np.asarray(measured)
    mean, std = Features(*table.mean(axis=0).tolist()), Features(*table.std(axis=0).tolist())
    bare = Scale(mean, std, 0.0, 1.0)
    totals = np.asarray([weighted(row, bare) for row in measured])
    return Scale(mean, std, float(totals.mean()), float(totals.std()))
