"""`outvoted app` as a process: the address, the port, a hostile current directory, its end."""

import http.client
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from app.cli import desk
from tests.app.desk_stores import judgeable
from tests.browser.desk import free_port, serving
from tests.factories import StoreFactory
from tests.polling import wait_for
from toolkit.errors import InputError


def health(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{address}/_stcore/health", timeout=300) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.0.0.7", "10.0.0.7")],
)
def test_the_address_is_one_that_a_browser_opens(host: str, shown: str) -> None:
    from app.cli.desk import reached_at

    assert reached_at(host) == shown


def test_localhost_is_guarded_like_its_number() -> None:
    from app.desk.serve import options

    for host in ("127.0.0.1", "localhost"):
        given = options(8501, host)
        assert not any("enableCORS" in line or "Xsrf" in line for line in given)
        assert "--server.allowedHosts=localhost" in given


def test_it_opens_in_a_folder_whose_folders_are_named_like_ours(
    make_store: StoreFactory, tmp_path: Path
) -> None:
    """Folders named toolkit, app, training and analysis where one stands must not be imported."""
    store = judgeable(make_store)
    here = tmp_path / "project"
    for name in ("toolkit", "app", "training", "analysis", "streamlit"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    port = free_port()
    with serving(store.root, "--port", str(port), cwd=here) as server:
        expected = f"The desk is open at http://127.0.0.1:{port} (store {store.root}); "
        assert server.line == expected + "only this machine reaches it"
        assert health(server.address) == b"ok"
        assert server.interrupt() == 0
        assert "Traceback" not in server.errors()


def test_a_server_does_not_outlive_its_command(make_store: StoreFactory) -> None:
    with serving(make_store().root, "--port", str(port := free_port())) as server:
        server.process.kill()  # the command alone, not its server
        wait_for(lambda: desk._free(port), "the server's end")


def test_the_default_port_gives_way_to_the_next_free_one() -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 8501))
            taken.listen()
        except OSError:
            pass  # somebody else took it, which serves as well
        assert desk._free_port(0) > 8501


def test_a_port_that_was_asked_for_and_is_taken_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="is taken"):
            desk._free_port(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{missing}"], "There is no store at"),
        (["{store}", "--run", "nine"], "has no run 'nine'"),
        (["{store}", "--journal", "{store}/store.json/j.sqlite"], "--journal"),
        (["{store}", "--host", "0.0.0.0"], "needs a token"),
        (["{store}", "--host", "0.0.0.0", "--token", "short"], "at least 8 characters"),
        (["{store}", "--host", "no.such.name.invalid", "--token", "long enough"], "no address"),
    ],
)
def test_a_mistake_is_one_sentence(
    make_store: StoreFactory, tmp_path: Path, arguments: list[str], said: str
) -> None:
    names = {"store": make_store().root, "missing": tmp_path / "missing"}
    given = [argument.format(**names) for argument in arguments]
    outvoted = Path(sys.executable).with_name("outvoted")
    ended = subprocess.run(
        [str(outvoted), "app", *given, "--no-browser"], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_out_of_range_is_refused_with_its_range(make_store: StoreFactory) -> None:
    outvoted = Path(sys.executable).with_name("outvoted")
    ended = subprocess.run(
        [str(outvoted), "app", str(make_store().root), "--port", "99999", "--no-browser"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "'--port'" in ended.stderr
    assert "less than or equal to 65535" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_needs_no_streamlit() -> None:
    program = "import sys, app.cli.desk; sys.exit('streamlit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_no_file_of_the_machine_can_be_asked_for(make_store: StoreFactory) -> None:
    """Every path that leads out of the page's own files gives the page, or nothing."""
    store = judgeable(make_store)
    secret = store.folder("secret.txt")
    secret.write_text("nobody may read this")
    ways = [
        "/../../../../../..",
        "/static/../../..",
        "/media/..",
        "/app/static/..",
        "/component/..",
    ]
    ways += ["/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e", "/_stcore/..", "/static/%2e%2e%2f%2e%2e%2f"]
    with serving(store.root, "--port", str(free_port())) as server:
        host, port = server.address.removeprefix("http://").split(":")
        for way in ways:
            asked = http.client.HTTPConnection(host, int(port), timeout=300)
            asked.request("GET", f"{way}{secret}")  # as it is: no client tidies the path up
            assert b"nobody may read" not in asked.getresponse().read(), way
            asked.close()


def test_an_open_desk_says_who_reaches_it_and_keeps_the_token_to_itself(
    make_store: StoreFactory,
) -> None:
    options = ("--host", "0.0.0.0", "--token", "open sesame")
    with serving(make_store().root, "--port", str(free_port()), *options) as server:
        assert "whoever knows the token" in server.line
        assert health(server.address) == b"ok"
        found = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/environ") if mine(path)]
        servers = [text for text in found if b"OUTVOTED_DESK=" in text]
        assert servers
        assert not any(b"open sesame" in text for text in servers)


def mine(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False
