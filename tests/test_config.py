"""Settings: what is refused and how, and that the files in config/ are what the code says."""

from pathlib import Path

import pytest

from streamtomo import cli, config_file, schema
from streamtomo.config import Settings
from streamtomo.config_preset import with_preset
from streamtomo.errors import SettingsError
from streamtomo.plan import planned_angles

CONFIG = Path(__file__).parent.parent / "config"


def test_nothing_given_is_all_defaults():
    assert config_file.load() == Settings()


def test_the_rendered_file_loads_as_the_defaults(tmp_path):
    path = tmp_path / "streamtomo.toml"
    path.write_text(config_file.render(), encoding="utf-8")
    assert config_file.load(path) == Settings()


@pytest.mark.parametrize("example", sorted(CONFIG.glob("*.toml")), ids=lambda path: path.stem)
def test_examples_load(example):
    assert isinstance(config_file.load(example), Settings)


@pytest.mark.parametrize(
    ("name", "content"), [("streamtomo.toml", config_file.render()), ("messages.schema.json", schema.render())]
)
def test_generated_files_are_up_to_date(name, content):
    assert (CONFIG / name).read_text(encoding="utf-8") == content, "run scripts/generate"


def test_the_readme_has_all_settings():
    readme = (CONFIG.parent / "README.md").read_text(encoding="utf-8")
    assert config_file.table() in readme, "run scripts/generate"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("specimen.bead_nm=-3", ["specimen.bead_nm = -3", "above 0.5 to 200", "nm"]),
        ("specimen.bead_nm=true", ["specimen.bead_nm"]),
        ("final.align=guess", ["final.align = 'guess'", '"patches"']),
        ("final.binning=1.5", ["final.binning", "whole number from 1 to 32"]),
        ("live.bogus=1", ["live.bogus is no setting", "memory_GB"]),
        ("bogus.key=1", ["bogus is no table", "acquisition"]),
        ("acquisition.planned_angles=-60:60", ["acquisition.planned_angles = '-60:60' is not allowed", "-60:60:3"]),
        ("acquisition.planned_angles=60:-60:3", ["is not allowed"]),
        ("acquisition.planned_angles=0:60:0", ["is not allowed"]),
        ("acquisition.planned_angles=0:60:0.001", ["2000 at most"]),
        ("acquisition.planned_angles=0,3,x", ["is not allowed"]),
        ("acquisition.planned_angles=0,3,inf", ["is not allowed"]),
        ("acquisition.planned_angles=-60:60:nan", ["is not allowed"]),
        ("no-equals", ["table.key=value"]),
        ("publish.bind=3", ["publish.bind"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(override, told):
    with pytest.raises(SettingsError) as error:
        config_file.load(None, [override])
    for words in told:
        assert words in str(error.value)


def test_planned_angles_hold_both_ends():
    assert planned_angles("-60:60:3") == tuple(float(angle) for angle in range(-60, 61, 3))
    assert planned_angles("-51:51:0.1")[-1] == pytest.approx(51.0)
    assert planned_angles("54:-54:-2") == planned_angles("-54:54:2")
    assert planned_angles(None) == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # the latter as some editors on Windows write it
def test_an_override_wins_over_the_file(tmp_path, encoding):
    path = tmp_path / "a.toml"
    path.write_text("[specimen]\nbead_nm = 10\nthickness_nm = 200.0\n", encoding)
    settings = config_file.load(path, ["specimen.bead_nm=5"])
    assert (settings.specimen.bead_nm, settings.specimen.thickness_nm) == (5, 200.0)


@pytest.mark.parametrize("content", [b"[specimen\n", b"\xff\xfe", b"specimen = 3\n"])
def test_a_file_that_is_no_settings_file_is_named(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"broken\.toml"):
        config_file.load(path)


def test_every_setting_has_a_unit_and_a_description():
    for setting in config_file.fields():
        assert setting.description, setting.path
        assert isinstance(setting.unit, str), setting.path


@pytest.mark.parametrize(
    ("preset", "wanted"),
    [
        ("quick", (750, "off", False, 0, "off")),
        ("standard", (1500, "off", False, 0, "off")),
        ("full", (1500, "flip", True, 12, "auto")),
    ],
)
def test_a_preset_says_what_is_not_set(preset, wanted):
    meant = with_preset(config_file.load(None, [f"final.preset={preset}"]))
    found = meant.final.longest_px, meant.ctf.correct, meant.erase.gold, meant.denoise.iterations, meant.dual.combine
    assert found == wanted
    assert with_preset(meant) == meant
    kept = with_preset(config_file.load(None, [f"final.preset={preset}", "ctf.correct=wiener", "denoise.iterations=0"]))
    assert (kept.ctf.correct, kept.denoise.iterations) == ("wiener", 0)


@pytest.mark.parametrize(
    "verb", [["run", "scope", "--out", "out"], ["finish", "A", "--out", "out"], ["again", "A", "--out", "out"]]
)
def test_what_the_final_alignment_follows_has_a_short_form(verb, capsys):
    given = [*verb, "--align", "mixed", "--set", "final.binning=2"]
    args = cli._parser(given).parse_args(given)
    assert args.set == ["final.align=mixed", "final.binning=2"]
    with pytest.raises(SystemExit):
        cli._parser(None).parse_args([*verb, "--align", "gold"])
    assert "gold is none of auto, beads" in capsys.readouterr().err
