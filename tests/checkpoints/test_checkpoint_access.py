"""What the hub would refuse is told before any job starts; a hub that answers as the real one."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
ANSWERS = {  # path -> status, the hub's error code, body
    "/api/models/open/model/auth-check": (200, None, {}),
    f"/api/models/open/model/revision/{REVISION}": (200, None, {"id": "open/model"}),
    "/api/datasets/open/text/auth-check": (200, None, {}),
    f"/api/datasets/open/text/revision/{REVISION}": (200, None, {"id": "open/text"}),
    "/api/models/gated/model/auth-check": (403, "GatedRepo", {}),
    "/api/models/moved/model/auth-check": (200, None, {}),
    f"/api/models/moved/model/revision/{REVISION}": (404, "RevisionNotFound", {}),
}


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802 - the library's name
        status, code, body = ANSWERS.get(self.path.split("?")[0], (404, "RepoNotFound", {}))
        text = json.dumps(body).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask(endpoint: str, *repositories: tuple[str, str], **setting: str) -> str:
    """What check_access says; in a process of its own, since the client reads its settings once."""
    asked = [(kind, name, REVISION) for kind, name in repositories]
    code = (
        "from p2law.checkpoints.access import check_access; from p2law.commands import script;"
        f"raise SystemExit(script.run(lambda: check_access({asked!r})))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment = kept | {"HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT / "workflow/scripts")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | setting, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert bool(done.returncode) == ("error:" in done.stderr)
    return done.stderr


def test_what_can_be_had_passes(hub):
    assert "error" not in ask(hub, ("model", "open/model"), ("dataset", "open/text"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gated/model", "accept its terms on the hub, then set HF_TOKEN"),
        ("moved/model", "no such revision"),
        ("no/model", "no such repository"),
    ],
)
def test_what_the_hub_refuses_is_named_with_what_to_do(hub, name, words):
    told = ask(hub, ("model", "open/model"), ("model", name))
    assert f"model {name}@0123456789ab" in told and words in told


def test_a_hub_that_cannot_be_reached(hub):
    told = ask("http://127.0.0.1:9", ("model", "open/model"))
    assert "cannot be reached" in told and "HTTPS_PROXY" in told and "source: folder" in told
    told = ask(hub, ("model", "open/model"), HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in told
