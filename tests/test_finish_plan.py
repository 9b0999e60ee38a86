"""Which steps are done: settings, files and inputs decide, nothing else."""

import pytest

from streamtomo.config import Final, Settings, Specimen
from streamtomo.errors import SettingsError
from streamtomo.finish.plan import Done, Needs, Planned, chosen, forget, keys, plan, to_do

NEEDS = {
    "clean": Needs((), ("correct.outlier_sigma",), passing=True),
    "solve": Needs(("clean",), ("final.align",)),
    "stack": Needs(("clean", "solve"), ("final.binning",), passing=True),
    "position": Needs(("solve",), ("specimen.thickness_nm",)),
    "reconstruct": Needs(("stack", "position", "ctf"), ("final.method",)),
    "report": Needs(("reconstruct",)),
}
DEFAULT = Settings()


class Folder:
    """A series that was finished with the default settings."""

    def __init__(self):
        self.files = {f"{name}.mrc": (100, 1) for name in NEEDS}
        made = keys(NEEDS, DEFAULT, {})
        self.state = {
            name: Done(
                key=made[name],
                settings=chosen(need, DEFAULT),
                files={f"{name}.mrc": (100, 1)},
                seconds=1.0,
            )
            for name, need in NEEDS.items()
        }

    def plan(self, settings=DEFAULT, facts=None, **options):
        wanted = keys(NEEDS, settings, facts or {})
        return plan(NEEDS, wanted, settings, self.state, self.files.get, **options)


def test_nothing_is_done_twice():
    assert to_do(Folder().plan()) == []


def test_a_new_series_is_done_from_the_start():
    folder = Folder()
    folder.state = {}
    assert to_do(folder.plan()) == list(NEEDS)
    assert {step.why for step in folder.plan()} == {"not done yet"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(final=Final(method="sirt")), ["reconstruct", "report"]),
        (Settings(final=Final(binning=4)), ["stack", "reconstruct", "report"]),
        (Settings(specimen=Specimen(thickness_nm=200.0)), ["position", "reconstruct", "report"]),
        (Settings(final=Final(align="patches")), ["solve", "stack", "position", "reconstruct", "report"]),
        (Settings(final=Final(attempts=5)), []),
    ],
    ids=["method", "binning", "thickness", "alignment", "one that no step depends on"],
)
def test_a_changed_setting_redoes_just_what_depends_on_it(settings, expected):
    planned = Folder().plan(settings)
    assert to_do(planned) == expected
    if expected:
        assert next(step.why for step in planned if step.why).startswith("changed: ")


def test_a_changed_input_redoes_what_comes_of_it():
    planned = Folder().plan(facts={"solve": "another axis"})
    assert to_do(planned) == ["solve", "stack", "position", "reconstruct", "report"]
    assert planned[1].why == "its input changed"
    assert planned[2].why == "follows solve"


def test_a_crash_goes_on_where_it_was():
    folder = Folder()
    del folder.state["reconstruct"], folder.state["report"]
    assert to_do(folder.plan()) == ["reconstruct", "report"]


def test_a_file_that_was_changed_by_others_is_made_again():
    folder = Folder()
    folder.files["position.mrc"] = (101, 2)
    assert to_do(folder.plan()) == ["position", "reconstruct", "report"]


def test_files_for_later_steps_may_be_gone_until_they_are_needed():
    folder = Folder()
    del folder.files["clean.mrc"], folder.files["stack.mrc"]
    assert to_do(folder.plan()) == []
    planned = folder.plan(Settings(final=Final(method="sirt")))
    assert to_do(planned) == ["clean", "stack", "reconstruct", "report"]
    assert planned[2].why == "stack.mrc is needed again"


def test_a_range_of_steps_can_be_asked_for():
    planned = Folder().plan(first="position", last="reconstruct")
    assert to_do(planned) == ["position", "reconstruct"]
    assert [step.name for step in planned] == ["clean", "solve", "stack", "position", "reconstruct"]
    assert planned[3].why == "asked for"
    with pytest.raises(SettingsError, match="polish is no step of the recipe; its steps are: clean, solve"):
        Folder().plan(first="polish")


def test_a_step_about_to_be_done_takes_what_follows_with_it():
    state = Folder().state
    assert list(forget(state, NEEDS, Planned("position", "asked for"))) == ["clean", "solve", "stack"]
    again = forget(state, NEEDS, Planned("clean", "clean.mrc is needed again", same=True))
    assert list(again) == [name for name in NEEDS if name != "clean"]
