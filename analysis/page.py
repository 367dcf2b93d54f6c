"""The report as one HTML page that needs nothing else: no network, no file beside it, no inline handler.

Its style and its script are inlined and named by their hashes in a content security policy, so that nothing else runs.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis import words
from analysis.explorer import ENDINGS, explorer
from analysis.findings import Findings
from analysis.intervals import Estimate
from analysis.origin import Origin
from analysis.results import Results

TEMPLATE = "report.html.j2"
STYLE = "report.css"
SCRIPTS = ("report_statistics.js", "report_charts.js", "report_explorer.js", "report.js")
"""One program in parts, each using those before it."""

LIMIT = 4_800_000
"""Bytes of a page; pictures get what the rest leaves."""

LARGE = 200_000
"""Bytes from which on a bitmap that is smaller takes the place of a vector picture."""

HALF, SHADES = 2, 64
"""A picture that has to be small is reduced so many times and to so many colours."""

INCH = 96
"""Pixels of a page to the inch."""


@dataclass(frozen=True)
class Drawing:
    """A picture as its files have it.

    Attributes:
        name: Its name, that of its files.
        section: Where it stands: a value of `Picture.section`.
        caption: What it shows and how to read it.
        svg: The vector picture.
        png: The bitmap.
        dpi: Dots per inch of the bitmap.
    """

    name: str
    section: str
    caption: str
    svg: bytes
    png: bytes
    dpi: int


@dataclass(frozen=True)
class Live:
    """What a page says of a sweep that is being watched.

    Attributes:
        version: Changes when there is news.
        words: How far the sweep is.
        seconds: How often the page asks.
        pictures: What stands above the pictures, empty for nothing.
        drawn: Changes with the pictures.
    """

    version: str
    words: str
    seconds: float
    pictures: str = ""
    drawn: int = 0


@dataclass(frozen=True)
class _Shown:
    """A picture on the page; without an address it is only named."""

    name: str
    section: str
    caption: str
    address: str | None
    width: int
    height: int


def page(
    results: Results,
    rows: pd.DataFrame,
    findings: Findings,
    drawings: Sequence[Drawing] = (),
    *,
    live: Live | None = None,
    origin: Origin | None = None,
) -> str:
    """The report as HTML.

    Args:
        results: The results.
        rows: Their `summary`.
        findings: What they say in words.
        drawings: Pictures, in the order of the page.
        live: Given for a page that looks for news.
        origin: What ran, for a box of its own.
    """
    content = {**_content(results, rows, findings), "origin": origin}
    bare = _render(content, [], live)
    return _render(content, fitted(drawings, LIMIT - len(bare.encode())), live)


def fitted(drawings: Sequence[Drawing], room: int) -> list[_Shown]:
    """Pictures for a page, the largest reduced, or only named, until all fit.

    Args:
        drawings: The pictures.
        room: Bytes that they may take.
    """
    shown = [_first(drawing) for drawing in drawings]
    ways: list[list[Callable[[Drawing], _Shown]]] = [[_named, _small, _bitmap] for _ in drawings]
    while sum(map(_bytes, shown)) > room and any(ways):
        largest = max((i for i, left in enumerate(ways) if left), key=lambda i: _bytes(shown[i]))
        shown[largest] = ways[largest].pop()(drawings[largest])
    return shown


def script() -> str:
    """The page's program: its parts in one scope of their own."""
    parts = "".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return f'"use strict";\n{{\n{parts}}}\n'


def _render(content: Mapping[str, object], pictures: list[_Shown], live: Live | None) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, program = (Path(__file__).parent / STYLE).read_text(encoding="utf-8"), script()
    return environment.get_template(TEMPLATE).render(
        **content,
        pictures=lambda section: [picture for picture in pictures if picture.section == section],
        style=Markup(style),
        script=Markup(program),
        policy=_policy(style, program, live),
        live=live,
    )


def _policy(style: str, program: str, live: Live | None) -> str:
    def named(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = ["default-src 'none'", "img-src data:", f"style-src {named(style)}", f"script-src {named(program)}"]
    rules += ["base-uri 'none'", "form-action 'none'", *(["connect-src 'self'"] if live else [])]
    return "; ".join(rules)


def _content(results: Results, rows: pd.DataFrame, findings: Findings) -> dict[str, object]:
    return {
        "name": results.name,
        "notice": results.notice,
        "adaptive": results.adaptive,
        "planned": len(results.trials) + results.open,
        "finished": len(results.trials),
        "unasked": sum(results.unasked.values()),
        "endings": {ending: int(rows[ending].sum()) for ending in ENDINGS},
        "findings": findings,
        "tasks": [_task(results, rows[rows["task"] == data["task"]], data) for data in explorer(results)],
    }


def _task(results: Results, rows: pd.DataFrame, data: Mapping[str, object]) -> dict[str, object]:
    name = str(data["task"])
    kept, planned = data["points"] if isinstance(data["points"], list) else (0, 0)
    return {
        "name": name,
        "facts": results.facts(name),
        "endings": [ending for ending in ENDINGS if ending in ENDINGS[:3] or rows[ending].sum()],
        "rows": [_row(row) for row in rows.to_dict("records")],
        "data": embedded(data),
        "axes": bool(data["axes"]),
        "left_out": planned - kept,
        "points": planned,
    }


def embedded(data: object) -> Markup:
    """JSON that can stand inside a script element, whatever texts it holds."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _row(row: dict[Hashable, object]) -> dict[str, object]:
    """A row of the summary as the page shows it."""
    shown: dict[str, object] = {name: row[name] for name in ("method", "planned", *ENDINGS)}
    for name in ("success", "log_auc", "failure_rate"):
        shown[name] = _estimate(row, name)
    worst, best = (float(str(row[name])) for name in ("success_worst", "success_best"))
    shown["bounds"] = f"{words.share(worst)} to {words.share(best)}" if best > worst else None
    shown["median"] = words.number(float(str(row["median"])))
    return shown


def _estimate(row: dict[Hashable, object], name: str) -> dict[str, str]:
    value, low, high = (float(str(row[f"{name}{end}"])) for end in ("", "_low", "_high"))
    method = str(row[f"{name}_method"])
    ends = words.interval(Estimate(value, low, high, 0, method)) if value == value else ""
    return {"value": words.share(value), "interval": ends, "method": method}


def _first(drawing: Drawing) -> _Shown:
    if len(drawing.svg) > LARGE and len(drawing.png) < len(drawing.svg):
        return _bitmap(drawing)
    return _with(drawing, "svg+xml", drawing.svg)


def _bitmap(drawing: Drawing) -> _Shown:
    return _with(drawing, "png", drawing.png)


@functools.lru_cache(maxsize=64)
def _small(drawing: Drawing) -> _Shown:
    from PIL import Image  # only a page with much on it needs it

    image = Image.open(io.BytesIO(drawing.png)).convert("RGB")
    reduced = image.resize((image.width // HALF, image.height // HALF), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    reduced.quantize(SHADES).save(buffer, "PNG", optimize=True)
    return _with(drawing, "png", buffer.getvalue())


def _named(drawing: Drawing) -> _Shown:
    return _Shown(drawing.name, drawing.section, drawing.caption, None, 0, 0)


def _with(drawing: Drawing, form: str, data: bytes) -> _Shown:
    width, height = (int.from_bytes(drawing.png[at : at + 4]) * INCH // drawing.dpi for at in (16, 20))
    address = f"data:image/{form};base64,{base64.b64encode(data).decode()}"
    return _Shown(drawing.name, drawing.section, drawing.caption, address, width, height)


def _bytes(shown: _Shown) -> int:
    return len(shown.address or "")
