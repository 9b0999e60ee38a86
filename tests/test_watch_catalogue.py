"""The catalogue in stories: a folder made of dictionaries, and what is told when files come in this or that order."""

import itertools
from pathlib import PurePosixPath

import pytest

from streamtomo.config import Acquisition
from streamtomo.errors import BadImage, NoImageYet, NotReady
from streamtomo.messages import FileRefused, SeriesDescribed, Warned
from streamtomo.model import RawImage
from streamtomo.watch.catalogue import Catalogue
from streamtomo.watch.images import ImageInfo
from streamtomo.watch.settle import Due, Seen
from streamtomo.watch.stacks import Readers


def info(sections=1, whole=None, **fields):
    size = 1024 + sections * 200
    return ImageInfo(
        kind=fields.pop("kind", "mrc"), nx=10, ny=10, sections=sections, dtype="<i2", data_offset=1024,
        whole_sections=sections if whole is None else whole, expected_bytes=size, **fields,
    )  # fmt: skip


def mdoc(*sections, head="PixelSpacing = 2.15\n", title="Tilt axis angle = 85.3, binning = 1"):
    """Text of an mdoc; each section is a dict, `T` its tilt angle."""
    text = head + f"\n[T = {title}]\n\n"
    for z, fields in enumerate(sections):
        text += f"[ZValue = {z}]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items()) + "\n"
    return text


def tilt(angle, time=None, frame=None, **fields):
    if time is not None:
        fields["DateTime"] = f"09-Mar-23  18:{time:02d}:00"
    if frame is not None:
        fields["SubFramePath"] = f"D:\\DATA\\{frame}"
    return {"TiltAngle": angle, **fields}


class Folder:
    """A folder that a test writes; `see` shows files to the catalogue and returns what it tells."""

    def __init__(self, known=(), claims=None, **acquisition):
        self.files = {}
        self.opened = []
        self.now = 1000.0
        readers = Readers(self._probe, self._text, self.files.__contains__, self._size, beside=lambda path: {})
        self.catalogue = Catalogue(Acquisition(**acquisition), readers, known, claims)
        self.unready = frozenset()

    def _probe(self, path, growing=False):
        self.opened.append(path)
        content = self.files[path]
        if isinstance(content, Exception):
            raise content
        if content.whole_sections < content.sections and not growing:
            raise NotReady(f"{path}: is short")
        return content

    def _size(self, path):
        return 1024 + 200 * self.files[path].whole_sections

    def _text(self, path):
        if isinstance(self.files[path], Exception):
            raise self.files[path]
        return self.files[path]

    def write(self, **files):
        """Put files there without showing them; `__` stands for a dot."""
        self.files |= {name.replace("__", "."): content for name, content in files.items()}

    def see(self, *paths, why="settled"):
        dues = [Due(Seen(path, 1, self.now - 5 + i / 100), why) for i, path in enumerate(paths)]
        found = self.catalogue.look(dues, self.now)
        self.unready = found.unready
        return found.sightings

    def put(self, files, why="settled"):
        self.files |= files
        return self.see(*files, why=why)

    def wait(self, seconds):
        self.now += seconds
        return self.catalogue.tick(self.now)


def images(sightings):
    return [s for s in sightings if isinstance(s, RawImage)]


def angles(sightings):
    return [image.angle_deg for image in images(sightings)]


def only(sightings, kind):
    return [s for s in sightings if isinstance(s, kind)]


# -- growing stacks ----------------------------------------------------------------------------------------------------


def test_a_growing_stack_is_told_section_by_section_and_opened_only_for_the_first():
    folder = Folder()
    assert folder.put({"X.mrc": info(1), "X.mrc.mdoc": mdoc(tilt(0))}, why="settled")
    told = []
    for count in (2, 3, 4):
        folder.files |= {"X.mrc": info(count), "X.mrc.mdoc": mdoc(*(tilt(3 * z) for z in range(count)))}
        told += images(folder.see("X.mrc"))
        told += images(folder.see("X.mrc.mdoc"))
    assert [(image.series, image.path, image.section, image.angle_deg) for image in told] == [
        ("X", "X.mrc", z, 3.0 * z) for z in (1, 2, 3)
    ]
    assert folder.opened == ["X.mrc"]


def test_the_stack_is_not_opened_before_its_mdoc_is_read():
    folder = Folder()
    folder.write(X__mrc__mdoc=mdoc(tilt(0)))
    assert folder.put({"X.mrc": info(1)}) == []
    assert folder.opened == []
    assert angles(folder.see("X.mrc.mdoc")) == [0.0]


def test_what_is_told_of_a_stack_comes_from_mdoc_and_header():
    folder = Folder()
    text = mdoc(tilt(0, time=1, ExposureDose=3), tilt(3, time=2, ExposureDose=3))
    described, first, second = folder.put({"X.mrc.mdoc": text, "X.mrc": info(2)})
    assert described == SeriesDescribed(series="X", source="X.mrc", pixel_size_A=2.15, tilt_axis_deg=85.3)
    assert (first.pixel_size_A, first.tilt_axis_deg, first.nx, first.ny) == (2.15, 85.3, 10, 10)
    assert (second.dose_e_A2, second.prior_dose_e_A2, second.mdoc_section) == (3.0, 3.0, 1)
    assert second.acquired_s - first.acquired_s == 60


def test_a_section_in_the_mdoc_that_the_stack_lacks_is_waited_for():
    folder = Folder()
    told = folder.put({"X.mrc": info(2, whole=1), "X.mrc.mdoc": mdoc(tilt(0), tilt(3))})
    assert angles(told) == [0.0]
    assert "X.mrc.mdoc" in folder.unready
    folder.files["X.mrc"] = info(2)
    assert angles(folder.see("X.mrc.mdoc")) == [3.0]
    assert folder.unready == frozenset()


def test_a_stack_that_stays_short_is_refused_by_its_own_name():
    folder = Folder()
    folder.put({"X.mrc": info(1), "X.mrc.mdoc": mdoc(tilt(0), tilt(3))})
    [refused] = only(folder.see("X.mrc.mdoc", why="expired"), FileRefused)
    assert refused.path == "X.mrc"
    assert "1 whole images" in refused.reason
    folder.files["X.mrc"] = info(2)
    assert angles(folder.see("X.mrc")) == [3.0]


def test_sections_are_told_in_the_order_of_time():
    folder = Folder()
    text = mdoc(tilt(-3, time=3), tilt(0, time=1), tilt(3, time=2))
    assert angles(folder.put({"X.mrc.mdoc": text, "X.mrc": info(3)})) == [0.0, 3.0, -3.0]


def test_a_sorted_stack_keeps_its_exposures_and_tells_where_they_lie():
    folder = Folder()
    first = images(folder.put({"X.mrc.mdoc": mdoc(tilt(0, 1), tilt(3, 2), tilt(-3, 3)), "X.mrc": info(3)}))
    text = mdoc(tilt(-3, 3), tilt(0, 1), tilt(3, 2), tilt(6, 4))
    told = images(folder.put({"X.mrc.mdoc": text, "X.mrc": info(4)}))
    assert sorted(told_again(told)) == [
        ("X.mrc#0", 1, 0.0),
        ("X.mrc#1", 2, 3.0),
        ("X.mrc#2", 0, -3.0),
        ("X.mrc#3", 3, 6.0),
    ]
    assert {image.key for image in first} == {"X.mrc#0", "X.mrc#1", "X.mrc#2"}
    assert folder.put({"X.mrc.mdoc": text, "X.mrc": info(4)}) == []


def told_again(told):
    return [(image.key, image.section, image.angle_deg) for image in told]


def test_an_mdoc_without_its_last_newline_loses_nothing_in_the_end():
    folder = Folder()
    folder.write(X__mrc=info(2), X__mrc__mdoc=mdoc(tilt(0), tilt(3)).rstrip("\n"))
    assert angles(folder.see("X.mrc.mdoc")) == [0.0]
    assert folder.unready == {"X.mrc.mdoc"}
    assert angles(folder.see("X.mrc.mdoc", why="expired")) == [3.0]


def test_half_a_section_is_said_once_and_the_rest_is_used():
    folder = Folder()
    folder.write(X__mrc=info(2), X__mrc__mdoc=mdoc(tilt(0), {"StageZ": 4}))
    assert angles(folder.see("X.mrc.mdoc")) == [0.0]
    told = folder.see("X.mrc.mdoc", why="expired") + folder.see("X.mrc.mdoc", why="expired")
    assert [warned.code for warned in only(told, Warned)] == ["mdoc.incomplete"]
    assert images(told) == []


def test_an_mdoc_that_never_rests_tells_what_is_certain():
    folder = Folder()
    folder.write(X__mrc=info(2), X__mrc__mdoc=mdoc(tilt(0), tilt(3)))
    assert angles(folder.see("X.mrc.mdoc", why="peek")) == [0.0]
    assert folder.unready == frozenset()


def test_the_frames_behind_a_stack_are_not_told_again():
    folder = Folder()
    text = mdoc(tilt(0, frame="X_000_0.0.tif"), tilt(3, frame="X_001_3.0.tif"))
    frames = {"f/X_000_0.0.tif": info(frames=8, kind="tiff"), "f/X_001_3.0.tif": info(frames=8, kind="tiff")}
    told = images(folder.put({**frames, "X.mrc": info(2), "X.mrc.mdoc": text}))
    assert {image.path for image in told} == {"X.mrc"}
    assert folder.wait(1e6) == []


def test_a_frame_that_comes_before_its_section_waits_for_it():
    folder = Folder()
    movie = info(frames=8, kind="tiff")
    assert folder.put({"X.mrc": NoImageYet("X.mrc: holds no image yet")}) == []
    assert folder.put({"f/X_000_0.0.tif": movie}) == []
    folder.put({"X.mrc": info(1), "X.mrc.mdoc": mdoc(tilt(0, frame="X_000_0.0.tif"))})
    assert folder.wait(1e6) == []


def test_two_mdocs_of_one_stack_do_not_quarrel():
    folder = Folder()
    text = mdoc(tilt(0), head="ImageFile = X.mrc\n")
    told = folder.put({"X.mdoc": text, "X.mrc.mdoc": text, "other.mdoc": text, "X.mrc": info(1)})
    assert len(images(told)) == 1


def test_a_copied_stack_may_come_after_its_mdoc():
    folder = Folder()
    text = mdoc(tilt(0, frame="a.tif"), head="ImageFile = stack.mrc\n")
    assert folder.put({"X.mdoc": text}) == []
    assert angles(folder.put({"stack.mrc": info(1)})) == [0.0]


def test_an_mdoc_that_is_rewritten_leaves_nothing_behind_while_it_is_empty():
    folder = Folder()
    folder.put({"X.mrc": info(1), "X.mrc.mdoc": mdoc(tilt(0))})
    opened = len(folder.opened)
    assert folder.put({"X.mrc.mdoc": ""}) == []
    assert folder.put({"X.mrc": info(2)}) == []
    assert len(folder.opened) == opened
    assert angles(folder.put({"X.mrc.mdoc": mdoc(tilt(0), tilt(3))})) == [3.0]


# -- finished stacks ---------------------------------------------------------------------------------------------------


def test_a_finished_stack_with_nominal_angles_beside():
    folder = Folder()
    told = folder.put({"N.mrc": info(3), "N.rawtlt": "-46.0\n-46.0\n-44.0\n", "N.tlt": "1\n2\n3\n"})
    assert only(told, SeriesDescribed)[0].planned_tilts == 3
    assert [(image.section, image.angle_deg) for image in images(told)] == [(0, -46.0), (1, -46.0), (2, -44.0)]


def test_angles_in_the_header_come_before_solved_ones_and_after_nominal_ones():
    header = info(2, angles=(1.0, 2.0), angles_from="FEI")
    assert angles(Folder().put({"N.mrc": header, "N.tlt": "3\n4\n"})) == [1.0, 2.0]
    assert angles(Folder().put({"N.mrc": header, "N.rawtlt": "5\n6\n"})) == [5.0, 6.0]
    assert angles(Folder().put({"N.mrc": info(2), "N.tlt": "3\n4\n"})) == [3.0, 4.0]


def test_a_stack_that_serialem_may_still_write_has_no_planned_count():
    header = info(2, angles=(1.0, 2.0), angles_from="SerialEM", pixel_size_A=2.0)
    assert only(Folder().put({"N.st": header}), SeriesDescribed)[0].planned_tilts is None
    old = Folder()
    old.write(N__st=header)
    found = old.catalogue.look([Due(Seen("N.st", 1, old.now - 100), "settled")], old.now)
    assert only(found.sightings, SeriesDescribed)[0].planned_tilts == 2


def test_angles_that_come_later_are_taken():
    folder = Folder()
    assert folder.put({"N.mrc": info(2)}) == []
    assert folder.put({"N.rawtlt": "1\n"}) == []
    folder.see(*folder.unready)
    folder.put({"N.rawtlt": "1\n2\n"})
    assert folder.unready == {"N.mrc"}
    assert angles(folder.see("N.mrc")) == [1.0, 2.0]
    assert folder.wait(1e6) == []


def test_a_stack_without_angles_is_refused_after_a_long_while_and_rescued_even_then():
    folder = Folder()
    assert folder.put({"N.mrc": info(2)}) == []
    assert folder.wait(60) == []
    [refused] = folder.wait(3600)
    assert refused.path == "N.mrc"
    assert "N.mdoc or .rawtlt" in refused.reason
    assert folder.wait(3600) == []
    assert angles(folder.put({"N.mdoc": mdoc(tilt(0), tilt(3))})) == [0.0, 3.0]


def test_montages_and_by_products_are_no_tilt_series():
    folder = Folder()
    told = folder.put({"M.mrc": info(2), "M.mrc.mdoc": mdoc(tilt(0), tilt(0), head="Montage = 1\n")})
    told += folder.see(*folder.unready)
    assert [type(s) for s in told] == [FileRefused]
    assert "montage" in told[0].reason
    told = folder.put({"L1_tgt_001.mrc": info(1), "L1_tgt_001.mrc.mdoc": mdoc(tilt(0)), "L1_tgt_002.mrc": info(1)})
    told += folder.put({"P_override.mdoc": mdoc(tilt(0)), "P_override.mrc": info(1)})
    told += folder.put({f"M{i}.tif.mdoc": "[FrameSet = 0]\nTiltAngle = 3\n" for i in range(3)})
    assert [(said.code, said.text.split("(")[1]) for said in told] == [
        ("file.ignored", "L1_tgt_001.mrc.mdoc)"),
        ("file.ignored", "P_override.mdoc)"),
        ("file.ignored", "M0.tif.mdoc)"),
    ]


# -- single files ------------------------------------------------------------------------------------------------------

TOMO5 = [f"Position_1_{i:03d}_{angle:.2f}_20260115_1010{i:02d}.mrc" for i, angle in ((1, 0), (2, 3), (3, -3))]


def tomo5_mdoc():
    frames = [name.replace(".mrc", "_EER.eer") for name in TOMO5]
    sections = (
        tilt(angle + 0.01, 10 + i, frame) for i, (angle, frame) in enumerate(zip((0, 3, -3), frames, strict=True))
    )
    return mdoc(*sections, title="TiltAxisAngle = -171.35 Binning = 1")


def test_tomo5_files_are_told_at_once_and_again_when_the_mdoc_comes():
    folder = Folder()
    told = [image for name in TOMO5 for image in folder.put({name: info()})]
    assert [(image.series, image.angle_deg) for image in told] == [
        ("Position_1", 0),
        ("Position_1", 3),
        ("Position_1", -3),
    ]
    described, *better = folder.put({"Position_1.mdoc": tomo5_mdoc()})
    assert (described.series, described.planned_tilts, described.pixel_size_A) == ("Position_1", 3, 2.15)
    assert [(image.series, image.path, image.angle_deg) for image in better] == [
        ("Position_1", name, angle) for name, angle in zip(TOMO5, (0.01, 3.01, -2.99), strict=True)
    ]
    assert folder.put({"Position_1.mdoc": tomo5_mdoc()}) == []
    assert folder.put({"Position_1.mrc": info(3)}) == []


ORDERS = [order for order in itertools.permutations(("files", "mdoc", "stack")) if order[-1] != "files"]
"""A stack with its mdoc and nothing else is a stack, so the files do not come last."""


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_arrival_ends_with_the_same_tomo5_series(order):
    parts = {
        "files": {name: info() for name in TOMO5},
        "mdoc": {"Position_1.mdoc": tomo5_mdoc()},
        "stack": {"Position_1.mrc": info(3)},
    }
    together = Folder()
    expected = {
        (i.path, i.section): i.angle_deg for i in images(together.put(parts["files"] | parts["mdoc"] | parts["stack"]))
    }
    assert {path for path, _ in expected} == set(TOMO5)
    folder = Folder()
    told = [s for part in order for s in folder.put(parts[part])]
    told += folder.see(*folder.unready)
    assert {(i.path, i.section): i.angle_deg for i in images(told)} == expected
    assert only(told, SeriesDescribed)[-1].planned_tilts == 3


def test_files_there_at_the_start_are_told_in_the_order_of_their_acquisition():
    folder = Folder()
    assert angles(folder.put({name: info() for name in reversed(TOMO5)})) == [0, 3, -3]
    names = ["a_003_6.0.mrc", "a_001_0.0.mrc", "a_002_-3.0.mrc"]
    assert angles(Folder().put({name: info() for name in names})) == [0, -3, 6]
    assert angles(Folder().put({name: info() for name in ["b_3.0.mrc", "b_0.0.mrc"]})) == [3, 0]


def test_files_without_a_name_wait_for_their_mdoc():
    folder = Folder()
    assert folder.put({"one.tif": info(kind="tiff"), "two.tif": info(kind="tiff")}) == []
    told = folder.put({"TS_01.mdoc": mdoc(tilt(0, 1, "one.tif"), tilt(3, 2, "two.tif"))})
    assert [(image.series, image.path, image.angle_deg) for image in images(told)] == [
        ("TS_01", "one.tif", 0.0),
        ("TS_01", "two.tif", 3.0),
    ]
    assert only(told, SeriesDescribed)[0].planned_tilts is None


def test_a_file_that_nobody_explains_is_refused_late_with_what_was_tried():
    folder = Folder()
    assert folder.put({"one.tif": info(kind="tiff")}) == []
    assert folder.wait(300) == []
    [refused] = folder.wait(600)
    assert "SerialEM" in refused.reason
    assert "Tomo5" in refused.reason
    assert angles(folder.put({"TS_01.mdoc": mdoc(tilt(0, 1, "one.tif"))})) == [0.0]


def test_where_mdocs_name_such_files_a_new_one_waits_long_for_its_section_then_goes_by_its_name():
    folder = Folder()
    folder.put({"TS_01.mdoc": mdoc(tilt(0, 1, "run_0001_0.0.tif")), "run_0001_0.0.tif": info(kind="tiff")})
    assert folder.put({"run_0002_3.0.tif": info(kind="tiff")}) == []
    text = mdoc(tilt(0, 1, "run_0001_0.0.tif"), tilt(3, 2, "run_0002_3.0.tif"))
    [image] = folder.put({"TS_01.mdoc": text})
    assert (image.series, image.angle_deg) == ("TS_01", 3.0)
    assert folder.put({"run_0003_6.0.tif": info(kind="tiff")}) == []
    assert folder.wait(100) == []
    [image] = folder.wait(30)
    assert (image.series, image.angle_deg) == ("run", 6.0)


def test_one_that_waited_in_vain_makes_its_successors_go_at_once():
    folder = Folder()
    folder.put({"TS_01.mdoc": mdoc(tilt(0, 1, "run_0001_0.0.tif"))})
    assert folder.put({"new_0001_3.0.tif": info(kind="tiff")}) == []
    assert angles(folder.wait(15)) == [3.0]
    assert angles(folder.put({"new_0002_6.0.tif": info(kind="tiff")})) == [6.0]


def test_a_number_that_all_images_share_belongs_to_the_series_name():
    folder = Folder()
    names = ["TS_001_0.0.tif", "TS_001_3.0.tif", "TS_002_0.0.tif", "TS_002_3.0.tif"]
    told = images(folder.put({name: info(kind="tiff") for name in names}))
    assert [image.series for image in told] == ["TS_001", "TS_001", "TS_002", "TS_002"]
    [image] = folder.put({"TS_002_6.0.tif": info(kind="tiff")})
    assert image.series == "TS_002"


def test_a_series_keeps_the_name_under_which_it_began():
    folder = Folder()
    [first] = folder.put({"run_001_0.0.tif": info(kind="tiff")})
    text = mdoc(tilt(0, 1, "run_001_0.0.tif"), tilt(3, 2, "run_002_3.0.tif"))
    told = folder.put({"TS_01.mdoc": text, "run_002_3.0.tif": info(kind="tiff")})
    assert {first.series, *(image.series for image in images(told))} == {"run"}
    assert {event.series for event in only(told, SeriesDescribed)} == {"run"}


def test_series_of_the_same_name_in_two_folders_stay_apart():
    folder = Folder()
    told = folder.put({"g1/TS_01_001_0.0.mrc": info(), "g2/TS_01_001_0.0.mrc": info(), "g2/TS_01_002_3.0.mrc": info()})
    names = {PurePosixPath(image.path): image.series for image in images(told)}
    assert names[PurePosixPath("g2/TS_01_001_0.0.mrc")] == names[PurePosixPath("g2/TS_01_002_3.0.mrc")]
    assert len(set(names.values())) == 2


def test_movies_in_mrc_format_are_taken_in_and_bad_eer_refused_but_not_beside_their_sums():
    folder = Folder()
    [movie] = images(folder.put({"a_001_0.0.mrc": info(8)}))
    assert (movie.frames, movie.angle_deg) == (8, 0.0)
    [refused] = folder.put(
        {"P_001_0.00_20260115_101010_EER.eer": BadImage("P_001_0.00_20260115_101010_EER.eer: no EER")}
    )
    assert refused.reason == "no EER"
    both = {"Q_001_0.00_20260115_101010_EER.eer": BadImage("no"), "Q_001_0.00_20260115_101010.mrc": info()}
    assert angles(Folder().put(both)) == [0.0]


# -- trouble, overrides, restarts --------------------------------------------------------------------------------------


def test_bad_files_are_refused_once_and_unready_ones_tried_until_they_expire():
    folder = Folder()
    [refused] = folder.put({"a_0.0.mrc": BadImage("a_0.0.mrc: is text, not an image")})
    assert refused == FileRefused(path="a_0.0.mrc", reason="is text, not an image")
    assert folder.see("a_0.0.mrc") == []
    assert folder.put({"b_0.0.mrc": NotReady("b_0.0.mrc: is empty")}) == []
    assert folder.unready == {"b_0.0.mrc"}
    [refused] = folder.see("b_0.0.mrc", why="expired")
    assert refused.reason.startswith("is empty; it is looked at again")
    assert angles(folder.put({"b_0.0.mrc": info()})) == [0.0]


def test_a_file_that_may_not_be_read_is_refused_and_one_that_vanished_forgotten():
    folder = Folder()
    assert folder.put({"a_0.0.mrc": PermissionError(13, "Permission denied")}) == []
    [refused] = folder.see("a_0.0.mrc", why="expired")
    assert "Permission denied" in refused.reason
    assert folder.put({"b_0.0.mrc": FileNotFoundError(2, "gone")}) == []
    assert folder.unready == frozenset()


def test_an_unreadable_mdoc_leaves_its_images_to_their_names():
    folder = Folder()
    folder.put({"a_0.0.mrc": info(), "a_0.0.mrc.mdoc": PermissionError(13, "Permission denied")})
    told = folder.see("a_0.0.mrc.mdoc", why="expired")
    assert [type(s) for s in told] == [FileRefused]
    assert angles(folder.see(*folder.unready)) == [0.0]
    [refused] = folder.put({"note.mdoc": "remember the milk\n"})
    assert "no mdoc" in refused.reason


def test_settings_win_over_metadata_with_one_warning_for_each_kind():
    folder = Folder(tilt_axis_deg=-94.7, pixel_size_A=3.0)
    told = folder.put({"X.mrc.mdoc": mdoc(tilt(0, 1), tilt(3, 2)), "X.mrc": info(2)})
    assert {(image.tilt_axis_deg, image.pixel_size_A) for image in images(told)} == {(-94.7, 3.0)}
    assert {(event.tilt_axis_deg, event.pixel_size_A) for event in only(told, SeriesDescribed)} == {(-94.7, 3.0)}
    assert sorted(warned.code for warned in only(told, Warned)) == ["axis.disagrees", "pixel.disagrees"]
    agreeing = Folder(tilt_axis_deg=85.0, pixel_size_A=2.15)
    assert only(agreeing.put({"X.mrc.mdoc": mdoc(tilt(0, 1)), "X.mrc": info(1)}), Warned) == []


def test_an_mdoc_whose_sources_of_the_axis_disagree_is_said_once():
    folder = Folder()
    for count in (1, 2):
        text = mdoc(*(tilt(3 * z, z, RotationAngle=120) for z in range(count)))
        told = folder.put({"X.mrc.mdoc": text, "X.mrc": info(count)})
        assert [warned.code for warned in only(told, Warned)] == (["axis.disagrees"] if count == 1 else [])
        assert images(told)[0].tilt_axis_deg == 85.3


def test_after_a_restart_nothing_is_told_twice_and_names_are_kept():
    first = Folder()
    told = images(first.put({"run_001_0.0.tif": info(kind="tiff")}))
    text = mdoc(tilt(0, 1, "run_001_0.0.tif"), tilt(3, 2, "run_002_3.0.tif"))
    told += images(first.put({"TS_01.mdoc": text}))
    again = Folder(known=told)
    files = {"TS_01.mdoc": text, "run_001_0.0.tif": info(kind="tiff"), "run_002_3.0.tif": info(kind="tiff")}
    assert [(image.series, image.path) for image in images(again.put(files))] == [("run", "run_002_3.0.tif")]


def test_an_image_that_changes_after_it_was_taken_in_is_said():
    folder = Folder()
    folder.put({"a_0.0.mrc": info()})
    found = folder.catalogue.look([Due(Seen("a_0.0.mrc", 2, folder.now), "settled")], folder.now)
    assert [warned.code for warned in only(found.sightings, Warned)] == ["image.changed"]


def test_a_pattern_of_the_settings_tells_series_order_and_angle():
    folder = Folder(name_patterns=(r"(?P<angle>-?\d+)at(?P<order>\d+)of(?P<series>\w+)",))
    told = images(folder.put({"-3at2ofA.mrc": info(), "0at1ofA.mrc": info()}))
    assert [(image.series, image.angle_deg) for image in told] == [("A", 0.0), ("A", -3.0)]


def test_a_stack_that_waited_for_its_mdoc_in_vain_is_taken_or_refused_and_never_ends_the_watch():
    folder = Folder()
    folder.put({"X.mrc.mdoc": mdoc(tilt(0, 1)), "X.mrc": info(1)})
    header = info(2, angles=(0.0, 3.0), angles_from="SerialEM")
    assert folder.put({"Y.mrc": header, "Z.mrc": header, "Z.rawtlt": "not a number\n"}) == []
    told = folder.wait(90)
    assert [(image.path, image.angle_deg) for image in images(told)] == [("Y.mrc", 0.0), ("Y.mrc", 3.0)]
    [refused] = only(told, FileRefused)
    assert (refused.path, "something else than tilt angles" in refused.reason) == ("Z.mrc", True)
