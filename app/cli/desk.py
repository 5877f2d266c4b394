"""`outvoted app`: open the curator's desk in the browser."""

import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import typer

from toolkit.errors import InputError, OutvotedError

_LOCAL = ("127.0.0.1", "localhost")
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
"""An address that means all of a machine's -> the one by which it reaches itself."""
_SHORTEST_TOKEN = 8
_PORTS = range(8501, 8601)
_START_SECONDS = 60


def desk(
    store: Annotated[str, typer.Argument(help="The store's folder or URL.")],
    run: Annotated[str, typer.Option(help="The run to look at; the newest by default.")] = "",
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port; the next free one if taken.", show_default="8501"
        ),
    ] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Other machines' access needs a token.")
    ] = _LOCAL[0],
    token: Annotated[
        str,
        typer.Option(
            "--token",
            "--password",
            envvar="OUTVOTED_TOKEN",
            help="What a curator must type to get in.",
            show_envvar=True,
        ),
    ] = "",
    journal: Annotated[
        str,
        typer.Option(
            help="File of the verdict journal; STORE/verdicts.sqlite by default (for an object "
            "store a file in your state folder)."
        ),
    ] = "",
    exports: Annotated[
        str, typer.Option(help="Folder of the desk's exports; STORE/exports by default.")
    ] = "",
    curator: Annotated[
        str, typer.Option(help="Name on your verdicts; your login name by default.")
    ] = "",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and open no browser.")
    ] = False,
) -> None:
    """Open the desk: review suspicious pairs and give verdicts.

    Ctrl-C closes it.
    """
    _check_access(host, token)
    settings = _settings(store, run, journal, curator)
    if exports:
        settings["exports"] = str(Path(exports).resolve())
    if token:
        settings["token"] = hashlib.sha256(token.encode()).hexdigest()
    _serve(settings, host, _free_port(port, host), browser=not no_browser)


def _serve(settings: dict[str, str], host: str, port: int, *, browser: bool) -> None:
    """Run the desk's server until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    address = f"http://{reached_at(host)}:{port}"
    # The server gets no folder of the current directory on its path, and no token.
    kept = {name: value for name, value in os.environ.items() if name != "OUTVOTED_TOKEN"}
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "app.desk.serve", str(port), host],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**kept, "PYTHONSAFEPATH": "1", "OUTVOTED_DESK": json.dumps(settings)},
    )
    others = (
        "other machines reach it, and whoever knows the token gets in (the line is not encrypted)"
    )
    reach = "only this machine reaches it" if host in _LOCAL else others
    try:
        _wait_until_open(server, address)
        print(f"The desk is open at {address} (store {settings['store']}); {reach}", flush=True)
        if browser:
            typer.launch(address)
        server.wait()
    except KeyboardInterrupt:
        print("The desk is closed; every verdict is in the journal.", flush=True)
    finally:
        server.terminate()
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def reached_at(host: str) -> str:
    """The host as part of an address that this machine's browser can open."""
    own = _ALL_ADDRESSES.get(host, host)
    return f"[{own}]" if ":" in own else own


def _check_access(host: str, token: str) -> None:
    """InputError if other machines would need no token, or a short one."""
    if host not in _LOCAL and not token:
        raise InputError(
            f"--host {host} opens the desk to other machines, so it needs a token: add --token "
            "WORDS or set OUTVOTED_TOKEN; or leave --host out, and only this machine reaches it."
        )
    if token and len(token) < _SHORTEST_TOKEN:
        raise InputError(
            f"A token has at least {_SHORTEST_TOKEN} characters, and this one has {len(token)}; "
            'choose one that cannot be guessed, such as the output of `python3 -c "import '
            'secrets; print(secrets.token_urlsafe())"`.'
        )


def _settings(store: str, run: str, journal: str, curator: str) -> dict[str, str]:
    """The desk's settings, checked here so that a mistake is a sentence in the terminal."""
    import getpass

    from toolkit.store import open_store
    from toolkit.store.journal import Journal
    from toolkit.store.runs import run_about

    missing = [name for name in ("streamlit", "plotly") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"The desk needs the package {missing[0]}, which is not installed; type "
            "`pip install 'outvoted[app]'`."
        )
    opened = open_store(store)
    if run:
        run_about(opened, run)
    path = Path(journal) if journal else opened.journal()
    Journal(path).close()
    try:
        curator = curator or getpass.getuser()
    except (KeyError, OSError):
        curator = "curator"
    root, path = opened.root.resolve(), path.resolve()
    return {"store": str(root), "run": run, "journal": str(path), "curator": curator}


def _free_port(wanted: int, host: str = _LOCAL[0]) -> int:
    """The wanted port, or for 0 the first free one from the default on. InputError if taken."""
    for port in (wanted,) if wanted else _PORTS:
        if _free(port, host):
            return port
    taken = f"Port {wanted} is" if wanted else f"Ports {_PORTS[0]} to {_PORTS[-1]} are all"
    raise InputError(
        f"{taken} taken; name a free one with --port, or leave --port out and the next is used."
    )


def _free(port: int, host: str = _LOCAL[0]) -> bool:
    """Whether the port is free. InputError if the host is no address of this machine."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as problem:
        raise InputError(
            f"--host {host} is no address ({problem.strerror}); name one of this machine, such as "
            "0.0.0.0 for all of them."
        ) from problem
    family, kind, protocol, _, address = addresses[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as problem:
            if problem.errno == errno.EADDRNOTAVAIL:
                raise InputError(
                    f"--host {host} is no address of this machine; name one that is, such as "
                    "0.0.0.0 for all of them."
                ) from problem
            return False
        return True


def _wait_until_open(server: "subprocess.Popen[bytes]", address: str) -> None:
    """Return once the server answers. OutvotedError if it ends first, or never answers."""
    opener = build_opener(ProxyHandler({}))  # a proxy from the environment cannot see 127.0.0.1
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            raise OutvotedError(
                f"The desk's server ended at once (exit status {server.returncode}); its own "
                "message is above. Try another --port."
            )
        try:
            with opener.open(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.1)
    raise OutvotedError(
        f"The desk's server did not answer at {address} within {_START_SECONDS} seconds; try "
        "again, or another --port."
    )
