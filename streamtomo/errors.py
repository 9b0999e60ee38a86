"""Every error that streamtomo raises on purpose.

    StreamtomoError
    ├── SettingsError        a settings file or --set that cannot be used
    ├── InputError           something in the watched folder cannot be used; the run goes on without it
    │   ├── NotReady         the file is still being written; it will be tried again
    │   │   └── NoImageYet   the file was opened for images and has none; nothing is wrong, it will change
    │   └── BadImage         the file is no image that we can read, and never will be
    ├── OutputError          OUT cannot be written (permissions, space)
    ├── BusError             a socket cannot be opened or does not answer
    ├── AlignmentError       a series cannot be aligned at all (too few views)
    └── Interrupted          the operator asked to stop

The message of each says what it is about (file, series, tilt, setting) and what to do.
"""


class StreamtomoError(Exception):
    """Base of all errors raised on purpose."""


class SettingsError(StreamtomoError):
    """A setting is unknown, of the wrong type, or out of range."""


class InputError(StreamtomoError):
    """Something in the watched folder cannot be used."""


class NotReady(InputError):
    """The file is not complete yet."""


class NoImageYet(NotReady):
    """The file waits for its first image."""


class BadImage(InputError):
    """The file is not a readable image."""


class OutputError(StreamtomoError):
    """The output folder cannot be written."""


class BusError(StreamtomoError):
    """A ZeroMQ endpoint cannot be bound or reached."""


class AlignmentError(StreamtomoError):
    """A series cannot be aligned."""


class Interrupted(StreamtomoError):
    """The operator asked to stop."""
