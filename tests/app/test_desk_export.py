"""Exports from the desk: the command that does the same, one folder, complete or absent."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.main import registered
from app.desk import export_jobs
from app.desk.export_jobs import Job, Jobs, command, folder, place, written
from tests.app.desk_pages import button, open_page, shown
from tests.app.desk_stores import judgeable
from tests.factories import StoreFactory
from tests.polling import wait_for
from toolkit.errors import InputError
from toolkit.export import FORMATS, Policy, export_set
from toolkit.store import Store
from toolkit.store.connection import effective_labels
from toolkit.store.journal import Entry, Journal
from toolkit.store.verdicts import publish

POLICIES = [
    (Policy(), "pickapic"),
    (
        Policy(
            labels="original", run="r", where='prompt contains "number 1" or split = "train"',
            drop=("minority > 0.9 and verdict is null", "confidence > 0.99"), reweight=True, k1=4.5,
            verdicts=False, keep_ties=True, keep_unlabelled=True, images=False,
        ),
        "pickapic",
    ),
    (Policy(run="r", flip_top=0.05, weight="1 - confidence"), "weights"),
    (
        Policy(run="r", drop_top=0.1, flip=("minority > 0.99",), pseudonymize=("user_id",)),
        "chosen-rejected",
    ),
]  # fmt: skip


def ended(job: Job) -> Job:
    wait_for(lambda: job.ended, "the export")
    return job


@pytest.mark.parametrize(("policy", "form"), POLICIES)
def test_the_command_on_screen_writes_the_same_bytes(
    make_store: StoreFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: Policy,
    form: str,
) -> None:
    store = judgeable(make_store)
    out = tmp_path / "it's here" / "typed"
    out.parent.mkdir()
    typed = command(store, out, policy, form)
    monkeypatch.setattr(sys, "argv", shlex.split(typed))  # what the command keeps as its record
    result = CliRunner().invoke(registered(), shlex.split(typed)[1:])
    assert result.exit_code == 0, result.output
    mine = tmp_path / "it's here" / "pressed"
    export_set(store, mine, policy, FORMATS[form], command=typed)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    assert len(files) > 2
    for path in files:
        assert (mine / path.relative_to(out)).read_bytes() == path.read_bytes(), path.name


def test_a_name_is_all_that_is_taken_from_the_page(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(pairs=4)
    monkeypatch.delenv("OUTVOTED_DESK", raising=False)
    assert place(store, " curated ") == store.folder("exports", "curated")
    for name in ("../outside", "/tmp/elsewhere", "a/b", ".hidden", "", "..", "a\0b"):
        with pytest.raises(InputError):
            place(store, name)
    store.folder("exports", "curated").mkdir(parents=True)
    with pytest.raises(InputError, match="already"):
        place(store, "curated")


def test_another_folder_is_named_at_the_start_only(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = make_store(pairs=4)
    monkeypatch.setenv("OUTVOTED_DESK", json.dumps({"exports": str(tmp_path / "out")}))
    assert folder(store) == tmp_path / "out"
    assert place(store, "a") == tmp_path / "out" / "a"


def test_an_export_in_the_background_is_complete_or_absent(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    monkeypatch.delenv("OUTVOTED_DESK", raising=False)
    jobs = Jobs()
    done = ended(jobs.start(store, "one", Policy(), "pickapic"))
    assert done.problem == ""
    assert (done.done, done.total) == (40, 40)
    assert done.pairs == "40 of 40 pairs"
    refused = ended(jobs.start(store, "two", Policy(where="label > 7"), "pickapic"))
    assert "Nothing is left" in refused.problem
    assert not refused.out.exists()
    assert [row["name"] for row in written(store)] == ["one"]
    assert [job.name for job in jobs.all()] == ["two", "one"]
    (store.folder("exports", "one") / "curation.json").write_text("{")
    assert written(store) == []


def test_an_unforeseen_failure_is_a_sentence_and_leaves_nothing(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    monkeypatch.delenv("OUTVOTED_DESK", raising=False)

    def broken(_: object) -> dict[str, object]:
        raise ZeroDivisionError("a fault of ours")

    odd = replace(FORMATS["pickapic"], name="odd", write=broken)
    monkeypatch.setitem(FORMATS, "odd", odd)
    job = ended(Jobs().start(store, "odd", Policy(), "odd"))
    assert "The export failed" in job.problem
    assert not job.out.exists()


def test_the_page_previews_writes_and_lists(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "export")
    assert "8 of these labels are wrong on purpose" in app.warning[0].value
    app = app.number_input(key="export-drop-top").set_value(25.0).run()
    said = shown(app)
    assert "--drop-top 0.25" in said
    assert "<td>pairs</td><td>40</td><td>30</td>" in said
    app = button(app, "Write the export").click().run()
    wait_for((store.folder("exports", "curated")).exists, "the export")
    record = json.loads((store.folder("exports", "curated") / "curation.json").read_text())
    assert record["counts"]["after"]["pairs"] == 30
    assert record["command"] in said
    app.run()
    assert "curated is written" in shown(app)
    assert not app.exception


def test_the_preview_tells_ties_that_are_left_out_from_pairs_that_are_dropped(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    pair_ids = effective_labels(store)["pair_id"].to_pylist()
    journal = Journal(store.folder("verdicts.sqlite"))
    journal.record([Entry(pair_id, "anna", "tie") for pair_id in pair_ids[:3]])
    journal.record([Entry(pair_id, "anna", "drop") for pair_id in pair_ids[3:5]])
    publish(store, journal)
    journal.close()
    app = open_page(monkeypatch, store, "export")
    assert "<b>3</b><i>ties left out</i>" in shown(app)
    assert "<b>2</b><i>dropped</i>" in shown(app)
    app = app.toggle(key="export-keep_ties").set_value(True).run()
    assert "<b>3</b><i>changed to a tie</i>" in shown(app)
    assert "ties left out" not in shown(app)


def test_what_the_policy_refuses_is_a_sentence_and_writes_nothing(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "export")
    app = app.text_input(key="export-where").set_value("minority >").run()
    assert "is no comparison" in shown(app)
    assert button(app, "Write the export").disabled
    app = app.text_input(key="export-where").set_value("").run()
    app = app.text_input(key="export-name").set_value("../up").run()
    app = button(app, "Write the export").click().run()
    assert "cannot name a set" in shown(app)
    assert not Store(store.root).folder("exports").exists()


def test_verdicts_of_this_moment_are_published_before_an_export(
    make_store: StoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.desk.queries.connection import verdicts

    store = judgeable(make_store)
    app = open_page(monkeypatch, store, "export")
    pair_id = effective_labels(store)["pair_id"][0].as_py()
    known = verdicts(store.root, store.folder("verdicts.sqlite"))
    known.record([Entry(pair_id, "anna", "drop")])
    app = button(app, "Write the export").click().run()
    (job,) = [one for one in _jobs() if one.out.parent == store.folder("exports")]
    ended(job)
    record = json.loads((job.out / "curation.json").read_text())
    assert record["counts"]["dropped"] == 1
    assert not app.exception


def _jobs() -> list[Job]:
    return export_jobs.jobs().all()
