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

_HOST = "127.0.0.1"
_EVERYWHERE = {"0.0.0.0": _HOST, "": _HOST, "::": "::1"}
"""An address that stands for all of a machine's -> the one by which it reaches itself."""
_SHORTEST_TOKEN = 8
_DEFAULT_PORT = 8501
_START_SECONDS = 60


def desk(
    store: Annotated[str, typer.Argument(help="The store's folder.")],
    run: Annotated[str, typer.Option(help="The run to look at; the newest if left out.")] = "",
    port: Annotated[
        int,
        typer.Option(help="Port; the next free one if taken.", show_default="8501"),
    ] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's needs a token.")
    ] = _HOST,
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
            help="File of the verdict journal; STORE/verdicts.sqlite if left out (for an object "
            "store a file of your state folder)."
        ),
    ] = "",
    exports: Annotated[
        str, typer.Option(help="Folder that exports go to; STORE/exports if left out.")
    ] = "",
    curator: Annotated[str, typer.Option(help="Name your verdicts carry; your login name.")] = "",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address, open no browser.")
    ] = False,
) -> None:
    """Open the curator's desk: look at suspicious pairs and give verdicts. Ctrl-C ends it."""
    _check_access(host, token)
    settings = _settings(store, run, journal, curator)
    if exports:
        settings["exports"] = str(Path(exports).resolve())
    if token:
        settings["token"] = hashlib.sha256(token.encode()).hexdigest()
    port = _free_port(port, host)
    # SIGTERM must end the server too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "app.desk.serve", str(port), host],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**_environment(), "OUTVOTED_DESK": json.dumps(settings)},
    )
    address = f"http://{reached_at(host)}:{port}"
    try:
        _wait_until_open(server, address)
        print(f"The desk is open at {address} (store {store}); {_reach(host)}", flush=True)
        if not no_browser:
            typer.launch(address)
        server.wait()
    except KeyboardInterrupt:
        print("The desk is closed; every verdict is in the journal.", flush=True)
    finally:
        _end(server)


def reached_at(host: str) -> str:
    """The host as it stands in an address that this machine's browser can open."""
    own = _EVERYWHERE.get(host, host)
    return f"[{own}]" if ":" in own else own


def _check_access(host: str, token: str) -> None:
    """InputError where the desk would be open to other machines without a token worth the name."""
    if host not in (_HOST, "localhost") and not token:
        raise InputError(
            f"--host {host} opens the desk to other machines, so it needs a token: add --token "
            "WORDS or set OUTVOTED_TOKEN; or leave --host out, and only this machine reaches it."
        )
    if token and len(token) < _SHORTEST_TOKEN:
        raise InputError(
            f"A token has at least {_SHORTEST_TOKEN} characters, and this one has {len(token)}; "
            'take one nobody guesses, such as what `python3 -c "import secrets; '
            'print(secrets.token_urlsafe())"` prints.'
        )


def _environment() -> dict[str, str]:
    """The server's environment: no folder of the current directory on its path, and no token."""
    kept = {name: value for name, value in os.environ.items() if name != "OUTVOTED_TOKEN"}
    return {**kept, "PYTHONSAFEPATH": "1"}


def _reach(host: str) -> str:
    """Who can open the desk."""
    if host in (_HOST, "localhost"):
        return "only this machine reaches it"
    return (
        "other machines reach it, and whoever knows the token is let in (the line is not encrypted)"
    )


def _settings(store: str, run: str, journal: str, curator: str) -> dict[str, str]:
    """What the desk must know, checked here so that a mistake is a sentence in the terminal."""
    import getpass

    from toolkit.store import open_store
    from toolkit.store.runs import run_about
    from toolkit.store.verdicts import Journal

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


def _free_port(wanted: int, host: str = _HOST) -> int:
    """The port asked for, or the first free one from the default on. InputError if it is taken."""
    if not 0 <= wanted <= 65535:
        raise InputError(f"A port lies between 1 and 65535, not {wanted}; leave --port out.")
    if wanted:
        if not _free(wanted, host):
            raise InputError(
                f"Port {wanted} is taken; name another with --port, or leave --port out and the "
                "next free one is used."
            )
        return wanted
    for port in range(_DEFAULT_PORT, _DEFAULT_PORT + 100):
        if _free(port, host):
            return port
    raise InputError(
        f"Ports {_DEFAULT_PORT} to {_DEFAULT_PORT + 99} are all taken; name a free one with --port."
    )


def _free(port: int, host: str = _HOST) -> bool:
    """Whether the port can be had. InputError where the host is no address of this machine."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as problem:
        raise InputError(
            f"--host {host} is no address ({problem.strerror}); name one of this machine, such as "
            "0.0.0.0 for all of them."
        ) from problem
    family, kind, protocol, _, place = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
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
                f"The desk's server ended at once (exit status {server.returncode}); what it said "
                "stands above. Try another --port."
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


def _end(server: "subprocess.Popen[bytes]") -> None:
    """End the server; by force if it does not go within five seconds."""
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
