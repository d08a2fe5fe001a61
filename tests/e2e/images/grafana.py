"""Responds to /api/health, like Grafana when it is ready, if the files that Grafana needs are in place."""

import http.server
import os
from pathlib import Path

HOME = os.environ["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
NEEDED = [HOME, *(f"/etc/grafana/provisioning/{kind}" for kind in ("datasources", "dashboards"))]


class Health(http.server.BaseHTTPRequestHandler):
    """The same response to every request."""

    def do_GET(self):
        well = all(os.access(path, os.R_OK) for path in NEEDED) and os.environ["GF_SECURITY_ADMIN_PASSWORD"]
        self.send_response(200 if self.path == "/api/health" and well else 503)
        self.end_headers()


if __name__ == "__main__":
    Path("/var/lib/grafana/grafana.db").touch()
    http.server.ThreadingHTTPServer(("", 3000), Health).serve_forever()
