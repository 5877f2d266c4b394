"""Start the desk's server: `python -P -m app.desk.serve PORT [HOST]`, settings in OUTVOTED_DESK.

The command `outvoted app` starts this as a separate process, so that the command itself needs no
Streamlit, and with -P, so that no folder of the current directory (toolkit, app ...) shadows an
installed package. The server ends when its standard input closes, so it never outlives its command.
"""

import os
import signal
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent
LOCAL = "127.0.0.1"


def options(port: int, host: str = LOCAL) -> list[str]:
    """Streamlit's options for the desk: local by default, no calls to the outside, own theme."""
    chosen = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.enableStaticServing": "false",
        "browser.gatherUsageStats": "false",
        # Otherwise a bare string or value in streamlit_app.py is written onto the page.
        "runner.magicEnabled": "false",
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "logger.level": "warning",
        "logger.hideWelcomeMessage": "true",
        "theme.base": str(HERE / "theme.toml"),
    }
    lines = [f"--{name}={value}" for name, value in chosen.items()]
    if host not in (LOCAL, "localhost"):
        # The names by which others reach this machine are not known. The token protects the desk:
        # it is in no cookie, so a page elsewhere cannot use it.
        return [*lines, "--server.enableCORS=false", "--server.enableXsrfProtection=false"]
    # A page elsewhere whose name resolves to 127.0.0.1 must not reach the curator's images.
    names = [f"--server.allowedHosts={name}" for name in (LOCAL, "localhost")]
    return [*lines, f"--browser.serverAddress={LOCAL}", *names]


def _end_with_command() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve until a signal or the end of standard input."""
    from streamlit.web.cli import main as streamlit

    threading.Thread(target=_end_with_command, daemon=True).start()
    flags = options(int(sys.argv[1]), *sys.argv[2:3])
    streamlit(["run", str(HERE / "streamlit_app.py"), *flags], prog_name="outvoted app")


if __name__ == "__main__":
    main()
