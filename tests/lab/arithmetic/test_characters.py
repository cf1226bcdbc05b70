"""Tokens that are characters."""

from trueup.data.rows import Origin, Response, Row
from trueup.data.templates import infer_format
from trueup.lab.arithmetic.characters import UNKNOWN, character_tokenizer
from trueup.lab.scale_models import EOS
from trueup.train.prepare import prepare_replies


def test_each_character_is_a_token_and_none_is_lost():
    tokenizer = character_tokenizer("01+=")
    ids = tokenizer("10+1=")["input_ids"]
    assert len(ids) == 5
    assert tokenizer.decode(ids) == "10+1="
    assert len(tokenizer) == 4 + 4
    strange = tokenizer("1x\n1")["input_ids"]
    assert strange[1] == strange[2] == tokenizer.convert_tokens_to_ids(UNKNOWN)


def test_a_response_is_its_characters_and_an_end():
    tokenizer = character_tokenizer("01+=")
    row = Row(prompt="1+1=", responses=(Response(text="10"),), id="1", origin=Origin("made", 1))
    form = infer_format([row], tokenizer, max_length=64)
    read = prepare_replies([row], tokenizer=tokenizer, form=form).dataset[0]
    assert read.prompt_length == 4
    assert read.branch_lengths == (3,)
    assert read.tokens[-1] == tokenizer.convert_tokens_to_ids(EOS)
