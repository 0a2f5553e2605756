"""Models go to the hub and come back from it: a stand-in on this machine, which speaks what huggingface_hub asks."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from stedm.errors import UserError
from stedm.files import written_whole
from stedm.hub import push
from stedm.models import HUB, model_folder

COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """One repository, whose files the server has in `files`."""

    def answer(self, body=b"", status=200, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        self.server.asked.append((path, self.headers.get("Authorization")))
        if path == "/api/repos/create":
            self.server.created = json.loads(body)
            self.answer({"url": f"{self.server.url}/owner/name"})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path == "/api/models/owner/name/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif path == "/api/models/owner/name/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.url}/owner/name/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.answer(status=404)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/owner/name/tree/"):
            files = self.server.files.items()
            self.answer([{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files])
        elif path.startswith("/api/models/owner/name"):
            names = [{"rfilename": name} for name in self.server.files]
            self.answer({"id": "owner/name", "modelId": "owner/name", "sha": COMMIT, "siblings": names})
        elif found := re.fullmatch("/owner/name/resolve/[^/]+/(.*)", path):
            data = self.server.files[found[1]]
            self.answer(data, ETag=f'"{hashlib.sha256(data).hexdigest()}"')
        else:
            self.answer(status=404)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.asked, server.created = {}, [], None
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chosen = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "cache"), "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
    for name, value in {**chosen, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}.items():
        monkeypatch.setenv(name, value)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path):
    """As a command writes one."""
    with written_whole(tmp_path / "model") as folder:
        folder.mkdir()
        (folder / "README.md").write_text("# A network\n")
        (folder / "provenance.json").write_text('{"inputs": {"Anna Müller": 1}}')
        (folder / "model.safetensors").write_bytes(bytes(range(256)))
        (folder / "config.json").write_text("{}")
    return tmp_path / "model"


def python(code):
    """In a process of its own, as huggingface_hub reads the environment once."""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_a_model_is_published_and_loaded_by_its_name(hub, model, tmp_path):
    call = ["push", str(model), "hf:owner/name", "--licence", "cc-by-4.0"]
    printed = python(f"from stedm.cli import main; raise SystemExit(main({call!r}))")
    assert printed == f"{hub.url}/owner/name/commit/{COMMIT}"
    assert hub.created["visibility"] == "private" and hub.created["name"] == "name"
    assert all(token == "Bearer hf_x" for _, token in hub.asked)
    assert set(hub.files) == {"README.md", "SHA256SUMS", "model.safetensors", "config.json"}
    assert "Anna" not in str(hub.files.values())
    assert hub.files["README.md"].startswith(b"---\nlicense: cc-by-4.0\n---\n")

    hub.files |= {".gitattributes": b"x", "evil.bin": b"x", "train.py": b"x"}  # what is not ours stays there
    path = "import pathlib, stedm.models; print(stedm.models.model_folder(pathlib.Path('hf:owner/name')))"
    folder = tmp_path / python(path)
    names = {file.name for file in folder.iterdir()}
    assert names == {"README.md", "SHA256SUMS", "model.safetensors", "config.json"}
    assert (folder / "model.safetensors").read_bytes() == bytes(range(256))

    blob = (folder / "model.safetensors").resolve()
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"model.safetensors: is not what .*SHA256SUMS says"):
        model_folder(folder)


def test_what_should_not_be_published_is_not(model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *args, **more: pytest.fail("asked the hub"))
    for name in ("owner/name", "hf:name", "hf:owner/name@main", "hf:../../x", "https://x/owner/name"):
        with pytest.raises(UserError, match="give hf:owner/name"):
            push(model, name, licence="mit", public=False)
    with pytest.raises(UserError, match="states no licence"):
        push(model, "hf:owner/name", licence=None, public=False)
    (model / "patients.csv").touch()
    with pytest.raises(UserError, match="is not as a stedm command wrote it"):
        push(model, "hf:owner/name", licence="mit", public=False)
    (model / "patients.csv").unlink()
    (model / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json: is not what .*SHA256SUMS says"):
        push(model, "hf:owner/name", licence="mit", public=False)


def test_what_the_hub_refuses_is_one_line(model, monkeypatch):
    def refuse(*args, **more):
        raise OSError("401\nUnauthorized")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"^hf:owner/name: the hub refuses it \(OSError: 401 Unauthorized\).*hf auth"):
        push(model, "hf:owner/name", licence="mit", public=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError, match=r"^hf:owner/name: cannot be downloaded \(OSError: 401 Unauthorized\)"):
        model_folder(Path("hf:owner/name"))


def test_names_on_the_hub():
    assert HUB.fullmatch("hf:owner/name@v1.0")["revision"] == "v1.0"
    assert not any(map(HUB.fullmatch, ("hf:owner", "hf:a/b/c", "hf:-a/b", "hf:a/../b", "owner/name", "hf:/a/b")))
