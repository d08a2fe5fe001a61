"""Runs a verb in a process forked from server.py, as if this were Python; whatever is no verb, Python runs itself.

Its standard files, folder, environment, signals and end are the verb's. A session of tests writes PYTHON and SOCKET into its copy.
"""

import json
import os
import signal
import socket
import sys

PYTHON, SOCKET = "", ""
VERBS = ("train.py", "evaluate.py", "register_model.py", "-c")
RELEASE = "tests.delivery.kubernetes.target_world"  # a release into the cluster double, which a test kills
POD = "/cluster/cluster_service.py"  # the process of a pod of the cluster double
THEIRS = {"PYTHONPATH", "PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONUTF8"}


def is_verb(command):
    """Whether the server may run it: what is known by its own command line is started by a verb (server.py) or by Python."""
    if command[:1] == ["-m"]:
        return command[1] in ("pytest", RELEASE) or command[1].startswith("scripts.")
    return command[:1] and (command[0] in VERBS or command[0].endswith(POD))


def ask(command):
    """Have the command run; returns its process's status as os.waitpid has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
        server.connect(SOCKET)
        os.umask(umask := os.umask(0))
        request = {"command": command, "environment": dict(os.environ), "umask": umask, "stays": False}
        # Importing pathlib would take as long as all else here.
        request |= {"folder": os.getcwd(), "client": os.path.abspath(__file__)}  # noqa: PTH100, PTH109
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        pid = int(server.recv(32))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        if not command[0].endswith(POD):
            return int(server.recv(32))
        parent = os.getppid()
        server.settimeout(0.5)
        while os.getppid() == parent:
            try:
                return int(server.recv(32))
            except TimeoutError:
                continue
        return signal.SIGKILL  # a pod ends with its cluster, even with one that was killed


def main():
    """End as the command ends."""
    command = sys.argv[1:]
    if not is_verb(command) or THEIRS & os.environ.keys():
        os.execv(PYTHON, [PYTHON, *command])
    status = ask(command)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:  # which has no handler that could be taken away
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main()
