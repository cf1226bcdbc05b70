"""How rows become text and text becomes tokens."""

import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_models import CHATML, LLAMA_LIKE, make_tokenizer
from trueup.data.rows import Message, Origin, Response, Row
from trueup.data.templates import BUILT_IN_TEMPLATE, TextFormat, encode, infer_format, render
from trueup.errors import DataError, RecipeError
from trueup.recipes.data import DataRecipe

TURNS = (Message("user", "Hello"),)
SPECIAL = ("<|role|>", "<|eot_id|>", "<|im_start|>", "<|im_end|>")


def row(prompt):
    return Row(prompt=prompt, responses=(Response(text="a"),), id="1", origin=Origin("rows", 1))


def ids_of(prompt, response, tokenizer, form):
    text = render(prompt, response, tokenizer=tokenizer, form=form)
    return encode([text], tokenizer=tokenizer, form=form, truncate=True)[0]


def infer(tokenizer, prompt=TURNS, **options):
    return infer_format([row("text"), row(prompt)], tokenizer, **{"max_length": None} | options)


def test_auto_is_chat_as_soon_as_one_prompt_has_turns():
    assert infer(make_tokenizer()).kind == "chat"
    assert infer(make_tokenizer(), "more text").kind == "plain"
    assert infer(make_tokenizer(), kind="plain").kind == "plain"


def test_a_chat_template_that_is_not_used_is_said(caplog):
    chat = make_tokenizer(bos="<s>", chat_template=BUILT_IN_TEMPLATE)
    assert infer_format([row("text")], chat, max_length=None).kind == "plain"
    assert "the model's chat template is not used" in caplog.text
    caplog.clear()
    infer_format([row("text")], chat, max_length=None, kind="plain")
    infer_format([row("text")], make_tokenizer(bos="<s>"), max_length=None)
    assert not caplog.text


def test_plain_text_is_joined_between_bos_and_eos():
    tokenizer = make_tokenizer(bos="<s>", eos="</s>")
    form = infer(tokenizer, "x")
    assert tokenizer.decode(ids_of("Name ", "three.", tokenizer, form)) == "<s>Name three.</s>"
    assert tokenizer.decode(ids_of("Name ", "three.</s>", tokenizer, form)) == "<s>Name three.</s>"
    assert tokenizer.chat_template is None


def test_an_eos_that_the_tokenizer_adds_is_not_added_again():
    tokenizer = make_tokenizer(encoder=True)
    tokenizer.eos_token = "[SEP]"
    form = infer(tokenizer, "x")
    assert not form.append_eos
    assert tokenizer.decode(ids_of("Name ", "three", tokenizer, form)) == "[CLS]Name three[SEP]"


def test_no_eos_where_the_tokenizer_has_none():
    tokenizer = make_tokenizer(eos=None)
    form = infer(tokenizer, "x")
    assert not form.append_eos
    with pytest.raises(DataError, match="no token to score"):
        ids_of("", "", tokenizer, form)


@pytest.mark.parametrize("template", [LLAMA_LIKE, CHATML])
def test_a_template_writes_its_own_special_tokens(template):
    tokenizer = make_tokenizer(bos="<s>", extra=SPECIAL, chat_template=template)
    form = infer(tokenizer)
    ids = ids_of(TURNS, "Yes", tokenizer, form)
    assert ids == tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes"}], return_dict=False
    )
    assert ids.count(tokenizer.bos_token_id) == (template == LLAMA_LIKE)
    assert tokenizer.chat_template == template


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"bos": "<s>"}, "<s>User: Hello\nAssistant: Yes\n</s>"),
        ({}, "User: Hello\nAssistant: Yes\n</s>"),
        ({"eos": None}, "User: Hello\nAssistant: Yes\n"),
        ({"encoder": True}, "[CLS]User: Hello\nAssistant: Yes\n[SEP]"),
    ],
)
def test_the_built_in_template_is_whole_in_any_tool(made, expected, caplog):
    """Whoever renders with it and adds no special tokens gets ours; an encoder's tokenizer still adds its own."""
    tokenizer = make_tokenizer(**made)
    with caplog.at_level(logging.WARNING, logger="trueup"):
        form = infer(tokenizer)
    assert len(caplog.records) == 1
    assert BUILT_IN_TEMPLATE in tokenizer.chat_template
    assert tokenizer.decode(ids_of(TURNS, "Yes", tokenizer, form)) == expected
    assert form.special_tokens == ("encoder" in made)
    caplog.clear()
    assert infer(tokenizer) == form
    assert not caplog.records


@pytest.mark.parametrize("named", [False, True])
def test_a_date_is_fixed_once(named):
    dated = "{{ strftime_now('%Y-%m-%d') }} " + LLAMA_LIKE
    tokenizer = make_tokenizer(
        bos="<s>", extra=SPECIAL, chat_template={"default": dated, "tools": dated} if named else dated
    )
    form = infer(tokenizer)
    assert render(TURNS, "Yes", tokenizer=tokenizer, form=form).startswith("01 Jan 2025 <s>")
    template = tokenizer.chat_template
    assert infer(tokenizer) == form
    assert tokenizer.chat_template == template


def test_a_template_that_leaves_out_the_reply_is_refused():
    silent = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    with pytest.raises(RecipeError, match="leaves the reply out"):
        infer(make_tokenizer(chat_template=silent))


def test_turns_that_a_template_refuses_are_one_clear_message():
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns here') }}{% endif %}" + LLAMA_LIKE
    )
    tokenizer = make_tokenizer(bos="<s>", extra=SPECIAL, chat_template=strict)
    form = infer(tokenizer)
    with pytest.raises(DataError, match=r"refuses turns of system, user, assistant \(no system turns here\)"):
        render((Message("system", "s"), *TURNS), "Yes", tokenizer=tokenizer, form=form)


TEXT = "What is the capital of France? Paris."


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("made", [{"bos": "<s>"}, {"encoder": True}, {}])
@given(limit=st.integers(3, 40))
def test_what_is_cut_is_text_alone(made, side, limit):
    tokenizer = make_tokenizer_once(made)
    form = TextFormat(
        kind="plain", special_tokens=True, append_eos="encoder" not in made, max_length=limit, truncation_side=side
    )
    (whole,) = encode([TEXT], tokenizer=tokenizer, form=form, truncate=False)
    (ids,) = encode([TEXT], tokenizer=tokenizer, form=form, truncate=True)
    assert len(ids) == min(limit, len(whole))
    lead = 0 if not made else 1
    assert ids[:lead] == whole[:lead]
    assert ids[-1] == whole[-1]
    body, kept = whole[lead:-1], ids[lead:-1]
    assert kept == (body[len(body) - len(kept) :] if side == "left" else body[: len(kept)])


_MADE = {}


def make_tokenizer_once(made):
    return _MADE.setdefault(str(made), make_tokenizer(**made))


def test_a_rendered_chat_is_cut_as_it_stands():
    tokenizer = make_tokenizer(bos="<s>", extra=SPECIAL, chat_template=LLAMA_LIKE)
    form = replace(infer(tokenizer), max_length=3)
    whole = ids_of(TURNS, "Yes", tokenizer, replace(form, max_length=None))
    assert ids_of(TURNS, "Yes", tokenizer, form) == whole[-3:]


def test_a_length_of_one_is_refused():
    with pytest.raises(RecipeError, match="at least 2 tokens, got 1"):
        DataRecipe(train="pairs.jsonl", max_length=1)


def test_a_format_survives_being_written_down():
    form = TextFormat(kind="plain", special_tokens=True, append_eos=True)
    assert TextFormat(**form.to_dict()) == form
