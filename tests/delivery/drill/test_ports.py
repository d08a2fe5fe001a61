"""A copy of the repository gets other ports: where another program holds the default ones, or all of them."""

import socket
import tomllib

from delivery.drill.ports import replace_ports, replace_taken_ports
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


def test_a_copy_that_runs_beside_the_project_has_no_port_of_it(tmp_path):
    """Nor one that is free now: the project may be started meanwhile."""
    free = [free_port() for _ in range(3)]
    text = "[deploy]\nstaging_port = {}\nproduction_port = {}\n[mlflow]\nport = {}\n".format(*free)
    (tmp_path / "pipeline.toml").write_text(text)
    replace_ports(tmp_path)
    found = tomllib.loads((tmp_path / "pipeline.toml").read_text())
    ports = {*found["deploy"].values(), found["mlflow"]["port"]}
    assert len(ports) == 3 and not ports & set(free)
