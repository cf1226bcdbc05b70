"""The figure of fronts."""

from trueup.lab.reproduce.modpo_figure import FrontPanel, front_figure


def test_every_method_and_axis_is_named_and_equal_fronts_are_drawn_alike():
    panels = [
        FrontPanel(title=title, axes=("much", "short"), fronts={"one": [(0.0, 1.0), (1.0, 0.0)], "other": [(0.5, 0.5)]})
        for title in ("first panel", "second panel")
    ]
    drawn = front_figure(panels)
    assert drawn.lstrip().startswith(("<?xml", "<svg"))
    for words, often in (("one", 1), ("other", 1), ("much", 2), ("short", 2), ("first panel", 1)):
        assert drawn.count(f">{words}<") == often
    assert drawn == front_figure(panels)
    assert drawn != front_figure(panels[:1])
