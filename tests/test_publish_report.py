"""Pages and curves: whole, escaped, readable by any parser."""

from xml.etree import ElementTree

import numpy as np
import pytest

from streamtomo.publish.pictures import to_grey, write_png
from streamtomo.publish.plots import Curve, plot
from streamtomo.publish.report import Line, Page, Picture, page, session_page, small


def test_a_curve_has_a_dot_a_point_and_breaks_where_nothing_is_known():
    svg = ElementTree.fromstring(plot([Curve("a", [0, 1, 2, 3, 4], [1.0, 2.0, None, 4.0, 3.0])], "x <&>", "y"))
    assert len(svg.findall("circle")) == 4
    assert len(svg.findall("polyline")) == 2
    places = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in svg.findall("circle")]
    assert places == sorted(places)
    assert places[0][1] > places[2][1], "larger values are higher up"


@pytest.mark.parametrize("values", [[5.0, 5.0], [0.0, 0.0], [1e-9, 2e-9], [-1e6, 1e6]])
def test_axes_hold_all_values(values):
    svg = ElementTree.fromstring(plot([Curve("a", [0, 1], values), Curve("b", [0, 1], [None, None])], "x", "y"))
    for dot in svg.findall("circle"):
        assert 0 <= float(dot.get("cy")) <= 200
        assert 0 <= float(dot.get("cx")) <= 560


def test_nothing_to_draw_is_no_plot():
    assert plot([Curve("a", [1.0], [None])], "x", "y") == ""


def test_a_page_escapes_what_names_may_hold(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, to_grey(np.random.default_rng(1).normal(size=(300, 900)).astype(np.float32)))
    png = small(path)
    assert png is not None
    assert small(tmp_path / "none.png") is None
    evil = '<script>"&'
    text = page(Page(evil, evil, [evil], {evil: evil}, [Picture(evil, png)], [], {evil: [("a",), (evil,)]}))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8
    text = session_page(evil, evil, ("views",), [Line(evil, evil, f"{evil}/x.html", [evil], png, fault=evil)])
    assert "<script" not in text
