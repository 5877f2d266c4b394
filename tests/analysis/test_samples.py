import numpy as np
import pyarrow as pa

from analysis.model_comparison import compare


def scored(values: dict[str, list[list[float]]], figure: str = "reward") -> pa.Table:
    """values[model][prompt][seed]"""
    return pa.Table.from_pylist(
        [
            {"model": m, "prompt_index": p, "seed": s, "figure": figure, "value": v}
            for m, prompts in values.items()
            for p, seeds in enumerate(prompts)
            for s, v in enumerate(seeds)
        ]
    )


def test_gain_and_win_rate_by_hand() -> None:
    table = scored({"a": [[1, 2], [3, 4]], "b": [[2, 2], [3, 1]]})
    first, second = compare(table, ["a", "b"]).to_pylist()
    assert (first["mean"], first["gain"], first["win_rate"]) == (2.5, 0, 0.5)
    assert second["samples"] == 4
    assert second["mean"] == 2.0
    assert second["gain"] == -0.5  # 1, 0, 0, -3
    assert second["win_rate"] == 0.5  # a win, two ties, a loss
    # prompts are resampled: the gain of prompt 0 is .5, of prompt 1 it is -1.5
    assert (second["gain_low"], second["gain_high"]) == (-1.5, 0.5)


def test_the_same_noise_makes_the_interval_of_a_gain_narrow() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(200, 1))
    better = base + 0.1 + 0.01 * rng.normal(size=(200, 1))
    row = compare(scored({"a": base.tolist(), "b": better.tolist()}), ["a", "b"]).to_pylist()[1]
    assert row["gain_low"] > 0.09
    assert row["mean_low"] < row["mean"] - 0.1
    assert row["win_rate"] == 1.0


def test_a_model_without_common_samples_has_no_gain() -> None:
    table = scored({"a": [[1.0]], "b": [[1.0], [2.0]]})
    only = table.filter(
        pa.array([r["model"] == "a" or r["prompt_index"] == 1 for r in table.to_pylist()])
    )
    row = compare(only, ["a", "b"]).to_pylist()[1]
    assert row["mean"] == 2.0
    assert row["gain"] is row["win_rate"] is row["mean_low"] is None


def test_an_unknown_value_is_left_out_of_all_three() -> None:
    table = scored({"a": [[1.0], [2.0]], "b": [[float("nan")], [3.0]]})
    row = compare(table, ["a", "b"]).to_pylist()[1]
    assert (row["samples"], row["mean"], row["gain"], row["win_rate"]) == (1, 3.0, 1.0, 1.0)
