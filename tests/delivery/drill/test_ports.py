"""A copy of the repository gets other ports where another program holds the default ones."""

import socket
import tomllib

from delivery.drill.ports import replace_taken_ports
from pipeline.processes import free_port


def test_only_a_taken_port_is_replaced(tmp_path):
    """The port that something listens on becomes a free one, and everything else in the file stays."""
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        (tmp_path / "pipeline.toml").write_text(
            f"[deploy]\nstaging_port = {free}  # yours\nproduction_port = {taken}\n"
        )
        replace_taken_ports(tmp_path)
    deploy = tomllib.loads((tmp_path / "pipeline.toml").read_text())["deploy"]
    assert deploy["staging_port"] == free
    assert deploy["production_port"] not in (taken, free)
    assert "# yours" in (tmp_path / "pipeline.toml").read_text()
