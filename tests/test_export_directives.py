"""batchruntomo's directives as settings, and back."""

from pathlib import Path

import pytest

from streamtomo import config_file
from streamtomo.errors import SettingsError
from streamtomo.export import directives

ETOMO = Path(__file__).parents[2] / "shared" / "data" / "formats" / "etomo"


def read(tmp_path, text):
    path = tmp_path / "a.adoc"
    path.write_text(text)
    return directives.read(path)


def test_common_directives_are_settings(tmp_path):
    found = read(
        tmp_path,
        """# a comment
setupset.copyarg.pixel = 0.217
setupset.copyarg.gold=10
setupset.copyarg.rotation = -85.3
runtime.Fiducials.any.trackingMethod = 1
runtime.AlignedStack.any.binByFactor = 4
comparam.tilt.tilt.THICKNESS = 1200
comparam.tilt.tilt.RADIAL = 0.4,0.04
comparam.tilt.tilt.LOG =
runtime.Reconstruction.any.useSirt = 1
comparam.sirtsetup.sirtsetup.LeaveIterations = 6,8,12
runtime.Fiducials.b.trackingMethod = 0
comparam.autofidseed.autofidseed.TwoSurfaces = 1
""",
    )
    settings = config_file.load(None, found.overrides)
    assert settings.acquisition.pixel_size_A == pytest.approx(2.17)
    assert settings.acquisition.tilt_axis_deg == -85.3
    assert (settings.specimen.bead_nm, settings.final.align, settings.final.binning) == (10.0, "patches", 4)
    assert settings.specimen.thickness_nm == pytest.approx(1200 * 0.217)
    assert (settings.final.radial_cutoff, settings.final.radial_falloff) == (0.4, 0.04)
    assert (settings.final.method, settings.final.sirt_iterations, settings.final.log) == ("sirt", 12, False)
    assert found.unknown == ("comparam.autofidseed.autofidseed.TwoSurfaces",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("setupset.copyarg.dual = 1", "finish each of them"),
        ("setupset.copyarg.gold = ten", "setupset.copyarg.gold = ten is no value"),
        ("comparam.tilt.tilt.THICKNESS = 1200", "needs setupset.copyarg.pixel"),
        ("setupset.copyarg.pixel = <REPLACE>", "still to be filled in"),
        ("hello", "line 1 is no directive: hello"),
        ("runtime.Fiducials.any.trackingMethod = 7", "is no value of this directive"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, told):
    with pytest.raises(SettingsError, match=r"a\.adoc.*" + told):
        read(tmp_path, text)


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "a.adoc"
    directives.write(path, {"setupset.copyarg.gold": 5, "runtime.Reconstruction.any.useSirt": 0})
    assert directives.read(path).overrides == ("specimen.bead_nm=5", "final.method=wbp")


@pytest.mark.skipif(not ETOMO.exists(), reason="IMOD's list of directives is not here")
def test_the_directives_are_imod_s(tmp_path):
    listed = {
        line.split(",")[0].lower() for line in (ETOMO / "directives.csv").read_text(errors="replace").splitlines()
    }
    free = ("comparam.tilt.tilt.", "runtime.Reconstruction.any.binnedThickness", "setupset.copyarg.")
    for key in directives.SETTINGS:
        assert key.lower() in listed or key.startswith(free), key


@pytest.mark.skipif(not ETOMO.exists(), reason="the template is not here")
def test_a_template_of_others_can_be_filled_in(tmp_path):
    text = (ETOMO / "batchruntomo-template.adoc").read_text().replace("voltage = <REPLACE>", "voltage = 300")
    found = read(tmp_path, text.replace("<REPLACE>", "1"))
    config_file.load(None, found.overrides)
    assert "runtime.AlignedStack.any.eraseGold" in found.unknown
