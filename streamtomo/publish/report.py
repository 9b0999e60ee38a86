"""Pages for people: one HTML file a series and one for the session, with everything in them, for any browser."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from streamtomo.publish.pictures import thumbnail

PICTURE_PX = 640
SMALL_PICTURE_PX = (200, 90)

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 1.6rem 0 .5rem }
.say { color: #555; margin-top: 0 } .warn { background: #fff3d6; padding: .4rem .7rem; border-radius: 4px }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start } figure { margin: 0 }
figcaption { color: #555; font-size: .85rem } img { max-width: 100%; background: #000 }
table { border-collapse: collapse } th, td { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top }
th { font-weight: 500; color: #555 } tbody tr:nth-child(odd) td { background: #f6f6f6 } td.n { text-align: right }
.plot { width: 36rem; max-width: 100% } .plot img { background: #fff }
.bad { color: #b3261e }
"""


class Picture(NamedTuple):
    """A picture of a page."""

    caption: str
    png: bytes


class Page(NamedTuple):
    """What the page of a series shows."""

    name: str
    subtitle: str
    warnings: Sequence[str]
    facts: Mapping[str, str]
    pictures: Sequence[Picture]
    plots: Sequence[Picture]
    tables: Mapping[str, Sequence[Sequence[str]]]
    """Rows by title, the first row being the head."""


class Line(NamedTuple):
    """A row of the session's page."""

    name: str
    state: str
    link: str | None
    """Path of its own page, relative to the session's."""
    cells: Sequence[str]
    picture: bytes | None
    fault: str = ""


def page(content: Page) -> str:
    """The page of a series."""
    warnings = "".join(f'<p class="warn">{escape(text)}</p>' for text in content.warnings)
    pictures = "".join(_figure(picture) for picture in content.pictures)
    plots = "".join(_plotted(one) for one in content.plots)
    tables = "".join(f"<h2>{escape(title)}</h2>{_table(rows)}" for title, rows in content.tables.items() if rows[1:])
    facts = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in content.facts.items())
    return _html(
        content.name,
        f'<h1>{escape(content.name)}</h1><p class="say">{escape(content.subtitle)}</p>{warnings}'
        f'<div class="row">{pictures}</div><h2>Results</h2><table>{facts}</table>'
        f'<div class="row">{plots}</div>{tables}',
    )


def session_page(title: str, subtitle: str, heads: Sequence[str], lines: Sequence[Line]) -> str:
    """The page of a session: a row a series."""
    head = "".join(f"<th>{escape(text)}</th>" for text in ("", "series", "state", *heads))
    rows = "".join(_session_row(line, len(heads)) for line in lines)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _html(title, f'<h1>{escape(title)}</h1><p class="say">{escape(subtitle)}</p>{table}')


def _session_row(line: Line, cells: int) -> str:
    name = escape(line.name)
    linked = f'<a href="{quote(line.link)}">{name}</a>' if line.link else name
    picture = f'<img alt="" src="{_embedded(line.picture)}">' if line.picture else ""
    rest = "".join(f'<td class="n">{escape(text)}</td>' for text in line.cells)
    if line.fault:
        rest = f'<td class="bad" colspan="{cells}">{escape(line.fault)}</td>'
    return f"<tr><td>{picture}</td><td>{linked}</td><td>{escape(line.state)}</td>{rest}</tr>"


def small(path: Path, width: int = PICTURE_PX, height: int = PICTURE_PX) -> bytes | None:
    """A PNG file in a smaller PNG; None where there is none that can be read."""
    import imagecodecs

    try:
        grey = np.asarray(imagecodecs.png_decode(path.read_bytes()), np.float32)
    except (OSError, ValueError, imagecodecs.PngError):
        return None
    shrunk = thumbnail(grey[::-1], width, height)
    return bytes(imagecodecs.png_encode(shrunk))


def _figure(picture: Picture) -> str:
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="{_embedded(picture.png)}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _embedded(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _plotted(plot: Picture) -> str:
    title = escape(plot.caption)
    return f'<figure class="plot"><h2>{title}</h2><img alt="{title}" src="{_embedded(plot.png)}"></figure>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows[1:])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
