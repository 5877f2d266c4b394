"""A local S3 server for the tests: moto's, from an environment of its own (`make test-s3`).

And a line to it that can be cut.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """The address of a server that lives as long as the block."""
    program = Path(os.environ.get("MOTO_SERVER", ".venv-s3/bin/moto_server"))
    found = shutil.which(program)
    assert found, f"there is no {program}; `make test-s3` makes it"
    port = free_port()
    with log.open("wb") as out:
        server = subprocess.Popen(
            [found, "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=subprocess.STDOUT
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            if answers(address):
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/moto-api/", timeout=1):
            return True
    except OSError:
        return False


VERBS = (b"GET", b"PUT", b"HEAD", b"POST", b"DELETE")


class Line:
    """A line to a server on this machine that carries so many requests, and is dead then."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._gate = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._gate.getsockname()[1]}"
        self.whole()
        threading.Thread(target=self._serve, daemon=True).start()

    def whole(self) -> None:
        """Carry everything, and count from 0."""
        self.cut_after(10**9)

    def cut_after(self, requests: int) -> None:
        """Carry this many more requests; every connection ends with the next one."""
        self.carried, self._left = 0, requests

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._gate.accept()[0]
                if self._left <= 0:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                for ends in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket, asking: bool) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                if asking and data.split(b" ", 1)[0] in VERBS:
                    self.carried += 1
                    self._left -= 1
                if self._left < 0:
                    break
                there.sendall(data)
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
