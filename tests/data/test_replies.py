"""Prompt and reply as a policy sees them: the same tokens in training, in generation, and in the rendered whole."""

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tiny_models import CHATML, CORPUS, LLAMA_LIKE, make_tokenizer
from trueup.data.replies import encode_prompts, encode_replies, render_prompt, render_reply
from trueup.data.rows import Message, Origin, Response, Row
from trueup.data.templates import TextFormat, infer_format, render
from trueup.data.tokens import tokenize_rows
from trueup.errors import DataError, RecipeError
from trueup.lab.scale_models import train_tokenizer

OPENS_CHATML = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
OPENS_LLAMA = "{% if add_generation_prompt %}<|role|>assistant:{% endif %}"
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|role|>", "<|eot_id|>")
TURNS = (Message("system", "Be brief."), Message("user", "What is the capital of France?"))
OTHERS = {
    "ChatML, ended by its turn's end": {"eos": "<|im_end|>", "extra": SPECIAL, "chat_template": CHATML + OPENS_CHATML},
    "ChatML, another end": {"extra": SPECIAL, "chat_template": CHATML + OPENS_CHATML},
    "Llama": {"bos": "<s>", "eos": "<|eot_id|>", "extra": SPECIAL, "chat_template": LLAMA_LIKE + OPENS_LLAMA},
    "no generation prompt": {"bos": "<s>", "extra": SPECIAL, "chat_template": LLAMA_LIKE},
    "built-in": {},
    "built-in with BOS": {"bos": "<s>"},
}


def ours():
    """A scale model's tokenizer, with the template that scale models have."""
    return train_tokenizer(CORPUS, vocabulary=400)


def around_any_text():
    """A tokenizer that puts BOS before and EOS after any text, as some models' do."""
    tokenizer = make_tokenizer(bos="<s>")
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    return tokenizer


MAKERS = {name: lambda made=made: make_tokenizer(**made) for name, made in OTHERS.items()} | {"ours": ours}
PLAIN = {"bare": make_tokenizer, "BOS": lambda: make_tokenizer(bos="<s>"), "BOS and EOS": around_any_text}
KNOWN = {}
"""Tokenizers and formats by name, made once: hypothesis asks for them many times."""


def known(name):
    if name not in KNOWN:
        tokenizer = (MAKERS | PLAIN)[name]()
        form = infer_format((), tokenizer, max_length=None, kind="chat" if name in MAKERS else "plain")
        KNOWN[name] = (tokenizer, form)
    return KNOWN[name]


def row(prompt, *texts, number=1):
    responses = tuple(Response(text=text) for text in texts)
    return Row(prompt=prompt, responses=responses, id=str(number), origin=Origin("rows.jsonl", number))


def encoded(prompt, *texts, name, max_length=None, truncate=False):
    tokenizer, form = known(name)
    form = TextFormat(**form.to_dict() | {"max_length": max_length})
    ((asked, replies),) = encode_replies([row(prompt, *texts)], tokenizer=tokenizer, form=form, truncate=truncate)
    return asked, replies


words = st.from_regex(r"[A-Za-z][A-Za-z ,.é\n]{0,30}[a-z.]", fullmatch=True)
prompts = st.one_of(
    words, st.tuples(st.builds(Message, st.just("system"), words), st.builds(Message, st.just("user"), words))
)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=30)
@given(prompt=prompts, texts=st.lists(words, min_size=1, max_size=3, unique=True))
def test_prompt_and_reply_are_the_tokens_of_the_rendered_chat(name, prompt, texts):
    tokenizer, form = known(name)
    asked, replies = encoded(prompt, *texts, name=name)
    for text, reply in zip(texts, replies, strict=True):
        whole = tokenizer(render(prompt, text, tokenizer=tokenizer, form=form), add_special_tokens=False)["input_ids"]
        end = tokenizer.eos_token_id
        # What a template writes after the end is never learned; where it writes no end, the reply gets one.
        upto = len(whole) - whole[::-1].index(end) if end in whole[len(asked) :] else None
        assert asked + reply == (whole[:upto] if upto else [*whole, end])
        assert reply.count(end) == 1
    assert encode_prompts([prompt], tokenizer=tokenizer, form=form) == [asked]


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=30)
@given(prompt=words, text=words)
def test_prompt_and_reply_are_the_tokens_of_plain_text(name, prompt, text):
    """Of prompts that end with a mark and replies that begin with a space, which no tokenizer here merges."""
    tokenizer, form = known(name)
    asked, (reply,) = encoded(prompt + ":", " " + text, name=name)
    whole = tokenizer(f"{prompt}: {text}")["input_ids"]
    assert asked + reply == (whole if whole[-1] == tokenizer.eos_token_id else [*whole, tokenizer.eos_token_id])
    assert tokenizer.decode(reply) == f" {text}</s>"
    assert encode_prompts([prompt + ":"], tokenizer=tokenizer, form=form) == [asked]


def test_each_template_is_split_where_it_opens_the_reply():
    expected = {
        "ChatML, ended by its turn's end": ("<|im_start|>assistant\n", "Paris.<|im_end|>"),
        "ChatML, another end": ("<|im_start|>assistant\n", "Paris.<|im_end|>\n"),
        "Llama": ("<|role|>assistant:", " Paris.<|eot_id|>"),
        "no generation prompt": ("France?<|eot_id|>", "<|role|>assistant: Paris.<|eot_id|>"),
        "built-in": ("\nAssistant:", " Paris.\n</s>"),
        "built-in with BOS": ("\nAssistant:", " Paris.\n</s>"),
        "ours": ("assistant:", " Paris.<|end|>"),
    }
    assert expected.keys() == MAKERS.keys()
    for name, (opening, reply) in expected.items():
        tokenizer, form = known(name)
        assert render_prompt(TURNS, tokenizer=tokenizer, form=form).endswith(opening), name
        assert render_reply(TURNS, "Paris.", tokenizer=tokenizer, form=form) == reply, name


def test_a_generation_prompt_that_training_never_shows_is_refused():
    """The model would be asked with other text than it learned to answer."""
    other = CHATML + "{% if add_generation_prompt %}<|im_start|>assistant\nSure: {% endif %}"
    tokenizer = make_tokenizer(extra=SPECIAL, chat_template=other)
    form = infer_format((), tokenizer, max_length=None, kind="chat")
    for encode in (
        lambda: encode_prompts(["Hello"], tokenizer=tokenizer, form=form),
        lambda: encode_replies([row("Hello", "Yes")], tokenizer=tokenizer, form=form, truncate=False),
    ):
        with pytest.raises(RecipeError, match="opens a reply with other text"):
            encode()


def merging():
    """A prompt and a reply whose tokens join across the seam."""
    tokenizer, _ = known("bare")
    whole = tokenizer("capital of")["input_ids"]
    asked = tokenizer("capita")["input_ids"]
    assert whole[: len(asked)] != asked
    return "capita", "l of"


def test_where_tokens_merge_across_the_seam_the_reply_is_tokenised_alone():
    """Generation begins after the prompt's own tokens, so training must, too."""
    tokenizer, form = known("bare")
    prompt, text = merging()
    asked, (reply, other) = encoded(prompt, text, " fruits", name="bare")
    assert [asked] == encode_prompts([prompt], tokenizer=tokenizer, form=form)
    assert reply == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.decode(asked + reply) == "capital of</s>"
    assert other == [*tokenizer(" fruits")["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize("name", ["BOS", "BOS and EOS"])
def test_a_merge_adds_no_special_tokens_within(name):
    tokenizer, _ = known(name)
    prompt, text = merging()
    asked, (reply,) = encoded(prompt, text, name=name)
    assert tokenizer.decode(asked) == "<s>capita"
    assert tokenizer.decode(reply) == "l of</s>"


def begins_words():
    """A tokenizer that puts a space before any text, as SentencePiece does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    alphabet = sorted({letter for text in CORPUS for letter in text} | {"\n", ":"})
    trainer = trainers.BpeTrainer(special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


def test_a_reply_is_tokenised_as_it_stands_after_its_prompt():
    """Alone, it would begin with a space that nobody wrote."""
    tokenizer = begins_words()
    form = infer_format((), tokenizer, max_length=None, kind="plain")
    ((asked, (reply,)),) = encode_replies([row("Name:\n", "Pears")], tokenizer=tokenizer, form=form, truncate=False)
    assert asked + reply == [*tokenizer("Name:\nPears")["input_ids"], tokenizer.eos_token_id]
    assert reply[:-1] != tokenizer("Pears")["input_ids"]


@pytest.mark.parametrize(("name", "start"), [("bare", "</s>"), ("BOS", "<s>"), ("BOS and EOS", "<s>")])
def test_an_empty_prompt_is_one_token(name, start):
    """The first token of a reply needs something to be predicted from."""
    tokenizer, form = known(name)
    asked, (reply,) = encoded("", "Paris", name=name)
    assert tokenizer.decode(asked) == start
    assert len(asked) == 1
    assert tokenizer.decode(reply) == "Paris</s>"
    assert encode_prompts(["", "Name"], tokenizer=tokenizer, form=form)[0] == asked


def test_an_empty_reply_ends_at_once():
    tokenizer, _ = known("bare")
    assert encoded("Name three.", "", name="bare")[1] == [[tokenizer.eos_token_id]]


def test_an_end_that_the_prompt_itself_holds_stays():
    """Dialogues in plain text may end every turn with it; a policy that must write it first would only ever stop."""
    tokenizer, _ = known("BOS")
    asked, (reply,) = encoded("Hello</s>", " Yes", name="BOS")
    assert tokenizer.decode(asked) == "<s>Hello</s>"
    assert tokenizer.decode(reply) == " Yes</s>"


def test_an_end_within_a_reply_is_not_where_it_is_cut():
    tokenizer, _ = known("bare")
    assert tokenizer.decode(encoded("Go:", " a</s> b", name="bare")[1][0]) == " a</s> b</s>"


@pytest.mark.parametrize("name", ["BOS", "built-in", "ours"])
@settings(max_examples=50)
@given(limit=st.integers(2, 60), prompt=words, texts=st.lists(words, min_size=1, max_size=3))
def test_prompts_are_cut_on_the_left_and_replies_on_the_right(name, limit, prompt, texts):
    whole, branches = encoded(prompt, *texts, name=name)
    asked, replies = encoded(prompt, *texts, name=name, max_length=limit, truncate=True)
    longest = max(map(len, branches))
    assert len(asked) + max(map(len, replies)) == min(limit, len(whole) + longest)
    assert len(asked) == min(len(whole), max(limit - longest, 1))
    assert asked == whole[len(whole) - len(asked) :]
    for reply, branch in zip(replies, branches, strict=True):
        assert reply == branch[: limit - len(asked)]
    if limit > longest:
        assert replies == branches
    uncut = encoded(prompt, *texts, name=name, max_length=limit)
    assert uncut == (whole, branches)


def test_what_cannot_be_rendered_names_its_row():
    tokenizer, form = known("bare")
    rows = [row("Name three.", "Pears", number=1), row(TURNS, "Paris", number=7)]
    with pytest.raises(DataError, match=r"rows\.jsonl:7: the prompt is a list of chat turns"):
        encode_replies(rows, tokenizer=tokenizer, form=form, truncate=False)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("messages[0]['role'] == 'system'", "refuses turns of system, user, assistant"),
        ("add_generation_prompt and messages[0]['role'] == 'system'", "refuses to open a reply to turns of system"),
    ],
)
def test_turns_that_a_template_refuses_name_their_row(condition, said):
    strict = "{% if " + condition + " %}{{ raise_exception('no system turns') }}{% endif %}" + CHATML
    tokenizer = make_tokenizer(extra=SPECIAL, chat_template=strict)
    form = infer_format((), tokenizer, max_length=None, kind="chat")
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*{said}.*no system turns"):
        encode_replies([row(TURNS, "Paris")], tokenizer=tokenizer, form=form, truncate=False)


def test_nothing_gives_nothing():
    tokenizer, form = known("BOS")
    assert encode_prompts([], tokenizer=tokenizer, form=form) == []
    assert encode_replies([], tokenizer=tokenizer, form=form, truncate=False) == []


# Tables of whole data sets


def with_features(number):
    """Rows whose features no pickle can hold."""
    features = MappingProxyType({"length": float(number)})
    one = Response(text=f" Pears {number}", features=features)
    return Row(prompt=f"Name {number}:", responses=(one,), id=str(number), origin=Origin("rows.jsonl", number))


@pytest.mark.parametrize("seam", ["common", "reply"])
def test_several_processes_give_the_table_of_one(seam):
    """Two chunks of rows, so that both processes have work."""
    rows = [with_features(number) for number in range(600)]
    tokenizer, form = known("BOS")
    one, two = (tokenize_rows(rows, tokenizer=tokenizer, form=form, seam=seam, workers=n) for n in (1, 2))
    for name in ("tokens", "row_start", "prompt_length", "branch_start", "branch_length"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert len(two) == len(rows)


def test_a_table_holds_what_was_encoded_and_its_seam_is_remembered(tmp_path):
    tokenizer, form = known("bare")
    rows = [row("Name three:", " Pears", " Plums and apples"), row("", "Paris")]
    options = {"tokenizer": tokenizer, "form": form, "cache": tmp_path}
    common, first, again = (tokenize_rows(rows, seam=seam, **options) for seam in ("common", "reply", "reply"))
    expected = encode_replies(rows, tokenizer=tokenizer, form=form, truncate=False)
    for table in (first, again):
        for number, (asked, replies) in enumerate(expected):
            assert table.ids(number).tolist() == asked + [i for reply in replies for i in reply]
            assert table.prompt_length[number] == len(asked)
            assert table.lengths(number) == tuple(map(len, replies))
    assert len(list(tmp_path.iterdir())) == 2
    assert common.prompt_length.tolist() != first.prompt_length.tolist()
