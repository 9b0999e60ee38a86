"""Settings of notes to people who are not at the microscope."""

from __future__ import annotations

from typing import Annotated

from streamtomo.setting import Table, facts

SECRET = "^(env|file):.+$"


class Notify(Table, frozen=True):
    """Notes by webhook or e-mail. Secrets are not settings: these say where they are kept."""

    webhook: (
        Annotated[
            str,
            'Where the address is kept that notes are posted to, as JSON {"text": ...}: env:VARIABLE or file:PATH.',
            facts(pattern=SECRET, absent="no webhook", example="env:STREAMTOMO_WEBHOOK"),
        ]
        | None
    ) = None
    email_to: (
        Annotated[
            str,
            "Addresses that notes are mailed to, with blanks between them.",
            facts(min_length=3, absent="no e-mail", example="night@lab.example"),
        ]
        | None
    ) = None
    email_from: Annotated[str, "Sender of the e-mails.", facts(min_length=3)] = "streamtomo@localhost"
    smtp: Annotated[
        str,
        "Server that takes the e-mails, host:port. Port 465 is encrypted from the start, 587 from STARTTLS on.",
        facts(pattern="^[^:]+:[0-9]+$"),
    ] = "localhost:25"
    smtp_login: (
        Annotated[
            str,
            "Where USER:PASSWORD for that server is kept: env:VARIABLE or file:PATH.",
            facts(pattern=SECRET, absent="no login", example="file:/etc/streamtomo/smtp"),
        ]
        | None
    ) = None
    quiet_hours: (
        Annotated[
            str,
            "Hours of local time, from-to, in which only alarms are sent; the rest comes afterwards in one note.",
            facts(pattern="^([01]?[0-9]|2[0-4])-([01]?[0-9]|2[0-4])$", absent="none", example="22-7"),
        ]
        | None
    ) = None
    stand_s: Annotated[float, "An alarm that is over sooner is not sent.", facts("s", ge=0, le=3600)] = 60.0
    repeat_min: Annotated[float, "The same alarm is not sent again sooner.", facts("min", ge=0, le=1440)] = 60.0
    digest_min: Annotated[
        float,
        "Everything that is no alarm comes together in one note, this far apart from the one before.",
        facts("min", ge=1, le=1440),
    ] = 60.0
    alive_h: (
        Annotated[
            float,
            "After so long without a note, one says that all is fine.",
            facts("h", ge=0.1, le=168, absent="none", example=12.0),
        ]
        | None
    ) = None
