"""Ports for a copy of the repository that runs beside whatever else the machine runs."""

import re
from pathlib import Path

from pipeline.artifacts import write_text
from pipeline.processes import free_port, port_taken

PORT = re.compile(r"^(staging_port|production_port|port) = (\d+)", re.M)


def replace_taken_ports(root: Path) -> None:
    """Give each port in the copy's pipeline.toml that another program holds a free one instead."""

    def choose(setting: re.Match) -> str:
        return f"{setting[1]} = {free_port()}" if port_taken(int(setting[2])) else setting[0]

    settings = root / "pipeline.toml"
    write_text(settings, PORT.sub(choose, settings.read_text(encoding="utf-8")))
