"""A scorer of one's own, as the top of toolkit/scoring/__init__.py says to add one."""

import importlib.metadata
import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from app.cli.main import registered
from tests.factories import StoreFactory
from toolkit import scoring
from toolkit.errors import InputError
from toolkit.scoring import Scorer, WeightFile
from toolkit.scoring import environments as making
from toolkit.scoring.scorer import one_by_one
from toolkit.scoring.worker_client import load_remote
from toolkit.store.scores import read_scores

WORKER = """
import sys
sys.path.insert(0, {serving!r})
from pathlib import Path
from serving import Model, serve

def load(setup):
    level = int(Path(setup["weights"]["level"]).read_text())
    def judge(prompts, images):
        return [level + red for red in images], [len(p) > 19 for p in prompts]
    return Model("mine 1", "first pixel", "float64", lambda p: float(p.getpixel((0, 0))[0]), judge)

serve(load)
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """A scorer with an environment of its own: pins, a worker, an entry, and its weights."""
    pins = shutil.copytree(str(making.PINS), tmp_path / "pins")
    names = ("pyarrow", "pillow", "numpy")
    kept = [f"{name}=={importlib.metadata.version(name)}\n" for name in names]
    (pins / "mine.txt").write_text("".join(kept))
    workers = Path(scoring.__file__).parent / "workers"
    (tmp_path / "mine.py").write_text(WORKER.format(serving=str(workers)))
    (tmp_path / "level.txt").write_text("1000")
    monkeypatch.setattr(making, "PINS", pins)
    monkeypatch.setenv("OUTVOTED_SCORERS", str(tmp_path / "home"))
    scorer = Scorer(
        "mine",
        "the first pixel's red",
        "Mine",
        partial(load_remote, environment="mine", worker=str(tmp_path / "mine")),
        needs=(WeightFile("level", "a number", ("level.txt",)),),
        environment="mine",
    )
    monkeypatch.setitem(scoring.SCORERS, "mine", scorer)
    return scorer


def test_a_scorer_with_an_environment_of_its_own_is_pins_a_worker_and_an_entry(
    added: Scorer, make_store: StoreFactory, tmp_path: Path
) -> None:
    store, run = make_store(pairs=8), CliRunner().invoke
    assert making.environments() == ["hps", "image_reward", added.environment]
    listed = run(registered(), ["scorers"]).output
    assert "environment was not made yet: `outvoted scorers install mine`" in listed
    made = run(registered(), ["scorers", "install", "mine"])
    if made.exception and "could not be made" in str(made.exception):
        pytest.skip(f"its packages are not in uv's cache and cannot be fetched: {made.exception}")
    assert made.exit_code == 0, made.exception
    assert set(making.environment("mine").packages()) >= {"PIL", "numpy", "pyarrow"}
    run(registered(), ["scorers", "weights", "mine", str(tmp_path / "level.txt")])
    scored = run(registered(), ["score", str(store.root), "--scorer", "mine", "--device", "cpu"])
    assert scored.exit_code == 0, scored.exception
    found = {row["image_id"]: row["score"] for row in read_scores(store, "mine").to_pylist()}
    assert found["img-0003-1"] == 1000 + 15
    assert len(found) == 16


def test_an_environment_nobody_wrote_pins_for_is_a_sentence(added: Scorer) -> None:
    wanted = rf"no environment 'clip'; choose hps, image_reward, {added.environment}\."
    with pytest.raises(InputError, match=wanted):
        making.install("clip")


def test_a_scorer_of_this_environment_is_one_file_and_one_entry(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The docstring's own example, with a formula for its model."""

    def load(setup: scoring.Setup) -> scoring.Judge:
        def judge(batch: scoring.Batch) -> scoring.Judged:
            pairs = zip(batch.prompts, batch.images, strict=True)
            scores = tuple(float(len(prompt) + side) for prompt, side in pairs)
            return scoring.Judged(scores, (False,) * len(scores))

        about = scoring.Identity("1", None, "its width", setup.dtype)
        return scoring.Judge(about, width, one_by_one(judge))

    def width(picture: Image.Image) -> int:
        return picture.width

    monkeypatch.setitem(scoring.SCORERS, "mine", Scorer("mine", "words and width", "Mine", load))
    store = make_store(pairs=4)
    command = ["score", str(store.root), "--scorer", "mine"]
    assert CliRunner().invoke(registered(), command).exit_code == 0
    rows = read_scores(store, "mine").to_pylist()
    assert {row["score"] for row in rows} == {len("a square number 0") + 16.0}
