"""Settings of a run beside its data: who is told, when somebody must look, the machine's share."""

from __future__ import annotations

from typing import Annotated, Literal

from streamtomo.setting import Table, facts


class Publish(Table, frozen=True):
    """Who is told, and where."""

    bind: Annotated[
        str, "Address of the ZeroMQ sockets. Anything but loopback needs CURVE keys.", facts(min_length=1)
    ] = "127.0.0.1"
    port: Annotated[
        int,
        "Port of the event stream; the snapshot socket is on the next one. The next free pair is taken when it is in "
        "use.",
        facts(ge=1024, le=65000),
    ] = 5570
    curve_keys: (
        Annotated[
            str,
            "Folder of keys, made by `streamtomo keys`: who may listen, and who may give orders.",
            facts(min_length=1, absent="no encryption, loopback only", example="/etc/streamtomo/keys"),
        ]
        | None
    ) = None
    metrics_port: (
        Annotated[
            int,
            "Port on loopback where Prometheus finds the numbers of the run, at /metrics.",
            facts(ge=1024, le=65535, absent="none", example=9570),
        ]
        | None
    ) = None
    log_MB: Annotated[
        float,
        "A log file (OUT/streamtomo.log) of this size is put aside; the last five are kept.",
        facts("MB", gt=0, le=10000),
    ] = 10.0


class Alarms(Table, frozen=True):
    """When somebody must look."""

    late_factor: Annotated[
        float,
        "A tilt is late after this many times the usual interval between tilts of the folder.",
        facts("intervals", ge=1.5, le=100),
    ] = 3.0
    backlog: Annotated[
        int, "So many images that wait to be processed are an alarm.", facts("images", ge=1, le=10000)
    ] = 10
    disk_hours: Annotated[
        float,
        "An alarm when the disk of the results will be full in less than this at the present rate.",
        facts("h", gt=0, le=1000),
    ] = 2.0
    reserve_GB: Annotated[
        float,
        "With less free space for the results processing waits; images are still taken in, and it goes on when there "
        "is room.",
        facts("GB", ge=0, le=10000),
    ] = 1.0


class Run(Table, frozen=True):
    """The machine's share."""

    threads: (
        Annotated[int, "Threads for the kernels.", facts("threads", ge=1, le=256, absent="all cores", example=2)] | None
    ) = None
    device: Annotated[
        Literal["auto", "cpu", "gpu"],
        "Where reconstructions are computed; auto takes a graphics device where cupy finds one.",
    ] = "auto"
    finish_nice: Annotated[int, "Priority of the finishing process; 19 is the lowest.", facts("nice", ge=0, le=19)] = 10
    umask: (
        Annotated[
            str,
            "Permissions that the results do not get, as the shell's umask has them.",
            facts("octal", pattern="^0?[0-7]{3}$", absent="as the shell says", example="007"),
        ]
        | None
    ) = None
    group: (
        Annotated[
            str,
            "Group that owns the results.",
            facts(min_length=1, absent="the user's own", example="krios"),
        ]
        | None
    ) = None
