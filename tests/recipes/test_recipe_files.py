"""The recipe files that come with the project: every one loads, and says what its paper or name says."""

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from trueup.objectives.advantage.a_lol_seq import ALolSeq
from trueup.objectives.preference.dpo import DPO
from trueup.objectives.preference.h_dpo import HDPO
from trueup.objectives.reward.bradley_terry import BradleyTerry
from trueup.objectives.reward.bsr import BatchSumToZero
from trueup.objectives.supervised.chosen import ChosenLikelihood
from trueup.recipes.config import dump, load
from trueup.recipes.preference_settings import TrainPreference
from trueup.recipes.train_reward import TrainReward

FOLDER = Path(__file__).resolve().parents[2] / "recipes"
LAUNCH = sorted(FOLDER.glob("accelerate_*.yaml"))
POLICIES = sorted(FOLDER.glob("policy_*.yaml"))  # tests of `trueup train policy` load these
PREFERENCES = sorted(FOLDER.glob("preference_*.yaml"))
ITERATED = [FOLDER / "inpo.yaml", FOLDER / "modpo.yaml"]  # so do those of `trueup train inpo` and of modpo
RECIPES = sorted(set(FOLDER.glob("*.yaml")) - {*LAUNCH, *POLICIES, *PREFERENCES, *ITERATED})


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} == {"skywork_llama31_8b_bsr", "hh_rlhf_tiny", "ultrafeedback_lora"}
    assert {path.stem for path in POLICIES} == {"policy_rloo_lora", "policy_ppo_ensemble"}
    assert {path.stem for path in PREFERENCES} == {"preference_a_lol", "preference_dpo_lora", "preference_hh_tiny"}
    assert {path.stem for path in LAUNCH} == {"accelerate_fsdp2", "accelerate_ddp"}


@pytest.mark.parametrize("path", [*RECIPES, *PREFERENCES], ids=lambda path: path.stem)
def test_a_recipe_loads_and_says_how_it_is_run(path, tmp_path):
    kind = TrainPreference if path in PREFERENCES else TrainReward
    recipe = load(kind, config=path)
    assert recipe.output == Path("runs") / path.stem
    assert f"--config recipes/{path.name}" in path.read_text()
    again = tmp_path / "again.yaml"
    again.write_text(dump(recipe))
    assert load(kind, config=again) == recipe


def test_preferences_are_those_that_the_names_say():
    a_lol, dpo, hh = (load(TrainPreference, config=path) for path in PREFERENCES)
    assert (a_lol.terms, a_lol.weighing.scale, a_lol.data.responses) == ((ALolSeq(clip=0.9),), "sigmoid", "chosen")
    assert (dpo.terms, dpo.lora.rank, dpo.reference) == ((DPO(beta=0.1),), 32, None)
    assert hh.terms == (HDPO(beta=0.1, alpha=0.95), ChosenLikelihood(coefficient=0.2))


def test_the_paper_s_8b_setting():
    recipe = load(TrainReward, config=FOLDER / "skywork_llama31_8b_bsr.yaml")
    assert recipe.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert recipe.data.train == "Skywork/Skywork-Reward-Preference-80K-v0.2"
    assert recipe.terms == (BradleyTerry(), BatchSumToZero(coefficient=1e-3, reduction="official", group_size=16))
    numbers = (recipe.learning_rate, recipe.batch_size, recipe.epochs, recipe.warmup, recipe.data.max_length)
    assert numbers == (2e-6, 128, 1, 0.05, 2048)
    assert (recipe.schedule, recipe.seed, recipe.bf16) == ("linear", 90, True)


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.stem)
def test_a_launch_configuration_is_one_of_accelerate_s(path):
    config = load_config_from_file(str(path))
    assert str(config.distributed_type).endswith(("FSDP", "MULTI_GPU"))
    assert config.num_processes == 8
    assert config.mixed_precision == "bf16"


def test_fsdp_configuration_sets_what_accelerate_reads(monkeypatch):
    """Every key reaches accelerate's plugin, as `accelerate launch` passes it on."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import StateDictType

    settings = yaml.safe_load((FOLDER / "accelerate_fsdp2.yaml").read_text())["fsdp_config"]
    for name, value in settings.items():
        monkeypatch.setenv(name.upper(), str(value))
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type == StateDictType.SHARDED_STATE_DICT
    assert plugin.cpu_ram_efficient_loading is False
    assert plugin.auto_wrap_policy is not None
