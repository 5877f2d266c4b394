"""A scorer in an environment of its own: made, asked, killed, orphaned. Nothing is simulated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from tests.factories import StoreFactory, WatchedProgress
from tests.toolkit.scoring.models import (
    TINY,
    clip_weights,
    config_file,
    drawn,
    hps_weights,
    tiny_hps,
    words,
)
from tests.toolkit.scoring.packages import call
from toolkit.errors import InputError, ScoringError
from toolkit.scoring import SCORERS, Batch, Judge, load
from toolkit.scoring.environments import Environment, environment, install
from toolkit.scoring.run import fill
from toolkit.store.scores import read_scores

pytestmark = pytest.mark.long  # the first of them may fetch 6 GB of packages

MadeHps = tuple[Path, Environment]


@pytest.fixture(autouse=True)
def home(made_hps: MadeHps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTVOTED_SCORERS", str(made_hps[0]))


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    scorer = tiny_hps(tmp_path)
    made = load(scorer, weights=[f"model={hps_weights(tmp_path)}"], device="cpu")
    yield made
    made.close()


def line_of(judge: Judge) -> object:
    return judge.close.__self__  # type: ignore[attr-defined]


def worker_pid(judge: Judge) -> int:
    return int(line_of(judge).worker.process.pid)  # type: ignore[attr-defined]


def gone(pid: int, seconds: float = 300.0) -> bool:
    """Whether a process ends in time; one that waits to be reaped has ended."""
    for _ in range(int(seconds / 0.1)):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def by_hand(weights: Path) -> list[float]:
    """hpsv2's formula on the tiny model through this environment's own open_clip."""
    import open_clip

    model = open_clip.create_model(TINY, load_weights=False)
    model.load_state_dict(torch.load(weights)["state_dict"])
    tokenizer, found = open_clip.get_tokenizer(TINY), []
    from torchvision.transforms.functional import normalize, pad, resize, to_tensor

    with torch.no_grad():
        for picture, prompt in zip(drawn(7), words(7), strict=True):
            width, height = picture.size
            size = [round(side * 32 / max(width, height)) for side in (height, width)]
            small = resize(to_tensor(picture), size, interpolation=3)
            down, right = 32 - size[0], 32 - size[1]
            square = pad(small, [right // 2, down // 2, right - right // 2, down - down // 2])
            pixels = normalize(square, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
            image = model.eval().encode_image(pixels[None], normalize=True)
            text = model.encode_text(tokenizer([prompt]), normalize=True)
            found.append(float(image[0] @ text[0]))
    return found


def test_the_worker_answers_in_any_batch_and_dies_with_its_input(
    judge: Judge, tmp_path: Path
) -> None:
    expected = by_hand(tmp_path / "HPS_v2.1_compressed.pt")
    assert max(expected) - min(expected) > 1e-2
    ready, prompts = [judge.prepare(p) for p in drawn(7)], words(7)
    for order, size in ((list(range(7)), 7), ([6, 2, 0, 5, 1, 4, 3], 2)):
        batches = [
            Batch(
                tuple(prompts[k] for k in order[at : at + size]),
                tuple(ready[k] for k in order[at : at + size]),
            )
            for at in range(0, 7, size)
        ]
        found = [score for answer in judge.stream(batches) for score in answer.scores]
        assert [found[order.index(k)] for k in range(7)] == pytest.approx(expected, abs=1e-4)
    pid = worker_pid(judge)
    judge.close()
    assert gone(pid)
    assert judge.identity.version == "hpsv2 1.2.0, HPS v2.1"


def test_a_long_prompt_is_cut_and_a_flat_wide_picture_is_judged(judge: Judge) -> None:
    """Also one whose longer side fits exactly, on which the package's own call fails."""
    wide = Image.new("RGB", (32, 16), (255, 0, 0))
    (found,) = judge.stream([Batch(("fox " * 75, "fox " * 76), (wide, wide))])
    assert found.truncated == (False, True)
    assert found.scores[0] == pytest.approx(found.scores[1], abs=1e-4)


def test_pads_to_a_square_where_others_crop(tmp_path: Path) -> None:
    """Golden values of hpsv2's own preprocessing, asked of the package itself."""
    wide = Image.new("RGB", (448, 224), (255, 0, 0))
    ImageDraw.Draw(wide).rectangle((112, 0, 335, 223), fill=(0, 255, 0))
    wide.save(tmp_path / "wide.png")
    places = [(0, 112), (112, 112), (112, 10)]
    told = call("hps", "hps_pixels", {"image": str(tmp_path / "wide.png"), "at": places})
    assert told["shape"] == [3, 224, 224]
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    for found, colour in zip(told["at"], ((0, 0, 0), (0, 1, 0), (1, 0, 0)), strict=True):
        golden = [(c - m) / d for c, m, d in zip(colour, mean, deviation, strict=True)]
        assert found == pytest.approx(golden, abs=1e-4)


def test_a_killed_worker_is_started_once_more_and_then_a_sentence(
    tmp_path: Path, make_store: StoreFactory
) -> None:
    store, scorer = make_store(pairs=12), tiny_hps(tmp_path)
    judge = load(scorer, weights=[f"model={hps_weights(tmp_path)}"], device="cpu")
    pids: list[int] = []

    class Kill(WatchedProgress):
        def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
            super().update(task, done, total, note)
            assert total == 24
            if done in (8, 16):
                pids.append(worker_pid(judge))
                os.kill(pids[-1], signal.SIGKILL)

    sentence = r"ended by signal 9 .*again after one restart\. Scores so far are saved"
    with pytest.raises(ScoringError, match=sentence):
        fill(store, scorer, judge, batch=4, progress=Kill())
    judge.close()
    assert len(set(pids)) == 2
    kept = read_scores(store, "hps").num_rows
    assert 16 <= kept < 24
    again = load(scorer, weights=[f"model={hps_weights(tmp_path)}"], device="cpu")
    assert fill(store, scorer, again, batch=4).rows == 24 - kept
    again.close()
    scored = {row["image_id"]: row["score"] for row in read_scores(store, "hps").to_pylist()}
    assert len(scored) == 24
    assert None not in scored.values()


ORPHAN = """
import os, sys
from pathlib import Path
from tests.toolkit.scoring.models import tiny_hps
from toolkit.scoring import load
folder = Path(sys.argv[1])
judge = load(tiny_hps(folder), weights=[f"model={folder / 'HPS_v2.1_compressed.pt'}"], device="cpu")
print(judge.close.__self__.worker.process.pid, flush=True)
sys.stdin.read()
"""


def test_the_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    config_file(tmp_path)
    hps_weights(tmp_path)
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid, 0.3)
    parent.kill()
    parent.wait()
    assert gone(pid)


def test_weights_of_another_model_are_named_by_their_keys(tmp_path: Path) -> None:
    scorer = tiny_hps(tmp_path)
    torch.save({"state_dict": {"visual.proj": torch.zeros(2, 2)}}, tmp_path / "other.pt")
    with pytest.raises(ScoringError, match=r"other.pt does not hold the weights of HPS .*missing"):
        load(scorer, weights=[f"model={tmp_path / 'other.pt'}"], device="cpu")
    cut = tmp_path / "cut.pt"
    cut.write_bytes(clip_weights(tmp_path).read_bytes()[:5000])
    with pytest.raises(ScoringError, match=r"cut.pt cannot be read as weights"):
        load(scorer, weights=[f"model={cut}"], device="cpu")


def test_an_environment_half_made_or_deleted_is_a_sentence(
    made_hps: MadeHps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTVOTED_SCORERS", str(tmp_path))
    weights = [f"model={hps_weights(tmp_path)}"] if config_file(tmp_path) else []
    scorer = replace(SCORERS["hps"], name="hps")
    remedy = r"outvoted scorers install hps"
    with pytest.raises(InputError, match=rf"was not made yet; type `{remedy}"):
        load(scorer, weights=weights, device="cpu")
    place = environment("hps").folder
    place.mkdir(parents=True)
    with pytest.raises(InputError, match=rf"was never finished; type `{remedy}"):
        load(scorer, weights=weights, device="cpu")
    made = json.loads((made_hps[1].folder / "made.json").read_text())
    (place / "made.json").write_text(json.dumps({**made, "pins": "older"}))
    with pytest.raises(InputError, match=r"made from other pins"):
        load(scorer, weights=weights, device="cpu")
    (place / "made.json").write_text(json.dumps(made))
    with pytest.raises(InputError, match=r"has lost its interpreter"):
        load(scorer, weights=weights, device="cpu")
    shutil.copytree(made_hps[1].folder / "bin", place / "bin", symlinks=True)
    with pytest.raises(InputError, match=r"has lost the package .* more; type"):
        load(scorer, weights=weights, device="cpu")
    with pytest.raises(InputError, match=r"no environment 'pickscore'; choose hps, image_reward"):
        install("pickscore")
