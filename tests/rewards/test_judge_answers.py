import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.errors import RecipeError
from trueup.rewards.judge_answers import DEFAULT_TEMPLATE, ScoreReader, ask_about, compile_template


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 7}', 7),
        ('{"score": "7.5"}', 7.5),
        ('```json\n{"score": 3, "why": "so {so}"}\n```', 3),
        ('I first thought {"score": 2}, but no: {"score": 9}.', 9),
        ('{"result": {"score": 4}}', 4),
        ('{{ {"score": 5} }', 5),
        ('{"why": "a \\"{\\" b", "score": 6}', 6),
        ('<think>{"score": 1}</think>\n{"score": 8}', 8),
        ("score: 7", None),
        ('{"Score": 7}', None),
        ('{"score": 0}', None),
        ('{"score": 11}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ('{"score": [7]}', None),
        ('{"score": NaN}', None),
        ('{"score": "7/10"}', None),
        ('{"score": 7', None),
        ("", None),
        ("{" * 20_000, None),
    ],
)
def test_a_score_in_json(text, score):
    assert ScoreReader().read(text) == score


@pytest.mark.parametrize(
    ("pattern", "text", "score"),
    [
        (r"Rating: \[\[(\d+)\]\]", "Rating: [[3]] ... Rating: [[8]]", 8),
        (r"(\d+) ?/ ?10", "I give 6/10", 6),
        (r"(\d+)$", "no", None),
        (r"score (\w+)", "score high", None),
        (r"(\d+)", "99", None),
    ],
)
def test_a_score_by_pattern(pattern, text, score):
    assert ScoreReader(pattern=pattern).read(text) == score


@given(
    st.floats(-5, 5),
    st.text(alphabet=st.characters(exclude_characters="{}", exclude_categories=["Cs"])),
    st.text(alphabet=st.characters(exclude_characters="{}", exclude_categories=["Cs"])),
)
def test_words_around_the_score_do_not_matter(score, before, after):
    reader = ScoreReader(key="grade", scale=(-5, 5))
    assert reader.read(f'{before}{{"grade": {score!r}}}{after}') == score


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pattern": "("}, "pattern: no valid regular expression"),
        ({"pattern": r"\d+"}, "pattern: has 0 groups"),
        ({"pattern": r"(\d)(\d)"}, "pattern: has 2 groups"),
        ({"scale": (1.0, 1.0)}, "scale must be two finite numbers"),
        ({"scale": (10.0, 1.0)}, "got 10 and 1"),
        ({"scale": (0.0, float("inf"))}, "scale must be"),
    ],
)
def test_readers_that_cannot_be(settings, message):
    with pytest.raises(RecipeError, match=message):
        ScoreReader(**settings)


def test_the_default_question_holds_both_texts_and_its_own_example_cannot_be_taken_for_a_score():
    question = ask_about(compile_template(DEFAULT_TEMPLATE), prompt="PPP", response="RRR")
    assert question.index("PPP") < question.index("RRR")
    assert ScoreReader().read(question) is None


def test_texts_are_never_templates():
    template = compile_template("{{ prompt }}|{{ response }}")
    assert ask_about(template, prompt="{{ response }}", response="{% for %} {{ 7*7 }} <b>&") == (
        "{{ response }}|{% for %} {{ 7*7 }} <b>&"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ prompt }", "template: line 1: not valid Jinja2"),
        ("{% for x in y %}\n{{ response }}", "not valid Jinja2"),
        ("{{ respons }}", "unknown variable `respons`; did you mean `response`"),
        ("{{ response }} {{ question }}", "unknown variable `question`; known: prompt, response"),
        ("{{ prompt }}", "never shows the response"),
        ("", "never shows the response"),
        ("{{ response | nofilter }}", "not valid Jinja2"),
    ],
)
def test_templates_that_cannot_be(source, message):
    with pytest.raises(RecipeError, match=message):
        compile_template(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ response.__class__.__mro__ }}",
        "{{ response.nothing }}",
        "{{ 1 / 0 }}{{ response }}",
        "{% for i in range(10**9) %}{{ response }}{% endfor %}",
    ],
)
def test_templates_that_fail_or_reach_out(source):
    with pytest.raises(RecipeError, match="template: cannot be filled in"):
        ask_about(compile_template(source), prompt="p", response="r")
