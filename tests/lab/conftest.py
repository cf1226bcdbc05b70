"""The laboratory at a scale of seconds, shared by all tests of it."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from trueup.lab.fitting import Fit
from trueup.lab.gold_proxy import Setup, SetupPlan, set_up
from trueup.lab.optimizing import Optimization
from trueup.lab.policies import PolicyPlan
from trueup.lab.reproduce import policy_plans
from trueup.lab.reproduce.scale import Scale
from trueup.lab.scale_models import Shape
from trueup.train.prompt_order import Rhythm

SHAPE = Shape(vocabulary=300, width=16, layers=1, heads=2, positions=512)
FIT = Fit(learning_rate=1e-3, batch_size=16, epochs=1.0)
POLICY = PolicyPlan(prompts=80, responses=1, shape=SHAPE, fit=replace(FIT, learning_rate=1e-2))
SETUP = SetupPlan(policy=POLICY, prompts=6, samples=24, comparisons=60, held_out=15)


@pytest.fixture(scope="session", autouse=True)
def _little_garbage() -> Iterator[None]:
    """Every training begins with a collection; looking through all imported modules takes longer than the training."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def tiny_scale(tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """Two worlds whose policies hardly speak; whatever is made for one test is there for the next."""
    return Scale(
        seeds=(0, 1),
        setup=SETUP,
        deep=replace(SETUP, prompts=2, samples=120, comparisons=50, held_out=10),
        trunks=(replace(SHAPE, width=8),),
        trunk_prompts=40,
        pairs=(10, 20),
        members=2,
        coefficients=(0.1,),
        shift_prompts=20,
        proxy=FIT,
        shift_fit=FIT,
        policy_steps=4,
        folder=tmp_path_factory.mktemp("lab"),
    )


@pytest.fixture(scope="session")
def lab(tiny_scale: Scale) -> Path:
    """Folder of everything that is made."""
    return tiny_scale.folder


@pytest.fixture(scope="session")
def world_zero(tiny_scale: Scale) -> Setup:
    """The first world."""
    return set_up(tiny_scale.plan(0), folder=tiny_scale.folder)


@pytest.fixture
def little_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies of reproductions draw few short responses, and move far in few steps."""
    little = partial(
        Optimization,
        rhythm=Rhythm(prompts=4, samples=2),
        max_new_tokens=12,
        learning_rate=2e-2,
        every=2,
        samples=2,
    )
    monkeypatch.setattr(policy_plans, "Optimization", little)
