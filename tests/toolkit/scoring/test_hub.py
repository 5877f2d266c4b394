"""`--download` for real: the hub's own client against a server on this machine that speaks as the
hub does. Only the network and the size of the files differ from a user's."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

Repositories = Mapping[str, Mapping[str, bytes]]

PUBLISHED: Repositories = {
    "THUDM/ImageReward": {"ImageReward.pt": b"weights" * 999, "README.md": b"words"},
    "google-bert/bert-base-uncased": {
        "vocab.txt": b"[PAD]\n[UNK]\n",
        "tokenizer_config.json": b"{}",
        "pytorch_model.bin": b"not asked for",
    },
    "xswu/HPSv2": {"README.md": b"no checkpoint here"},
}


class Hub(BaseHTTPRequestHandler):
    """The three calls of the hub's protocol that listing and fetching make."""

    protocol_version = "HTTP/1.1"

    def __init__(self, repositories: Repositories, served: list[str], *rest: object) -> None:
        self.repositories, self.served = repositories, served
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        for name, files in self.repositories.items():
            if path.startswith(f"api/models/{name}"):
                entries = [
                    {"type": "file", "path": file, "size": len(data), "oid": _oid(data)}
                    for file, data in files.items()
                ]
                siblings = [{"rfilename": file} for file in files]
                whole = {"id": name, "sha": "c0ffee", "siblings": siblings}
                listing = entries if "/tree/" in path else whole
                self._send(json.dumps(listing).encode(), body=body)
                return
            file = path.removeprefix(f"{name}/resolve/").partition("/")[2]
            if path.startswith(f"{name}/resolve/") and file in files:
                if body:
                    self.served.append(f"{name}/{file}")
                self._send(files[file], body=body)
                return
        self._send(b"{}", body=body, status=404)

    def _send(self, data: bytes, *, body: bool, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{_oid(data)}"')
        self.send_header("X-Repo-Commit", "c0ffee" + "0" * 34)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """Address of a hub with PUBLISHED, and what it served."""
    served: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, PUBLISHED, served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", served
    server.shutdown()
    server.server_close()


def outvoted(address: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as a user types it; the client reads its address once a process."""
    changed = {
        "HF_ENDPOINT": address,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home / "hf"),
        "OUTVOTED_SCORERS": str(home / "scorers"),
    }
    command = [sys.executable, "-c", "from app.cli.main import main; main()", *words]
    return subprocess.run(command, env={**os.environ, **changed}, capture_output=True, text=True)


def test_what_a_user_agreed_to_is_fetched_once_and_known(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, served = hub
    asked = ("scorers", "weights", "image_reward")
    told = outvoted(address, tmp_path, *asked)
    assert "outvoted scorers weights image_reward --download" in " ".join(told.stdout.split())
    assert served == [], "nothing is fetched before it was agreed to"
    done = outvoted(address, tmp_path, *asked, "--download")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "scorers" / "weights"
    model = folder / "THUDM--ImageReward" / "ImageReward.pt"
    tokenizer = folder / "google-bert--bert-base-uncased"
    assert model.read_bytes() == PUBLISHED["THUDM/ImageReward"]["ImageReward.pt"]
    assert {path.name for path in tokenizer.glob("*.*")} >= {"vocab.txt", "tokenizer_config.json"}
    assert sorted(served) == [
        "THUDM/ImageReward/ImageReward.pt",
        "google-bert/bert-base-uncased/tokenizer_config.json",
        "google-bert/bert-base-uncased/vocab.txt",
    ]
    for line in (f"model: {model}", f"tokenizer: {tokenizer}"):
        assert line in "".join(done.stdout.splitlines()) or line in done.stdout
    again = outvoted(address, tmp_path, *asked, "--download")
    assert again.returncode == 0
    assert len(served) == 3, "what is there is not fetched again"


def test_a_hub_without_the_file_or_without_the_repository_is_a_sentence(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, served = hub
    for scorer, says in (
        ("hps", "xswu/HPSv2 has none of HPS_v2.1_compressed.pt; fetch the model by hand"),
        ("pickscore", "could not be fetched from yuvalkirstain/PickScore_v1"),
    ):
        failed = outvoted(address, tmp_path, "scorers", "weights", scorer, "--download")
        assert failed.returncode == 1
        assert says in " ".join(failed.stderr.split())
        assert "Traceback" not in failed.stderr
    assert served == []
