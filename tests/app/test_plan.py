from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from app.cli.train import size, summary
from tests.factories import StoreFactory
from tests.training.backbones import tiny_sd
from tests.training.test_plan import an_estimate


def test_the_command_says_what_a_run_will_take(make_store: StoreFactory, tmp_path: Path) -> None:
    store, backbone = make_store(), tiny_sd(tmp_path / "sd")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"backbone: {{path: {backbone}, resolution: 16, lora: {{rank: 4}}}}\n"
        "objective: {name: diffusion_dpo, beta: 300}\nsteps: 8\nbatch_size: 10\n"
    )
    result = CliRunner().invoke(registered(), ["plan", str(recipe), "--store", str(store.root)])
    assert result.exit_code == 0, (result.output, result.exception)
    for words in ("write 600 for the same", "2.0 visits each", "pairs a second", "hours", "rows"):
        assert words in result.output.replace("bytes a row", "rows")
    assert store.runs() == []


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 bytes"), (1500, "1.5 kB"), (2.5e7, "25 MB"), (4e12, "4e+03 GB")]
)
def test_sizes_are_read_in_powers_of_ten(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("processes", "sentence"),
    [
        (
            1,
            "50 kB at most in the timed steps, in one process with the whole network; --processes "
            "N estimates each of N devices under network.shard",
        ),
        (
            4,
            "50 kB at most in the timed steps, in one process with the whole network; divided over "
            "4 about 35 kB on each device by counting, and the block that computes on top (not "
            "measured)",
        ),
    ],
)
def test_memory_of_a_divided_network_is_told_as_counted(processes: int, sentence: str) -> None:
    found = an_estimate(peak_memory=50_000, divided=True, processes=processes)
    assert dict(summary(found))["memory"] == sentence


def test_what_is_measured_and_drawn_is_told_with_what_is_not_counted() -> None:
    """36 x 2 s of steps, 50 s of encoding, 72 passes of 5 s over 3 models and the reference."""
    plain = dict(summary(an_estimate()))
    assert plain["time"] == "0.0339 hours, 0.014 of them encoding"
    assert "36 kB of trajectories (360 rows, 100 bytes each)" in plain["disk"]
    told = dict(summary(an_estimate(measured=18, forward_seconds=5.0, samples=1200)))
    assert told["time"] == (
        "0.134 hours, 0.014 of them encoding and 0.1 measuring probes and held-out pairs; drawing "
        "1,200 samples comes on top and was not timed"
    )
    assert "(378 rows, 18 of probes and held-out pairs, 100 bytes each)" in told["disk"]
