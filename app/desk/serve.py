"""Start the desk's server: `python -P -m app.desk.serve PORT [HOST]`, settings in OUTVOTED_DESK.

The command `outvoted app` starts this as a process of its own, so that the command itself needs
no Streamlit, and with -P, so that no folder of the current directory (toolkit, app ...) stands in
for an installed package. Closing standard input ends it: no server outlives its command.
"""

import os
import signal
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent
LOCAL = "127.0.0.1"


def options(port: int, host: str = LOCAL) -> list[str]:
    """Streamlit's options for the desk: local unless told, silent to the outside, own theme."""
    chosen = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.enableStaticServing": "false",
        "browser.gatherUsageStats": "false",
        # Else a bare string or value in main.py is written onto the page.
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
        # By what name others reach this machine is not known; they are kept out by the token,
        # which no cookie holds that a page elsewhere could borrow.
        return [*lines, "--server.enableCORS=false", "--server.enableXsrfProtection=false"]
    # A page elsewhere whose name is made to mean 127.0.0.1 must not reach the curator's images.
    names = [f"--server.allowedHosts={name}" for name in (LOCAL, "localhost")]
    return [*lines, f"--browser.serverAddress={LOCAL}", *names]


def _end_with_the_command() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve until a signal or the end of standard input."""
    from streamlit.web.cli import main as streamlit

    threading.Thread(target=_end_with_the_command, daemon=True).start()
    given = options(int(sys.argv[1]), *sys.argv[2:3])
    streamlit(["run", str(HERE / "main.py"), *given], prog_name="outvoted app")


if __name__ == "__main__":
    main()
