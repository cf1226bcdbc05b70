"""A whole model from an adapter: what it computes, that plain transformers loads it, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, TaskType
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tiny_models import make_checkpoint, make_tokenizer, save_base
from trueup.cli import main
from trueup.data.templates import TextFormat
from trueup.errors import CheckpointError, OutputError
from trueup.merging.adapter import write_merged
from trueup.models.checkpoints import load_reward_model
from trueup.models.policy_checkpoints import load_policy_checkpoint, new_policy, save_policy
from trueup.models.tokenizers import load_tokenizer
from trueup.recipes.merge_adapter import MergeAdapter, merge_adapter

LORA = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"])
FORM = TextFormat(kind="plain", max_length=64, append_eos=True, special_tokens=False)
IDS = torch.tensor([[9, 10, 11, 12, 13]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("bases") / "base", make_tokenizer(), dtype="float32")


def moved(model: torch.nn.Module) -> None:
    """An adapter that was trained: its second factors are no longer zero."""
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(std=0.3, generator=generator)


@pytest.fixture
def policy(base: Path, tmp_path: Path) -> Path:
    tokenizer = load_tokenizer(base)
    model = new_policy(base, tokenizer=tokenizer, lora=LORA)
    moved(model)
    run = tmp_path / "run"
    save_policy(run / "model", model, tokenizer=tokenizer, form=FORM, provenance={"seed": 7})
    return run


def test_a_policy_says_the_same_whole(base: Path, policy: Path, tmp_path: Path) -> None:
    done = merge_adapter(MergeAdapter(model=str(policy), output=tmp_path / "whole"))
    adapted = AutoPeftModelForCausalLM.from_pretrained(policy / "model")(input_ids=IDS).logits
    whole, plain = (AutoModelForCausalLM.from_pretrained(place)(input_ids=IDS).logits for place in (done.output, base))
    torch.testing.assert_close(whole, adapted, atol=1e-5, rtol=1e-5)
    assert (whole - plain).abs().max() > 0.01
    found = load_policy_checkpoint(done.output)
    assert (found.form, found.provenance["seed"]) == (FORM, 7)
    assert AutoTokenizer.from_pretrained(done.output).get_vocab() == load_tokenizer(base).get_vocab()
    assert not (done.output / "adapter_config.json").exists()
    new_policy(done.output, tokenizer=found.tokenizer)  # training goes on from it, as it does not from the adapter
    with pytest.raises(CheckpointError, match=r"write `trueup merge adapter --model .*model --output PLACE`"):
        new_policy(policy / "model", tokenizer=found.tokenizer)


def test_a_reward_model_rewards_the_same_whole(base: Path, tmp_path: Path) -> None:
    folder = make_checkpoint(base, tmp_path / "adapter", lora=LORA)
    write_merged(folder, tmp_path / "whole")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole").eval()
    adapted, whole = load_reward_model(folder), load_reward_model(tmp_path / "whole")
    assert whole.form == adapted.form
    expected = adapted.model.pretrained(input_ids=IDS).logits
    for found in (plain, whole.model.pretrained):
        torch.testing.assert_close(found(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-5)
    new = load_tokenizer(tmp_path / "whole")
    assert new.pad_token_id == plain.config.pad_token_id


@pytest.mark.parametrize("kind", ["policy", "reward"])
def test_an_adapter_of_a_relative_place_is_found_from_anywhere(
    kind: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT would write down the name by which the base was loaded."""
    monkeypatch.chdir(base.parent)
    if kind == "reward":
        make_checkpoint(Path("base"), tmp_path / "adapter", lora=LORA)
    else:
        tokenizer = load_tokenizer(base)
        model = new_policy("base", tokenizer=tokenizer, lora=LORA)
        save_policy(tmp_path / "adapter", model, tokenizer=tokenizer, form=FORM, provenance={})
    monkeypatch.chdir(tmp_path)
    assert write_merged("adapter", Path("whole")).base == str(base.resolve())


def test_as_it_is_typed(policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["merge", "adapter", "--model", str(policy), "--output", str(tmp_path / "whole"), "--dtype", "bfloat16"]
    assert main(words) == 0
    assert "adapter merged into " in capsys.readouterr().out
    record = json.loads((tmp_path / "whole" / "merge.json").read_text())
    assert (record["method"], record["adapter"]) == ("adapter", str(policy / "model"))
    assert len(record["fingerprint"]) >= 16
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "whole").dtype == torch.bfloat16
    assert main(words) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([*words, "--overwrite", "true"]) == 0


def spoil(run: Path, how: str) -> Path:
    config = run / "model" / "adapter_config.json"
    values = json.loads(config.read_text())
    if how == "whole model":
        config.unlink()
    elif how == "damaged":
        config.write_text("{")
    elif how == "task":
        config.write_text(json.dumps(values | {"task_type": TaskType.SEQ_2_SEQ_LM.value}))
    elif how == "base":
        config.write_text(json.dumps(values | {"base_model_name_or_path": "/nowhere/at/all"}))
    elif how == "weights":
        (run / "model" / "adapter_model.safetensors").write_bytes(b"no weights")
    elif how == "no folder":
        shutil.rmtree(run)
    return run


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("whole model", r"holds no adapter_config\.json, so there is no adapter to merge"),
        ("damaged", r"adapter_config\.json: cannot be read"),
        ("task", r"task_type is .*SEQ_2_SEQ_LM.*; CAUSAL_LM \(a policy\) and SEQ_CLS \(a reward model\) can be merged"),
        ("base", "no causal language model could be loaded"),
        ("weights", "the weights are damaged"),
        ("no folder", "there is no such folder"),
    ],
)
def test_what_cannot_be_merged(policy: Path, tmp_path: Path, how: str, message: str) -> None:
    run = spoil(policy, how)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=message):
        merge_adapter(MergeAdapter(model=str(run), output=tmp_path / "whole"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_hub_name_is_to_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="an adapter of the hub is downloaded first"):
        merge_adapter(MergeAdapter(model="someone/something", output=tmp_path / "whole"))


def test_the_adapter_is_not_written_over(policy: Path) -> None:
    with pytest.raises(OutputError, match="name another place"):
        merge_adapter(MergeAdapter(model=str(policy), output=policy, overwrite=True))
