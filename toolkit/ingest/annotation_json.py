"""Label Studio's and Argilla's JSON as rows: a task's columns, and for each question its answers.

Label Studio exports tasks with `data` and `annotations`: a question is the name of a tag, an answer
what `<Pairwise>` selected or `<Choices>` chose. Argilla exports records with `fields` and
`responses`. Cancelled annotations, drafts and discarded responses are no answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from toolkit.ingest.choices import Answer, word_of
from toolkit.ingest.sides import Read
from toolkit.ingest.tabular import Table, records

LABEL_STUDIO = ("data", "annotations")
ARGILLA = ("fields", "responses")


def unpacked(table: Table) -> tuple[Table, tuple[str, ...], Read] | None:
    """The table as rows of tasks, its questions, and how it is read; None for any other table."""
    names = table.schema.names
    if table.kind != "json" or not ({*LABEL_STUDIO} <= {*names} or {*ARGILLA} <= {*names}):
        return None
    columns: dict[str, None] = {}
    questions: dict[str, None] = {}
    for _, task, answers in _tasks(table):
        columns |= dict.fromkeys(task)
        questions |= dict.fromkeys(answers)
    every = dict.fromkeys([*questions, *columns])
    made = replace(table, schema=pa.schema([(name, pa.null()) for name in every]))
    return made, tuple(questions), _read


def _read(table: Table, _: list[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, task, answers in _tasks(table):
        yield number, {**task, **answers}


def _tasks(table: Table) -> Iterator[tuple[int, dict[str, Any], dict[str, list[Answer]]]]:
    """(row number, the task's columns, answers by question)."""
    for number, row in records(replace(table, schema=_NAMES)):
        if row["data"] is not None:
            task, answers = row["data"], _annotations(row["annotations"])
        else:
            task, answers = row["fields"], _responses(row["responses"])
        shown = dict(task) if isinstance(task, Mapping) else {}
        if row["id"] is not None:
            shown.setdefault("id", row["id"])
        yield number, shown, answers


_NAMES = pa.schema([(name, pa.null()) for name in (*LABEL_STUDIO, *ARGILLA, "id")])


def _annotations(given: Any) -> dict[str, list[Answer]]:
    answers: dict[str, list[Answer]] = {}
    for annotation in _mappings(given):
        if annotation.get("was_cancelled"):
            continue
        who = annotation.get("completed_by")
        person = who.get("email") or who.get("id") if isinstance(who, Mapping) else who
        for result in _mappings(annotation.get("result")):
            value = result.get("value")
            answer = value if isinstance(value, Mapping) else {}
            chosen = answer.get("selected", answer.get("choices"))
            words = chosen if isinstance(chosen, list) else [chosen]
            question = str(result.get("from_name") or result.get("type"))
            answers.setdefault(question, []).extend(
                Answer(word, word_of(person), annotation.get("created_at"))
                for word in words
                if word is not None
            )
    return {question: given for question, given in answers.items() if given}


def _responses(given: Any) -> dict[str, list[Answer]]:
    questions = given if isinstance(given, Mapping) else {}
    return {
        str(question): [
            Answer(response.get("value"), word_of(response.get("user_id")))
            for response in _mappings(responses)
            if response.get("status") not in ("draft", "discarded")
        ]
        for question, responses in questions.items()
    }


def _mappings(given: Any) -> list[Mapping[str, Any]]:
    return (
        [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list) else []
    )
