from dataclasses import replace

import numpy as np
import pytest
import torch

from toolkit.minority import PRESETS, Metric, deviation, timestep_bin
from training.live_metric import LiveMetric


class OneProcess:
    """What accelerate answers where there is one process."""

    @staticmethod
    def reduce(value: torch.Tensor, how: str) -> torch.Tensor:
        assert how == "sum"
        return value

    @staticmethod
    def gather(value: torch.Tensor) -> torch.Tensor:
        return value


def live(metric: Metric, models: int = 3, pairs: int = 100) -> LiveMetric:
    return LiveMetric(metric, models=models, pairs=pairs, timesteps=1000, device="cpu")


def steps(rng: np.random.Generator, models: int = 3) -> list[tuple[torch.Tensor, ...]]:
    """Six steps of 32 pairs: ell, pair, timestep."""
    return [
        (
            torch.from_numpy(rng.normal(size=(models, 32)).astype(np.float32)),
            torch.from_numpy(rng.permutation(100)[:32]),
            torch.from_numpy(rng.integers(0, 1000, 32)),
        )
        for _ in range(6)
    ]


def run(metric: Metric, parts: int) -> list[torch.Tensor]:
    measured, state = [], live(metric)
    for ell, pair, timestep in steps(np.random.default_rng(0)):
        pieces = [
            state.measure(*piece)
            for piece in zip(
                ell.chunk(parts, 1),
                pair.chunk(parts),
                timestep.chunk(parts),
                torch.ones(len(pair)).chunk(parts),
                strict=True,
            )
        ]
        measured.append(torch.cat([piece.scores.minority for piece in pieces]))
        state.end_step(OneProcess())
    return measured


def test_running_and_history_do_not_depend_on_the_micro_batch() -> None:
    for preset in ("running", "history"):
        metric = PRESETS[preset]
        for whole, split in zip(run(metric, 1), run(metric, 4), strict=True):
            torch.testing.assert_close(whole, split, equal_nan=True)


def test_released_does_depend_on_the_micro_batch() -> None:
    whole, split = run(PRESETS["released"], 1), run(PRESETS["released"], 4)
    assert not torch.allclose(whole[-1], split[-1])


def test_a_bin_too_little_seen_leaves_the_score_unknown() -> None:
    measured = run(PRESETS["running"], 1)
    assert measured[0].isnan().all()
    metric = Metric("running", rho=3.75, rms_min_count=1, timestep_bins=2)
    assert not run(metric, 1)[-1].isnan().any()


def test_history_reads_the_pairs_own_earlier_visits() -> None:
    metric = Metric("history", rho=1.0, rms_min_count=1, timestep_bins=1, rms_decay=0.0, window=3)
    state, pair, t = live(metric, models=1, pairs=4), torch.tensor([2]), torch.tensor([0])
    scaled = []
    for value in (0.5, 2.0, -1.0, 0.25, 1.0):
        measured = state.measure(torch.tensor([[value]]), pair, t, torch.ones(1))
        scaled.append(value * measured.scale[0, 0])
        state.end_step(OneProcess())
    # rms_decay 0: each visit is scaled by the RMS of the visit before it
    torch.testing.assert_close(torch.stack(scaled[1:]), torch.tensor([4.0, -0.5, 0.25, 4.0]))
    expected = deviation(torch.tensor([[4.0], [0.25], [-0.5]]))
    torch.testing.assert_close(measured.scores.stability, expected)
    assert state.measure(
        torch.tensor([[1.0]]), torch.tensor([3]), t, torch.ones(1)
    ).scores.stability.isnan()


def test_a_pair_met_twice_in_a_step_leaves_two_visits() -> None:
    """As where one epoch ends and the next begins; and not more where data are fewer than pairs."""
    metric = Metric("history", rho=1.0, rms_min_count=1, timestep_bins=1, rms_decay=0.0, window=4)
    state, t = live(metric, models=1, pairs=3), torch.zeros(1, dtype=torch.int64)
    state.measure(torch.tensor([[1.0]]), torch.tensor([1]), t, torch.ones(1))
    state.end_step(OneProcess())
    ell, pairs = torch.tensor([[2.0, 3.0, 4.0, 5.0]]), torch.tensor([1, 0, 1, 1])
    state.measure(ell, pairs, t.repeat(4), torch.ones(4))
    state.end_step(OneProcess())
    earlier = state.earlier[:, :3].nan_to_num(0.0)
    torch.testing.assert_close(earlier[:, 1], torch.tensor([5.0, 4.0, 2.0]))
    torch.testing.assert_close(earlier[:, 0], torch.tensor([3.0, 0.0, 0.0]))
    assert (earlier[:, 2] == 0).all()


def test_a_turned_label_turns_the_earlier_visits_too() -> None:
    metric = Metric("history", rho=1.0, rms_min_count=1, timestep_bins=1, rms_decay=0.0, window=2)
    state, pair, t = live(metric, models=1, pairs=1), torch.tensor([0]), torch.tensor([0])
    for _ in range(2):
        state.measure(torch.tensor([[2.0]]), pair, t, torch.ones(1))
        state.end_step(OneProcess())
    same = state.measure(torch.tensor([[2.0]]), pair, t, torch.ones(1)).scores
    turned = state.measure(torch.tensor([[-2.0]]), pair, t, torch.zeros(1)).scores
    torch.testing.assert_close(turned.confidence, 1 - same.confidence)
    torch.testing.assert_close(turned.stability, same.stability)


@pytest.mark.parametrize("preset", ["released", "running", "history"])
def test_rows_that_do_not_count_leave_no_trace(preset: str) -> None:
    metric = replace(PRESETS[preset], rms_min_count=1, timestep_bins=2)
    rng = np.random.default_rng(0)
    marked, absent = live(metric), live(metric)
    for ell, pair, timestep in steps(rng):
        counts = torch.from_numpy(rng.random(32) < 0.7)
        label = torch.ones(32)
        with_them = marked.measure(ell, pair, timestep, label, counts)
        without = absent.measure(ell[:, counts], pair[counts], timestep[counts], label[counts])
        for every, some in zip(with_them.scores, without.scores, strict=True):
            torch.testing.assert_close(every[counts], some, equal_nan=True)
            assert every[~counts].isnan().all()
        for state in (marked, absent):
            state.end_step(OneProcess())
    for name, value in absent.state().items():
        torch.testing.assert_close(
            marked.state()[name][..., :100], value[..., :100], equal_nan=True
        )


def test_the_end_of_the_schedule_is_in_its_last_bin() -> None:
    for values in (np.array([0, 99, 100, 999, 1000]), torch.tensor([0, 99, 100, 999, 1000])):
        assert timestep_bin(values, 10, 1000).tolist() == [0, 0, 1, 9, 9]
    state = live(replace(PRESETS["running"], rms_min_count=1))
    three = torch.ones(3, 1), torch.tensor([0]), torch.tensor([1000]), torch.ones(1)
    state.measure(*three)
    state.end_step(OneProcess())
    assert state.running.counts[:, -1].tolist() == [1, 1, 1]
