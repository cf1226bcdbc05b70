import pytest

from trueup.data.fields import Fields
from trueup.data.rows import Message, Origin, Response
from trueup.data.scored_formats import is_response_list, nemo, responses, rm_robustness, ultrafeedback
from trueup.errors import DataError

PLACE = Origin("data.jsonl", 4)


def fields(**values) -> Fields:
    return Fields(PLACE, values)


def test_responses_with_scores_sources_and_features():
    row = responses(
        fields(
            prompt="p",
            responses=[
                {
                    "model": "m",
                    "text": "a",
                    "score": 1,
                    "scores": {"tone": 2},
                    "ratings": {"tone": [1, 3]},
                    "note": "x",
                },
                {"source": "s", "response": "b", "score": None, "label": True, "length": 3, "features": {"tone": 4}},
            ],
            subset="easy",
        )
    )
    assert row.responses == (
        Response(text="a", score=1.0, source="m", features={"tone": 2.0}),
        Response(text="b", label=True, source="s", features={"length": 3.0, "tone": 4.0}),
    )
    assert row.subset == "easy"


def test_prompts_of_responses():
    assert responses(fields(instruction="p", responses=[{"text": "a"}])).prompt == "p"
    messages = [{"role": "user", "content": "hi"}]
    one = responses(fields(prompt=None, prompt_messages=messages, responses=[{"text": "a"}]))
    assert one.prompt == (Message("user", "hi"),)
    assert is_response_list({"prompt": "p", "responses": []})
    assert not is_response_list({"responses": []})
    assert not is_response_list({"prompt": "p", "responses": None})


def test_ultrafeedback_prefers_the_mean_over_aspects():
    row = ultrafeedback(
        fields(
            instruction="p",
            completions=[
                {"response": "a", "overall_score": 10.0, "fine-grained_score": 1.25, "model": "m"},
                {"response": "b", "overall_score": 7, "model": "n", "annotations": {}},
                {"response": "c"},
            ],
        )
    )
    assert row.responses == (
        Response(text="a", score=1.25, source="m", features={"overall_score": 10.0}),
        Response(text="b", score=7.0, source="n"),
        Response(text="c"),
    )


def test_rm_robustness_in_the_order_of_numbers():
    texts = {f"response_{number}_text": f"text {number}" for number in (2, 10, 1)}
    row = rm_robustness(fields(instruction="p", all_scores=[0.1, 0.2, 1], response_2_model="m", **texts))
    assert row.responses == (
        Response(text="text 1", score=0.1),
        Response(text="text 2", score=0.2, source="m"),
        Response(text="text 10", score=1.0),
    )
    with pytest.raises(DataError, match="field `all_scores`: found 2 scores; expected 3"):
        rm_robustness(fields(instruction="p", all_scores=[0.1, 0.2], **texts))
    with pytest.raises(DataError, match="a list of finite numbers"):
        rm_robustness(fields(instruction="p", all_scores=[0.1, 0.2, "x"], **texts))


def test_nemo_ranks_become_scores():
    user, good, bad = ({"role": role, "content": role[0]} for role in ("user", "assistant", "bot"))
    completions = [{"rank": 1, "completion": [bad]}, {"rank": 0, "completion": [good]}]
    row = nemo(fields(context=[user], completions=completions))
    assert row.prompt == (Message("user", "u"),)
    assert row.responses == (Response(text="b", score=-1.0), Response(text="a", score=0.0))
    assert nemo(fields(context=[user], completions=[{"rank": 0, "completion": [user]}])).reason == "no final reply"
    longer = [{"rank": 0, "completion": [good, user, good]}, {"rank": 1, "completion": [good]}]
    assert nemo(fields(context=[user], completions=longer)).reason == "prompts differ"


@pytest.mark.parametrize(
    ("parse", "record", "place"),
    [
        (responses, {"prompt": "p", "responses": []}, "responses"),
        (responses, {"prompt": "p", "responses": [{"score": 1}]}, r"responses\[0\].text"),
        (responses, {"prompt": "p", "responses": [{"text": "a", "score": "1"}]}, r"responses\[0\].score"),
        (responses, {"prompt": "p", "responses": [{"text": "a", "features": {"x": "y"}}]}, r"\[0\].features.x"),
        (ultrafeedback, {"instruction": "p", "completions": [{"model": "m"}]}, r"completions\[0\].response"),
        (nemo, {"context": "p", "completions": [{"completion": "a"}]}, r"completions\[0\].rank"),
        (nemo, {"context": 1, "completions": []}, "context"),
        (rm_robustness, {"instruction": "p"}, "all_scores"),
    ],
)
def test_wrong_fields_are_named(parse, record, place):
    with pytest.raises(DataError, match=f"data.jsonl:4, field `.*{place}`"):
        parse(fields(**record))
