"""Reads a series that is on disk already: the catalogue without the waiting."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from streamtomo.config import Settings
from streamtomo.errors import InputError
from streamtomo.messages import FileRefused, SeriesDescribed, Sighting, Warned
from streamtomo.model import RawImage
from streamtomo.watch.catalogue import Catalogue
from streamtomo.watch.folder import list_files
from streamtomo.watch.mdoc import is_mdoc
from streamtomo.watch.naming import stem_of
from streamtomo.watch.settle import Due, Seen

ROUNDS = 3
"""Looking at one file can make another one readable, seldom more than once."""


class FinishedSeries(NamedTuple):
    """Everything known about a series on disk."""

    images: list[RawImage]
    """In the order they were acquired."""
    described: SeriesDescribed
    remarks: list[FileRefused | Warned]


def read_series(path: str | Path, settings: Settings) -> FinishedSeries:
    """The one series in a stack (with what stands beside it), behind an mdoc, or in a folder.

    Raises `InputError` when there is none, or more than one.
    """
    path = os.path.abspath(path)
    found = read_all(path, settings)
    names = {image.series for image in found.images}
    if len(names) > 1:
        raise InputError(f"{path}: holds {len(names)} series ({', '.join(sorted(names))}); name the file of one")
    if not names:
        reasons = "; ".join(
            remark.reason if isinstance(remark, FileRefused) else remark.text for remark in found.remarks
        )
        raise InputError(f"{path}: no tilt series found ({reasons or 'no image that can be used'})")
    series = names.pop()
    described = next((event for event in reversed(found.described) if event.series == series), None)
    described = described or SeriesDescribed(series=series, source=path)
    return FinishedSeries(found.images, replace(described, planned_tilts=len(found.images)), found.remarks)


class Found(NamedTuple):
    """Everything known about the files behind one path."""

    images: list[RawImage]
    described: list[SeriesDescribed]
    remarks: list[FileRefused | Warned]


def read_all(path: str, settings: Settings) -> Found:
    """All series in a folder, in a stack with what stands beside it, or behind an mdoc; nothing is waited for."""
    catalogue = Catalogue(settings.acquisition)
    dues = [Due(seen, "expired") for seen in _files(path)]
    seen_at = {due.seen.path: due for due in dues}
    sightings: list[Sighting] = []
    for _ in range(ROUNDS):
        found = catalogue.look(dues, now=0.0)
        sightings += found.sightings
        dues = [seen_at[again] for again in sorted(found.unready) if again in seen_at]
    sightings += catalogue.tick(math.inf)
    images = {(image.path, image.section): image for image in sightings if isinstance(image, RawImage)}
    return Found(
        list(images.values()),
        [event for event in sightings if isinstance(event, SeriesDescribed)],
        [event for event in sightings if isinstance(event, FileRefused | Warned)],
    )


def _files(path: str) -> Iterable[Seen]:
    """The files to look at: all of a folder, those with the stem of a stack, an mdoc with all images below."""
    if os.path.isdir(path):
        return list(list_files(path))
    if not os.path.exists(path):
        raise InputError(f"{path}: there is no such file or folder")
    nearby = list(list_files(os.path.dirname(path)))
    if not is_mdoc(path):
        return [seen for seen in nearby if stem_of(seen.path) == stem_of(path)]
    return [seen for seen in nearby if seen.path == path or not is_mdoc(seen.path)]
