"""Log-probabilities are computed once, read afterwards, and never trusted where anything has changed."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import save_file

from small_preferences import FORM, TOKENIZER, judged, policy, preferences
from tiny_models import make_tokenizer, save_base
from tiny_policies import plain_logprobs
from trueup.errors import NonFiniteError
from trueup.models.policy_checkpoints import load_policy_checkpoint, new_policy
from trueup.models.reading import logprobs
from trueup.train import reference_cache
from trueup.train.prepare import prepare_pairs
from trueup.train.reference_cache import Sharing, cached_logprobs, model_fingerprint
from trueup.train.references import AdapterOff

ROWS = judged(9, seed=1)
DATASET = preferences(ROWS)


class Counting:
    """A model that counts the rows it was asked about."""

    def __init__(self, model=None) -> None:
        self.model, self.asked = model or policy(), 0

    def __call__(self, rows):
        self.asked += len(rows)
        return logprobs(self.model, rows, token_budget=200)


def look(folder, compute, dataset=DATASET, *, model="m", arithmetic="cpu None", **options):
    return cached_logprobs(dataset, compute, model=model, arithmetic=arithmetic, folder=folder, **options)


def same(one, other) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_each_row_gets_its_own_in_float32():
    found = look(None, Counting())
    plain = policy(sharing="separate")
    for i in range(len(DATASET)):
        with torch.no_grad():
            expected = plain_logprobs(plain, [DATASET[i]])
        assert found[i].dtype == torch.float32
        assert torch.allclose(found[i].double(), expected, atol=1e-5)


def test_the_second_time_nothing_is_computed(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(reference_cache, "_CHUNK", 4)
    first, second = Counting(), Counting()
    expected = look(tmp_path, first)
    caplog.set_level(logging.INFO)
    assert same(look(tmp_path, second), expected)
    assert (first.asked, second.asked) == (len(DATASET), 0)
    assert "was asked about these 9 rows before" in caplog.text
    (entry,) = tmp_path.iterdir()
    with safe_open(entry, framework="pt") as file:
        assert file.get_tensor("logprob").dtype == torch.float32
    assert look(None, Counting())[0].shape == expected[0].shape


def changed_word():
    rows = [*ROWS[:-1], replace(ROWS[-1], prompt="Name plums:")]
    return preferences(rows)


def another_seam():
    """The same ids of the last row, of which one more belongs to the prompt."""
    dataset = preferences([*ROWS])
    table = dataset.table
    prompt, lengths = table.prompt_length.copy(), table.branch_length.copy()
    prompt[-1] += 1
    lengths[int(table.branch_start[-2])] -= 1
    return type(dataset)(dataset.rows, replace(table, prompt_length=prompt, branch_length=lengths), dataset.preferences)


def truncated():
    form = replace(FORM, max_length=12)
    return prepare_pairs(ROWS, tokenizer=TOKENIZER, form=form, too_long="truncate").dataset


def in_a_template():
    tokenizer = make_tokenizer(pad="<pad>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    return prepare_pairs(ROWS, tokenizer=tokenizer, form=replace(FORM, kind="chat", append_eos=False)).dataset


CHANGES = {
    "other text": {"dataset": changed_word},
    "another order": {"dataset": lambda: preferences(ROWS[::-1])},
    "fewer rows": {"dataset": lambda: preferences(ROWS[:-1])},
    "another seam": {"dataset": another_seam},
    "another truncation": {"dataset": truncated},
    "another template": {"dataset": in_a_template},
    "another model": {"model": "n"},
    "another arithmetic": {"arithmetic": "cpu torch.bfloat16"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_anything_else_is_computed_anew(name, tmp_path):
    look(tmp_path, Counting())
    change = {key: value() if callable(value) else value for key, value in CHANGES[name].items()}
    counting = Counting()
    found = look(tmp_path, counting, **change)
    dataset = change.get("dataset", DATASET)
    assert counting.asked == len(dataset)
    assert len(list(tmp_path.iterdir())) == 2
    assert [len(one) for one in found] == [sum(dataset[i].branch_lengths) for i in range(len(dataset))]


def test_what_changes_no_token_keeps_the_entry(tmp_path):
    """Names, margins and the order of labels: what a method makes of the pairs is its own business."""
    look(tmp_path, Counting())
    renamed = [replace(row, id=f"other {row.id}", margin=2.0) for row in ROWS]
    flipped = [replace(r, responses=tuple(replace(o, label=not o.label) for o in r.responses)) for r in renamed]
    counting = Counting()
    look(tmp_path, counting, preferences(flipped))
    assert counting.asked == 0


# Damage


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def rewrite(path, *, change=lambda values: values, **said):
    with safe_open(path, framework="pt") as file:
        values, known = file.get_tensor("logprob"), file.metadata()
    save_file({"logprob": change(values).contiguous()}, path, metadata={**known, **said})


DAMAGE = {
    "cut": cut,
    "a flipped bit": flip,
    "empty": lambda path: path.write_bytes(b""),
    "no tensors": lambda path: path.write_bytes(b"not tensors at all"),
    "of another key": lambda path: rewrite(path, key="0" * 64),
    "of another type": lambda path: rewrite(path, change=lambda values: values.half()),
    "too short": lambda path: rewrite(path, change=lambda values: values[:-1]),
    "another name": lambda path: save_file({"other": torch.zeros(3)}, path),
    "no metadata": lambda path: save_file({"logprob": torch.zeros(3)}, path),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_entry_is_made_again(name, tmp_path, caplog):
    expected = look(tmp_path, Counting())
    (path,) = tmp_path.iterdir()
    DAMAGE[name](path)
    counting = Counting()
    assert same(look(tmp_path, counting), expected)
    assert counting.asked == len(DATASET)
    assert "are computed again" in caplog.text
    caplog.clear()
    again = Counting()
    assert same(look(tmp_path, again), expected)
    assert again.asked == 0
    assert not caplog.text


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path, caplog):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    found = look(in_the_way, Counting())
    assert len(found) == len(DATASET)
    assert "computes these log-probabilities again" in caplog.text


def test_writers_at_the_same_time_do_not_clash(tmp_path):
    expected = look(None, Counting())
    model = policy()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: look(tmp_path, Counting(model)), range(8)))
    assert all(same(one, expected) for one in found)
    assert len(list(tmp_path.iterdir())) == 1


def test_devices_that_share_the_work_ask_about_every_row_once(monkeypatch):
    """Two processes by turns: each is handed what the other would have sent it."""
    expected = look(None, Counting())
    sent = {}

    def gather(mine):
        sent.setdefault("all", []).append(mine)
        return mine

    monkeypatch.setattr(reference_cache, "gather_object", gather)
    counts = []
    for rank in (0, 1):
        counting = Counting()
        with pytest.raises(ValueError, match="rank is not there"):
            look(None, _stopping(counting), sharing=Sharing(rank=rank, world=2))
        counts.append(counting.asked)
    assert counts == [5, 4]
    everything = [one for rank in (0, 1) for one in _parts(rank)]
    monkeypatch.setattr(reference_cache, "gather_object", lambda mine: everything if mine != [False] else mine * 2)
    assert same(look(None, Counting(), sharing=Sharing(rank=1, world=2)), expected)


def _stopping(counting):
    def compute(rows):
        counting(rows)
        raise ValueError("the other rank is not there")

    return compute


def _parts(rank):
    rows = [(i, DATASET[i]) for i in range(rank, len(DATASET), 2)]
    return list(zip([i for i, _ in rows], Counting()([row for _, row in rows]), strict=True))


def test_a_reference_that_is_not_finite_names_the_row(tmp_path):
    def compute(rows):
        found = logprobs(policy(), rows, token_budget=200)
        found[3][0] = float("nan")
        return found

    with pytest.raises(NonFiniteError, match=r"1 of 9 rows .* the first at made\.jsonl:4"):
        look(tmp_path, compute)
    assert not list(tmp_path.iterdir())


# What a model is


def test_a_fingerprint_follows_weights_and_settings():
    start = model_fingerprint(policy(), adapter=False)
    assert model_fingerprint(policy(), adapter=True) == start
    moved = policy()
    with torch.no_grad():
        next(moved.parameters()).view(-1)[0] += 1e-9
    changed = policy()
    changed.core.config.attention_dropout = 0.3
    wider, narrower = policy(n_head=2), policy(dtype=torch.float32)
    found = [model_fingerprint(one, adapter=False) for one in (policy(), moved, changed, wider, narrower)]
    assert found[0] == start
    assert len(set(found)) == 5


def test_where_a_model_lies_and_how_it_shares_do_not_count(tmp_path):
    one = policy()
    other = policy(sharing="separate")
    other.core.config._name_or_path = "elsewhere"
    assert model_fingerprint(one, adapter=False) == model_fingerprint(other, adapter=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"), make_tokenizer(pad="<pad>"))


def test_a_base_is_the_same_under_an_adapter_that_is_off(base, tmp_path):
    """So that a run with LoRA and one without share their entry; with the adapter on it is another model."""
    alone = new_policy(base, tokenizer=TOKENIZER)
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    adapted = new_policy(base, tokenizer=TOKENIZER, lora=lora)
    known = model_fingerprint(alone, adapter=False)
    assert model_fingerprint(adapted, adapter=False) == known
    on = model_fingerprint(adapted, adapter=True)
    assert on != known
    scaled = new_policy(base, tokenizer=TOKENIZER, lora=lora)
    scaled.pretrained.load_state_dict(adapted.pretrained.state_dict())
    assert model_fingerprint(scaled, adapter=True) == on
    scaled.pretrained.peft_config["default"].lora_alpha = 99
    assert model_fingerprint(scaled, adapter=True) != on
    whole = look(tmp_path, lambda rows: logprobs(alone.eval(), rows, token_budget=200), model=known)
    counting = Counting()
    assert same(look(tmp_path, counting, model=model_fingerprint(adapted, adapter=False)), whole)
    assert counting.asked == 0
    off = AdapterOff(adapted.eval(), token_budget=200).logprobs([DATASET[i] for i in range(len(DATASET))])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(off, whole, strict=True))


def test_a_model_from_a_file_is_the_one_that_was_read_to_train(base):
    read = load_policy_checkpoint(base, dtype=torch.float32).model
    assert model_fingerprint(read, adapter=True) == model_fingerprint(
        new_policy(base, tokenizer=TOKENIZER), adapter=False
    )
