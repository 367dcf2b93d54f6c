"""What a benchmark leaves behind: a JSON file with its numbers, and one table of all of them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "ray", "numpy", "pandas", "pyarrow")


@dataclass(frozen=True)
class Line:
    """One measured number.

    Attributes:
        what: What was measured, in words.
        measured: The number.
        unit: Its unit; "x" for a ratio.
        required: What it has to reach, e.g. ">= 2"; empty where nothing is required.
    """

    what: str
    measured: float
    unit: str
    required: str = ""

    @property
    def text(self) -> str:
        """The number with its unit."""
        return f"{self.measured:,.0f} {self.unit}" if self.measured >= 100 else f"{self.measured:.3g} {self.unit}"

    @property
    def verdict(self) -> str:
        """What is required and whether it holds."""
        if not self.required:
            return ""
        sign, bound = self.required.split()
        holds = self.measured >= float(bound) if sign == ">=" else self.measured <= float(bound)
        return f"{self.required} {self.unit}: {'holds' if holds else 'MISSED'}"


@dataclass(frozen=True)
class Found:
    """What a benchmark found.

    Attributes:
        lines: The numbers that matter.
        remarks: What has to be said with them, one sentence each.
        details: Everything else that was measured.
    """

    lines: tuple[Line, ...]
    remarks: tuple[str, ...]
    details: dict[str, Any]

    def show(self) -> None:
        """Print the lines and remarks."""
        for line in self.lines:
            print(f"{line.what}: {line.text}" + (f"  (required {line.verdict})" if line.required else ""))
        for remark in self.remarks:
            print(f"- {remark}")


LOSS = 0.1
"""Part of a recorded ratio whose loss is worth a word."""


def losses(before: Sequence[Line], after: Sequence[Line]) -> list[str]:
    """Ratios with a requirement that are worse than recorded by more than LOSS, one sentence each."""
    recorded = {line.what: line.measured for line in before if line.unit == "x" and line.required}
    found = []
    for line in after:
        was = recorded.get(line.what)
        if was is None or not line.required:
            continue
        gain = line.measured / was if line.required.startswith(">=") else was / line.measured
        if gain < 1 - LOSS:
            found.append(f"{line.what}: {line.text}, recorded were {was:.3g} x")
    return found


def recorded(name: str) -> list[Line]:
    """The lines that results/NAME.json has; none where there is no such file."""
    file = RESULTS / f"{name}.json"
    return [Line(**line) for line in json.loads(file.read_text())["lines"]] if file.exists() else []


def write(name: str, found: Found, *, command: str, load: float) -> None:
    """Keep what was found in results/NAME.json, with the machine's load before it began, and rewrite the table."""
    origin = {"command": command, "commit": _commit(), "machine": _machine() | {"load_before": round(load, 2)}}
    content = {"benchmark": name} | origin | asdict(found)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    write_table()


def write_table() -> None:
    """Rewrite results/README.md from the JSON files beside it."""
    parts = ["# Measured\n\nWritten by `python -m benchmarks`; the numbers are in the JSON files beside this one.\n"]
    for file in sorted(RESULTS.glob("*.json")):
        content = json.loads(file.read_text())
        machine = content["machine"]
        parts.append(
            f"\n## {content['benchmark']}\n\n`{content['command']}`, commit {content['commit']}, "
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"Python {machine['python']}, torch {machine['versions']['torch']}; "
            f"load before: {machine.get('load_before', 'not recorded')}\n\n"
            "| what | measured | required |\n|---|---|---|\n"
        )
        lines = [Line(**line) for line in content["lines"]]
        parts += [f"| {line.what} | {line.text} | {line.verdict} |\n" for line in lines]
        parts += ["\n", *(f"- {remark}\n" for remark in content["remarks"])] if content["remarks"] else []
    (RESULTS / "README.md").write_text("".join(parts))


def _machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Of those packages that are installed: a machine with a GPU may lack Ray."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """What is checked out, "-dirty" if something else than what benchmarks write has been changed since."""
    written = (":!/benchmarks/results", ":!/docs/speed", ":!/docs/speed.md")
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *written)
        return _git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
