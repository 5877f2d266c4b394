"""A local S3 server for the tests: moto's, from an environment of its own (`make test-s3`)."""

import os
import shutil
import socket
import subprocess
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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/moto-api/", timeout=1):
            return True
    except OSError:
        return False
