"""Ports for a copy of the repository that runs beside whatever else the machine runs."""

import re
from collections.abc import Callable
from pathlib import Path

from pipeline.artifacts import write_text
from pipeline.processes import free_port, port_taken

PORT = re.compile(r"^(staging_port|production_port|port) = (\d+)", re.M)


def replace_taken_ports(root: Path) -> None:
    """Give each port in the copy's pipeline.toml that another program holds a free one instead."""
    _replace(root, port_taken)


def replace_ports(root: Path) -> None:
    """Give each port in the copy's pipeline.toml a free one instead: the project may start on its own while the copy runs."""
    _replace(root, lambda _: True)


def _replace(root: Path, chosen: Callable[[int], bool]) -> None:
    def choose(setting: re.Match) -> str:
        return f"{setting[1]} = {free_port()}" if chosen(int(setting[2])) else setting[0]

    settings = root / "pipeline.toml"
    write_text(settings, PORT.sub(choose, settings.read_text(encoding="utf-8")))
