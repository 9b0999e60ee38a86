"""Every setting, typed, with unit, range and default.

`Settings` is the root; its tables are in modules by stage. `config_file` reads and writes the files.
"""

from __future__ import annotations

from msgspec import field

from streamtomo.config_average import Average
from streamtomo.config_final import Cluster, Ctf, Denoise, Dual, Erase, Export, Final
from streamtomo.config_intake import Acquisition, Correct, Movies, Specimen, Watch
from streamtomo.config_judge import Judge
from streamtomo.config_live import Align, Live
from streamtomo.config_notify import Notify
from streamtomo.config_run import Alarms, Publish, Run
from streamtomo.setting import Table

__all__ = [
    "Acquisition",
    "Alarms",
    "Align",
    "Average",
    "Cluster",
    "Correct",
    "Ctf",
    "Denoise",
    "Dual",
    "Erase",
    "Export",
    "Final",
    "Judge",
    "Live",
    "Movies",
    "Notify",
    "Publish",
    "Run",
    "Settings",
    "Specimen",
    "Watch",
]


class Settings(Table, frozen=True):
    """All settings of a run."""

    acquisition: Acquisition = field(default_factory=Acquisition)
    specimen: Specimen = field(default_factory=Specimen)
    watch: Watch = field(default_factory=Watch)
    correct: Correct = field(default_factory=Correct)
    movies: Movies = field(default_factory=Movies)
    align: Align = field(default_factory=Align)
    live: Live = field(default_factory=Live)
    judge: Judge = field(default_factory=Judge)
    final: Final = field(default_factory=Final)
    ctf: Ctf = field(default_factory=Ctf)
    erase: Erase = field(default_factory=Erase)
    denoise: Denoise = field(default_factory=Denoise)
    dual: Dual = field(default_factory=Dual)
    export: Export = field(default_factory=Export)
    average: Average = field(default_factory=Average)
    cluster: Cluster = field(default_factory=Cluster)
    publish: Publish = field(default_factory=Publish)
    alarms: Alarms = field(default_factory=Alarms)
    notify: Notify = field(default_factory=Notify)
    run: Run = field(default_factory=Run)
