"""`outvoted score` and `outvoted scorers` from the command line, without any network."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from app.cli.score import shard_from
from tests.toolkit.scoring.models import head_weights, pickscore_weights
from toolkit.errors import InputError
from toolkit.miniworld.dataset import ingest_world
from toolkit.scoring import SCORERS
from toolkit.scoring.checkpoints import matched
from toolkit.store import Store, create_store
from toolkit.store.scores import read_scores

RUN = CliRunner().invoke

OFFLINE = """
import sys
opened = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        opened.append(event)
sys.addaudithook(watch)
from app.cli.main import registered
registered()(sys.argv[1:], standalone_mode=False)
print("sockets", opened)
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("OUTVOTED_SCORERS", str(tmp_path / "home"))
    store = create_store(tmp_path / "s")
    ingest_world(store, tmp_path / "truth.parquet", pairs=12)
    return store


def test_scoring_fills_tells_and_goes_on(world: Store) -> None:
    command = ["score", str(world.root), "--scorer", "world_reward", "--scorer", "world_warmth"]
    first = RUN(registered(), [*command, "--shard", "0/2"])
    second = RUN(registered(), [*command, "--shard", "1/2", "--batch", "5"])
    assert first.exit_code == second.exit_code == 0, (first.exception, second.exception)
    assert "24 scored" not in first.output
    again = RUN(registered(), command)
    assert "world_reward: all there." in again.output
    assert read_scores(world, "world_reward").num_rows == 24
    assert read_scores(world, "world_warmth").num_rows == 24
    checked = RUN(registered(), ["check", str(world.root)])
    assert checked.exit_code == 0, checked.output


def test_the_exact_reward_is_right_more_often_than_warmth_alone(world: Store) -> None:
    names = ["world_reward", "world_glance", "world_alignment", "world_warmth"]
    chosen = [word for name in names for word in ("--scorer", name)]
    RUN(registered(), ["score", str(world.root), *chosen])
    told = RUN(registered(), ["labels", "vote", str(world.root), *chosen]).output
    shares = {
        line.partition(":")[0]: float(line.partition(" on ")[2].partition("%")[0])
        for line in told.splitlines()
        if "agrees with" in line
    }
    assert list(shares) == names
    assert shares["world_reward"] > shares["world_warmth"]
    assert "Label set vote" in told


def test_nothing_opens_a_socket(world: Store) -> None:
    command = ["score", str(world.root), "--scorer", "world_reward"]
    for words in (command, ["scorers"]):
        done = subprocess.run(
            [sys.executable, "-c", OFFLINE, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "sockets []" in done.stdout


def test_weights_are_noted_by_name_and_asked_for_by_command(world: Store, tmp_path: Path) -> None:
    listed = RUN(registered(), ["scorers"]).output
    assert "world_reward     ready" in listed
    assert "`outvoted scorers install hps`" in listed
    assert "outvoted scorers weights pickscore model=PATH" in listed
    head = head_weights(tmp_path)
    told = RUN(registered(), ["scorers", "weights", "aesthetic", str(head)]).output
    assert f"head: {head}" in told
    assert "no clip" in told
    refused = RUN(registered(), ["score", str(world.root), "--scorer", "aesthetic"])
    assert "aesthetic has no clip yet" in str(refused.exception)
    noted = RUN(registered(), ["scorers", "weights", "pickscore", str(pickscore_weights(tmp_path))])
    assert "not ready" not in noted.output
    wrong = RUN(registered(), ["score", str(world.root), "--scorer", "pickscore"])
    assert "does not hold the weights of PickScore" in str(wrong.exception)
    assert "have another shape" in str(wrong.exception)
    (tmp_path / "model.safetensors").unlink()
    lost = RUN(registered(), ["score", str(world.root), "--scorer", "pickscore"])
    assert "is not at" in str(lost.exception)


def test_what_fits_no_role_is_a_sentence(world: Store, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.bin"
    stranger.write_bytes(b"x")
    for words, says in (
        (["scorers", "weights", "aesthetic", str(stranger)], "name them as ROLE=PATH"),
        (["scorers", "weights", "aesthetic", str(tmp_path / "gone")], "There is nothing at"),
        (["scorers", "weights", "taste"], "There is no scorer 'taste'; choose image_reward"),
        (["scorers", "install", "clip"], "There is no environment 'clip'; choose hps"),
        (["score", str(world.root), "--scorer", "taste"], "There is no scorer 'taste'"),
        (
            ["score", str(world.root), "--scorer", "world_reward", "--shard", "2/2"],
            "--shard is '2/2'; write i/n with i from 0 to n - 1: 0/4",
        ),
    ):
        result = RUN(registered(), words)
        assert isinstance(result.exception, InputError), words
        assert says in str(result.exception)


def test_a_download_that_cannot_be_had_is_a_sentence(
    world: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.root.exists()
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    result = RUN(registered(), ["scorers", "weights", "pickscore", "--download"])
    assert isinstance(result.exception, InputError)
    assert "could not be fetched from yuvalkirstain/PickScore_v1" in str(result.exception)


def test_accelerates_processes_know_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shard_from("3/4") == (3, 4)
    assert shard_from("") == (0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert shard_from("") == (1, 2)


def test_a_scorers_own_weights_can_be_told_for_once(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    clip = folder / "ViT-L-14.pt"
    clip.write_bytes(b"x")
    head = head_weights(folder)
    assert matched(SCORERS["aesthetic"], [str(folder)]) == {"clip": clip, "head": head}
    assert matched(SCORERS["clip"], [f"clip={head}"]) == {"clip": head}
