"""Start a cluster by hand:

python tests/delivery/kubernetes/cluster --folder /tmp/cluster      then: kubectl --kubeconfig /tmp/cluster/kubeconfig --context staging get pods -A

A double of the Kubernetes API server for tests, in a separate process: HTTPS with bearer tokens, driven by the real
kubectl, with pods that are real processes. We wrote it on starlette and uvicorn, because the existing libraries only
store objects: no TLS, no server-side apply, no field ownership, no subresources, no controllers.
FOLDER/catalogue/ maps images to bundles, and FOLDER/requests.jsonl logs the requests.
"""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path

from cluster_access import USERS
from cluster_api import Api
from cluster_controllers import control, first_objects
from cluster_pods import Node
from cluster_store import Store
from cluster_tls import certificate, kubeconfig


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM, Ctrl-C, or the end of standard input (with --until-end-of-input)."""
    parser = argparse.ArgumentParser(prog="cluster", description="Start a double of a Kubernetes cluster.")
    parser.add_argument("--folder", type=Path, required=True, help="where kubeconfig, catalogue and logs go")
    parser.add_argument("--speed", type=float, default=10, help="how much faster time passes in pods (default: 10)")
    parser.add_argument(
        "--until-end-of-input", action="store_true", help="end, and remove the folder, when standard input closes"
    )
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(_serve(args.folder.resolve(), args.speed, args.until_end_of_input))
    if args.until_end_of_input:
        shutil.rmtree(args.folder, ignore_errors=True)  # the process that started this one may have been killed
    return 0


async def _serve(folder: Path, speed: float, until_end: bool) -> None:
    import uvicorn

    store = Store()
    first_objects(store)
    node = Node(store, folder, speed)
    authority, certificate_file = certificate(folder)
    config = uvicorn.Config(
        Api(store, node, folder / "requests.jsonl"),
        port=0,
        ssl_certfile=certificate_file,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=600,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    file = kubeconfig(folder, f"https://127.0.0.1:{port}", authority, USERS)
    print(file, flush=True)
    controlling = asyncio.create_task(control(store, node))
    controlling.add_done_callback(lambda _: setattr(server, "should_exit", True))
    if until_end:
        asyncio.get_running_loop().add_reader(sys.stdin, lambda: setattr(server, "should_exit", True))
    while not server.should_exit:
        await asyncio.sleep(0.05)
    store.end_watches()
    await serving
    await node.stop()
    if controlling.done() and not controlling.cancelled():
        controlling.result()
    controlling.cancel()


if __name__ == "__main__":
    sys.exit(main())
