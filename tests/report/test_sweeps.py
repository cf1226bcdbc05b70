"""The figure of sweeps: every penalty named, every panel drawn, bands where intervals are."""

import re

import pytest

from trueup.measure.scored import Estimate
from trueup.report.sweeps import NARROW, WIDE, CoefficientPanel, coefficient_sweeps


def panel(level=0.5):
    curves = {
        name: [Estimate(value + shift, value + shift - 0.1, value + shift + 0.1, 5) for value in (0.0, 0.6, 0.4)]
        for name, shift in (("first penalty", 0.0), ("second penalty", 0.2))
    }
    return CoefficientPanel(coefficient=(0.01, 0.1, 1.0), curves=curves, level=level, level_name="reference")


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_panels_stand_beside_or_below_one_another(width):
    svg = coefficient_sweeps({"one": panel(), "two": panel()}, unit="gain", coefficient_unit="sigmas", width=width)
    for words, times in (("first penalty", 1), ("second penalty", 1), ("gain", 2), ("sigmas", 2), ("reference", 2)):
        assert len(re.findall(rf">\s?{words}<", svg)) == times
    assert re.search(rf'viewBox="0 0 {width} ', svg)
    height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', svg)[1])
    alone = coefficient_sweeps({"one": panel()}, unit="gain", coefficient_unit="sigmas", width=width)
    rows = 1 if width == WIDE else 2
    assert (height > 1.5 * float(re.search(r'viewBox="0 0 \S+ (\S+)"', alone)[1])) == (rows == 2)


def test_equal_numbers_give_equal_bytes_and_others_do_not():
    one, same, other = (
        coefficient_sweeps({"one": panel(level)}, unit="gain", coefficient_unit="c") for level in (0.5, 0.5, 0.3)
    )
    assert one == same != other
