"""Load a prediction service, and measure how many requests it answers and how long they take:

make load
make load ENVIRONMENT=staging ARGS="--connections 64 --seconds 30"
SLIPWAY_KEY=… python -m scripts.load_test --url https://models.example.com/cancer --rate 500

By default each connection asks again as soon as it has its answer. With --rate requests are due at fixed instants, and
latency counts from there, so that a service that stalls is charged for all who had to wait. Nothing goes through a proxy.
Exit status 1 when anything but predictions came back, or than what --expect names; 130 after Ctrl-C.
"""

import sys

from delivery.load import measurement
from delivery.load.generator import Client, Load, read_address
from pipeline.artifacts import BUILD, to_json
from pipeline.errors import SlipwayError, edge


@edge
def main(argv: list[str] | None = None) -> int:
    """Load, show, and return the exit status; raises SlipwayError when there is nothing to load, or not all were predictions."""
    options = measurement._arguments(argv)
    with measurement._address(options) as (url, bundle, key), measurement._loop() as run:
        client = Client(read_address(url), measurement._key(options.key) or key, options.timeout)
        model = measurement._model(run(measurement._ask(client, "GET", "/model/info")), [bundle, BUILD / "bundle"])
        requests = measurement._requests(client, model.rows, options.rows)
        measurement._try(client, run(measurement._ask(client, *requests[0])))
        raw = [client.address.request(*request, client.key) for request in requests]
        load = Load(client, raw, options.connections, options.seconds, options.rate)
        if not options.json:
            print(f"loading {client.address.url} for {options.seconds:g} s", file=sys.stderr, flush=True)
        with measurement._progress(options.seconds) as watch:
            measured = run(measurement._interruptible(load, watch))
    summary = measurement._summary(client.address.url, model, options, measured)
    undrawn = measurement._draw(measured, summary, options.picture) if summary["latency_ms"] else ""
    print(to_json(summary), end="") if options.json else measurement._show(summary)
    if undrawn:  # told last: what was measured is not lost for it
        raise SlipwayError(f"the picture cannot be written to {options.picture}: {undrawn}", "name another --picture")
    return measurement._judge(summary)


if __name__ == "__main__":
    sys.exit(main())
