"""Pages and curves: whole, escaped, drawn where there is something to draw."""

import subprocess
import sys

import imagecodecs
import numpy as np
import pytest

from streamtomo.publish.pictures import to_grey, write_png
from streamtomo.publish.plots import Curve, arrows, curves
from streamtomo.publish.report import Line, Page, Picture, page, session_page, small


def pixels(png):
    return imagecodecs.png_decode(png)


def test_curves_are_drawn_with_gaps():
    whole, broken = (
        pixels(curves([Curve("a", [0, 1, 2, 3, 4], [1.0, 2.0, middle, 4.0, 3.0])], "x <&>", "y"))
        for middle in (3, None)
    )
    assert whole.shape == broken.shape
    inked = [(image[..., :3].min(axis=2) < 200).sum() for image in (whole, broken)]
    assert 0 < inked[1] < inked[0]


@pytest.mark.parametrize("values", [[5.0, 5.0], [0.0, 0.0], [1e-9, 2e-9], [-1e6, 1e6]])
def test_any_values_can_be_drawn(values):
    assert curves([Curve("a", [0, 1], values), Curve("b", [0, 1], [None, None], line=True)], "x", "y")


def test_nothing_to_draw_is_no_plot():
    assert curves([Curve("a", [1.0], [None])], "x", "y") is None
    assert arrows(np.zeros((1, 2)), np.full((1, 2), np.nan), np.zeros(1), (9, 9), "v") is None


def test_arrows_point_where_the_residuals_do():
    """From one place a red one to the right, and a blue one to the left."""
    vectors = np.array([[0.3, 0.0], [-0.3, 0.0]])
    drawn = pixels(arrows(np.full((2, 2), 50.0), vectors, np.array([60.0, -60.0]), (100, 100), "tilt")).astype(int)
    field = drawn[:, : drawn.shape[1] * 3 // 4]
    red, blue = (np.nonzero(field[..., i] - field[..., 2 - i] > 100) for i in (0, 2))
    assert red[1].min() > blue[1].max() - 5
    assert abs(red[0].mean() - blue[0].mean()) < 2


def test_no_drawing_program_is_loaded_before_a_page_is_made():
    """The live path, the viewers and the finishing process until its last step do without."""
    loaded = "import sys, streamtomo.engine, streamtomo.finish.recipe, streamtomo.publish.viewer"
    told = "print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{loaded}; {told}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_page_escapes_what_names_may_hold(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, to_grey(np.random.default_rng(1).normal(size=(300, 900)).astype(np.float32)))
    png = small(path)
    assert png is not None
    assert small(tmp_path / "none.png") is None
    evil = '<script>"&'
    picture = Picture(evil, png)
    text = page(Page(evil, evil, [evil], {evil: evil}, [picture], [picture], {evil: [("a",), (evil,)]}))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8
    text = session_page(evil, evil, ("views",), [Line(evil, evil, f"{evil}/x.html", [evil], png, fault=evil)])
    assert "<script" not in text
