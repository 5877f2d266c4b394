"""A run analyzed from end to end: findings on disk, the page, the command, and bad input."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import typer
from typer import Context
from typer.main import get_command
from typer.testing import CliRunner

from analysis.ranking_metrics import measure
from analysis.report.page import render, write_report
from analysis.report.plots import all_figures
from analysis.report.text import next_steps, planting_steps, sentence
from analysis.run_analysis import Section, analyze_run
from app.cli.analyze import analyze
from app.cli.main import registered
from toolkit.errors import InputError, OutvotedError, StoreError
from toolkit.files.atomic import parts, write_whole
from toolkit.labels.flips import plant_flips
from toolkit.recorder import TrajectoryWriter
from toolkit.schema import meaning_of
from toolkit.store.label_sets import planted_flips
from toolkit.store.runs import (
    finding_windows,
    findings,
    findings_about,
    read_findings,
    start_run,
    update_run,
    write_findings,
)

FINDINGS = [
    "annotator_minority",
    "annotators",
    "area_under_margin",
    "calibrated",
    "cartography",
    "consistency",
    "flip_posterior",
    "image_defects",
    "kinds",
    "loss_mixture",
    "matched_filter",
    "minority",
    "minority_history",
    "minority_paper",
    "minority_released",
    "minority_running",
    "trajectory_ell",
    "vote_split",
]


def rewrite_trajectory(store, change, run="r") -> None:
    """Change a run's rows in place: `change` maps a table to a table."""
    for path in store.run(run).glob("trajectory/rank-*/part-*.parquet"):
        write_whole(path, change(pq.read_table(path)))


def replaced(table: pa.Table, name: str, values) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.column_names.index(name), field, pa.array(values, field.type))


def outside_scripts(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


@pytest.fixture
def analyzed(make_store):
    store = make_store(run=True, pairs=200)
    return analyze_run(store, "r")


def test_every_finding_is_on_disk_with_how_it_was_made(analyzed):
    store = analyzed.store
    assert findings(store, "r") == FINDINGS
    for name in FINDINGS:
        table = read_findings(store, "r", name)
        assert table.num_rows == (5 if name == "annotators" else 200)
        assert all(meaning_of(field) for field in table.schema)
        about = findings_about(store, "r", name)
        assert (about["labels"], about["window"]) == ("flip20", "late")
    own = read_findings(store, "r", "minority")
    assert own.column_names == ["pair_id", "visits", "confidence", "stability", "minority"]
    assert finding_windows(store, "r", "minority") == ["late", "all", "early", "last"]
    early = read_findings(store, "r", "minority", window="early")
    assert early["pair_id"].equals(own["pair_id"])
    assert not early["minority"].equals(own["minority"])
    named = read_findings(store, "r", "minority", ["minority_early", "visits"])
    assert named["minority_early"].equals(early["minority"])
    assert named["visits"].equals(own["visits"])
    with pytest.raises(StoreError, match=r"no column 'minority_lat'.*minority_late"):
        read_findings(store, "r", "minority", ["minority_lat"])
    with pytest.raises(StoreError, match=r"no window 'probe' .windows: late, all, early, last"):
        read_findings(store, "r", "minority", window="probe")
    assert own.equals(read_findings(store, "r", "minority_released"))
    assert findings_about(store, "r", "minority")["preset"] == "released"
    assert findings_about(store, "r", "minority_history")["metric"]["window"] == 4


def test_detection_lies_beside_the_findings_as_plain_figures(analyzed):
    text = (analyzed.store.findings("r") / "detection.json").read_text()
    found = json.loads(text)
    assert "NaN" not in text
    names = [row["name"] for row in found["detectors"]]
    assert {"minority", "minority.confidence", "minority_paper", "trajectory_ell"} <= set(names)
    assert found["planted"] is True
    first = found["detectors"][0]
    assert sum(bin_["count"] for bin_ in first["deciles"]) == first["pairs"] == 200


def test_planted_flips_are_found(analyzed):
    by_name = {found.name: found for found in analyzed.detections}
    for name in ("minority", "minority.confidence", "minority_running", "trajectory_ell"):
        assert by_name[name].auroc.low > 0.8, name
    top = analyzed.suspicious()[:20]
    assert analyzed.flipped[top].mean() > 0.8


def test_running_and_history_find_no_worse_than_released(analyzed):
    by_name = {found.name: found for found in analyzed.detections}
    released = by_name["minority_released"].auroc.value
    assert by_name["minority_running"].auroc.value > released - 0.02
    assert by_name["minority_history"].auroc.value > released - 0.02


def test_the_flips_of_another_set_are_not_found(make_store):
    store = make_store(run=True, pairs=400)
    plant_flips(store, "other", rate=0.2, seed=9)
    table = analyze_run(store, "r").tables["trajectory_ell"]
    flipped = np.isin(table["pair_id"].to_pylist(), planted_flips(store, "other"))
    found = measure("t", table["trajectory_ell"].to_numpy(), flipped, np.arange(400))
    assert found.auroc.low < 0.5 < found.auroc.high


def test_a_flip_turns_a_pair_suspicious_and_back(make_store):
    store = make_store(run=True, pairs=200)
    under, before = (analyze_run(store, "r", labels=name) for name in ("flip20", "original"))
    flipped = under.flipped
    assert before.flipped is None
    c_under, c_before = (a.column("minority", "confidence") for a in (under, before))
    np.testing.assert_allclose(c_under[flipped], 1 - c_before[flipped], atol=1e-6)
    np.testing.assert_array_equal(c_under[~flipped], c_before[~flipped])


def test_the_page_opens_without_a_network(analyzed, tmp_path):
    path = write_report(analyzed, tmp_path / "deep" / "report.html", top=5)
    assert path.stat().st_size < 10e6
    page = path.read_text(encoding="utf-8")
    assert page.count("Plotly.newPlot(") >= 4
    body = outside_scripts(page)
    assert not re.findall(r"<(?:link|script|iframe|object)[^>]*(?:src|href)=", body)
    assert all(src.startswith("data:") for src in re.findall(r'src="([^"]*)"', body))
    assert "url(" not in body
    assert "prefers-color-scheme: dark" in body


def test_the_page_says_what_was_measured_and_what_to_do(analyzed):
    body = outside_scripts(render(analyzed, top=5))
    own = analyzed.detections[0]
    for words in (
        "Disagreement with the majority is not proof of error",
        f"{own.auroc.value:.3f}",
        f"{own.auroc.low:.3f} to {own.auroc.high:.3f}",
        "base rate",
        f"outvoted app {analyzed.store.root} --run r",
        "planted flip",
    ):
        assert words in body, words
    assert body.count('class="side chosen"') == 5
    assert body.count('class="small"') == 10  # 16 pixels a side: scaled with their edges kept


def test_prompts_and_names_of_strangers_are_text_on_the_page(make_store):
    store = make_store(run=True)
    hostile = '<script>alert(1)</script><img src=x onerror=alert(2)> & "quoted"'
    for path in parts(store.folder("pairs")):
        table = pq.read_table(path)
        write_whole(path, replaced(table, "prompt", [hostile + str(k) for k in range(40)]))
    found = analyze_run(
        store,
        "r",
        extra_detectors={"</script><b>": {"nobody": 1.0}},
        extra_sections=[Section("<i>", ["<u>"], go.Figure(), "<s>")],
    )
    page = render(found)
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(2)&gt;" in page
    body = outside_scripts(page)
    for tag in ("<i>", "<u>", "<s>", "<b>"):
        assert tag not in body


def test_the_callers_detectors_and_sections_are_on_the_page(make_store):
    store = make_store(run=True)
    ids = [str(x) for x in read_all_ids(store)]
    oracle = {pair: float(pair in planted_flips(store, "flip20")) for pair in ids[1:]}
    begun = []

    class Progress:
        def line(self, text: str) -> None:
            raise AssertionError(text)

        def update(self, task: str, done: int, total: int | None = None, note: str = "") -> None:
            begun.append((task, done, total, note))

    found = analyze_run(
        store,
        "r",
        extra_detectors={"oracle": oracle},
        extra_sections=[Section("Wins against the base model", ["12 of 20."])],
        progress=Progress(),
    )
    detection = next(row for row in found.detections if row.name == "oracle")
    assert (detection.auroc.value, detection.missing) == (1.0, 1)
    assert [done for _, done, _, _ in begun] == [0, 1, 2, 3, 4]
    assert begun[0][3] == "reading the trajectory"
    page = outside_scripts(render(found))
    assert ">oracle<" in page
    assert "Wins against the base model" in page
    with pytest.raises(InputError, match="'minority' already"):
        analyze_run(store, "r", extra_detectors={"minority": oracle})


def read_all_ids(store) -> list[str]:
    return [
        i for p in parts(store.folder("pairs")) for i in pq.read_table(p)["pair_id"].to_pylist()
    ]


@pytest.mark.parametrize("labels", ["flip20", "original"])
def test_the_commands_on_the_page_have_the_options_they_name(make_store, labels):
    found = analyze_run(make_store(run=True), "r", labels=labels)
    lines = [planting_steps(found), *(step["command"] for step in next_steps(found))]
    root = get_command(registered())
    for line in "\n".join(lines).split("\n"):
        _, verb, *words = shlex.split(line)
        command = root.get_command(Context(root), verb)
        known = {name for param in command.get_params(Context(command)) for name in param.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_flips_by_gap_are_not_called_random_and_are_counted_of_all_labels(make_store):
    store = make_store(run=True, pairs=200)
    start_run(store, "truth", {"models": ["policy"], "labels": "original"}, "")
    known = pa.table({"pair_id": read_all_ids(store)[:50], "reward": np.linspace(-1, 1, 50)})
    write_findings(store, "truth", "truth", known, {})
    where = {"by_gap": "reward", "run": "truth", "finding": "truth"}
    plant_flips(store, "close", rate=0.4, seed=3, **where)
    found = analyze_run(store, "r", labels="close")
    words = sentence("planted", found)
    assert "flips a random" not in words
    assert "flips 20 of the 200 labels of original (seed 3): 40% of the 50 whose gap in" in words
    assert "reward of run truth's finding truth is known" in words
    drawn = all_figures(found)["noise"].data[0]
    assert dict(zip(drawn.y, drawn.x, strict=True))["planted on purpose"] == pytest.approx(0.1)


def test_flips_at_random_are_called_so_and_counted(make_store):
    words = sentence("planted", analyze_run(make_store(run=True), "r"))
    assert "flips a random 20% of the labels of original (8 of 40, seed 0)" in words
    assert "easier to detect" in words


def test_flips_that_were_handed_in_are_not_called_planted(make_store):
    store = make_store(run=True)
    flips = planted_flips(store, "flip20")
    words = sentence("planted", analyze_run(store, "r", labels="original", flips=flips))
    assert words.startswith("The list of flipped labels was given (8 of 40 pairs), so here")


def test_without_planted_flips_the_page_leaves_detection_out(make_store):
    store = make_store(run=True)
    found = analyze_run(store, "r", labels="original")
    assert found.detections == []
    body = outside_scripts(render(found))
    assert "AUROC" not in body
    assert "planted flip<" not in body
    assert "nobody knows which labels" in body
    assert "outvoted flip" in body


def test_one_model_is_said_and_ranked_by_ell(make_store):
    store = make_store(run=True, pairs=200)

    def first_model(table):
        for name in ("err_0", "err_1", "scale"):
            table = replaced(table, name, [row[:1] for row in table[name].to_pylist()])
        return table

    rewrite_trajectory(store, first_model)
    update_run(store, "r", models=["policy"])
    found = analyze_run(store, "r")
    assert found.ranking == "trajectory_ell"
    assert found.tables["minority"]["minority"].null_count == 200
    assert found.tables["minority_history"]["minority"].null_count < 200
    assert any("one model" in note for note in found.notes)
    body = outside_scripts(render(found, top=3))
    assert "not defined" in body
    assert "by trajectory_ell" in body


def test_pairs_with_one_visit_are_said(make_store):
    store = make_store(run=True, visits=1)
    found = analyze_run(store, "r", window="all")
    assert found.tables["minority_history"]["stability"].null_count == 40
    assert found.tables["minority"]["minority"].null_count == 0
    assert any("40 pairs were met once" in note for note in found.notes)
    render(found)


def test_pairs_outside_the_window_are_null_and_said(make_store):
    store = make_store(run=True, visits=1)
    found = analyze_run(store, "r")
    table = found.tables["minority"]
    outside = pc.equal(table["visits"], 0)
    assert 0 < pc.sum(outside).as_py() < 40
    assert set(table.filter(outside)["minority"].to_pylist()) == {None}
    assert any("met only outside the window" in note for note in found.notes)


def test_rows_left_out_are_said(make_store):
    store = make_store(run=True)

    def spoil(table):
        ids, errors = table["pair_id"].to_pylist(), table["err_ref_0"].to_pylist()
        ids[:3] = ["stranger"] * 3
        errors[5:9] = [float("nan"), float("inf"), None, float("-inf")]
        return replaced(replaced(table, "pair_id", ids), "err_ref_0", errors)

    rewrite_trajectory(store, spoil)
    found = analyze_run(store, "r")
    assert found.digest.excluded == {"unknown_pair": 3, "not_finite": 4}
    words = " ".join(found.notes)
    assert "3 trajectory rows belong to pairs this store does not know" in words
    assert "4 trajectory rows have an error that is not finite" in words
    assert "stranger" not in read_findings(store, "r", "minority")["pair_id"].to_pylist()


def test_constant_scores_are_said(make_store):
    store = make_store(run=True)

    def still(table):
        table = replaced(table, "err_0", [[0.5] * 3] * table.num_rows)
        table = replaced(table, "err_1", [[0.5] * 3] * table.num_rows)
        for name in ("err_ref_0", "err_ref_1"):
            table = replaced(table, name, [0.5] * table.num_rows)
        return table

    rewrite_trajectory(store, still)
    found = analyze_run(store, "r")
    assert any("minority gives every pair the same score" in note for note in found.notes)
    assert found.detections[0].auroc.value == 0.5
    render(found)


def test_scores_that_do_not_match_the_log_are_said(make_store):
    store = make_store(run=True)
    assert not any("differ from those" in note for note in analyze_run(store, "r").notes)
    update_run(store, "r", metric={"preset": "paper"})
    assert any("differ from those" in note for note in analyze_run(store, "r").notes)


def test_too_good_on_labels_of_people_is_called_a_leak(make_store):
    store = make_store(run=True, pairs=200)
    assert any("a leak until shown otherwise" in note for note in analyze_run(store, "r").notes)
    for path in parts(store.folder("pairs")):
        table = pq.read_table(path)
        write_whole(path, replaced(table, "source", ["miniworld"] * 200))
    assert not any("a leak" in note for note in analyze_run(store, "r").notes)


def test_a_picture_that_is_gone_does_not_stop_the_page(make_store):
    store = make_store(run=True)
    for path in parts(store.folder("images")):
        path.unlink()
    body = outside_scripts(render(analyze_run(store, "r"), top=2))
    assert "the store has no image img-" in body


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"labels": "original"}, "has no models"),
        ({"models": ["policy"], "labels": "original"}, "has no trajectory rows"),
        ({"models": ["policy"], "labels": "gone"}, "no label set 'gone'"),
    ],
)
def test_a_run_that_cannot_be_analyzed_is_a_sentence(make_store, about, words):
    store = make_store()
    start_run(store, "broken", about, "")
    with pytest.raises(StoreError, match=words):
        analyze_run(store, "broken")


def test_a_report_that_cannot_be_written_is_a_sentence(analyzed, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name a file you may write with --out"):
        write_report(analyzed, tmp_path / "file" / "report.html")


def test_a_users_own_trainer_with_five_lines_can_be_analyzed(make_store):
    store = make_store()
    ids = read_all_ids(store)
    start_run(store, "mine", {"models": ["policy"], "labels": "original"}, "")
    recorder = TrajectoryWriter(store.run("mine"), ["policy"])
    rng = np.random.default_rng(0)
    for step in range(6):
        errors = rng.uniform(0.1, 0.2, (4, 40))
        recorder.append(
            pair_id=ids, visit=step, step=step,
            err_ref_0=errors[0], err_ref_1=errors[1], err_0=errors[2:3], err_1=errors[3:4],
        )  # fmt: skip
    recorder.close()
    found = analyze_run(store, "mine")
    assert found.tables["trajectory_ell"]["trajectory_ell"].null_count == 0
    assert found.weight is None
    render(found)


def invoke(*arguments: str):
    app = typer.Typer()
    app.command()(analyze)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_a_table_and_where_the_report_is(make_store, tmp_path):
    store = make_store(run=True)
    out = tmp_path / "out.html"
    result = invoke(str(store.root), "--run", "r", "--out", str(out), "--top", "2")
    assert result.exit_code == 0, result.output
    assert "AUROC" in result.output
    assert str(out) in result.output
    assert out.exists()


def test_the_command_without_planted_flips_says_how_to_plant_some(make_store, tmp_path):
    store = make_store(run=True)
    out = str(tmp_path / "out.html")
    result = invoke(str(store.root), "--run", "r", "--labels", "original", "--out", out)
    assert result.exit_code == 0, result.output
    assert "planted no flips" in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "q"], "no run 'q'"),
        (["--run", "r", "--window", "middle"], "choose all, early, late, last"),
        (["--run", "r", "--labels", "none"], "no label set 'none'"),
        (["--run", "../r"], "cannot name a run"),
    ],
)
def test_mistakes_on_the_command_line_are_sentences(make_store, tmp_path, arguments, words):
    store = make_store(run=True)
    result = invoke(str(store.root), *arguments, "--out", str(tmp_path / "x.html"))
    assert isinstance(result.exception, OutvotedError)
    assert words in str(result.exception)
    assert not Path(tmp_path / "x.html").exists()


def test_training_dynamics_are_written_where_the_logits_are_known(make_store, tmp_path):
    store = make_store(run=True)
    arguments = [str(store.root), "--run", "r", "--out", str(tmp_path / "x.html"), "--top", "0"]
    refused = invoke(*arguments, "--dynamics", str(tmp_path / "td"))
    assert "names no objective.beta" in str(refused.exception)
    update_run(store, "r", objective={"name": "adaptive_dpo", "beta": 1000})
    result = invoke(*arguments, "--dynamics", str(tmp_path / "td"))
    assert result.exit_code == 0, result.output
    files = sorted(path.name for path in (tmp_path / "td").iterdir())
    assert files == [*(f"dynamics_epoch_{k}.jsonl" for k in range(6)), "td_metrics.jsonl"]
    assert len((tmp_path / "td" / "dynamics_epoch_5.jsonl").read_text().splitlines()) == 40


def test_the_page_reads_the_dataset_and_shows_its_figures(analyzed):
    body = outside_scripts(render(analyzed, top=1))
    for words in (
        "What kind of dataset is this?",
        "By this run the dataset is",
        "more like a matter of taste",
        "Images: ",
        'id="figure-map"',
        'id="figure-roc"',
        'id="figure-annotators"',
        'id="figure-suspect"',
        'id="figure-calibration"',
    ):
        assert words in body, words
    about = json.loads((analyzed.store.findings("r") / "dataset.json").read_text())
    assert about["profile"]["kind"] in ("conflicting", "balanced", "over-simple")
    assert about["krippendorff_alpha"] is None  # one vote a comparison
