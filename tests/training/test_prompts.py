"""Prompts come out of files of every usual shape, by their column and not as raw lines."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from toolkit.errors import InputError
from training.evaluate import read_prompts

WANTED = ["a cat, asleep", 'a sign that says "Deep"', '"Bond" in neon']

PARTI = (
    "Prompt\tCategory\tChallenge\tNote\n"
    "a cat, asleep\tAnimals\tBasic\t\n"
    'a sign that says "Deep"\tSigns\tWriting & Symbols\t\n'
    '"Bond" in neon\tAbstract\tBasic\tthe "name"\n'
)
QUOTED = 'id,caption\n1,"a cat, asleep"\n2,"a sign that says ""Deep"""\n3,"""Bond"" in neon"\n'


def written(folder: Path, name: str, content: object) -> str:
    path = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def objects(key: str) -> list[dict[str, object]]:
    return [{"negative": "x", key: text, "metadata": {}} for text in WANTED]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("parti.tsv", PARTI),
        ("quoted.tsv", 'n\tPrompt\n1\t"a cat, asleep"\n2\t"a sign that says ""Deep"""\n'
         '3\t"""Bond"" in neon"\n'),
        ("captions.csv", QUOTED),
        ("bom.csv", "\ufeff" + QUOTED),
        ("hpd.json", WANTED),
        ("styles.json", {"anime": WANTED[:2], "photo": WANTED[2:]}),
        ("numbered.json", dict(enumerate(WANTED))),
        ("columns.json", {"id": [1, 2, 3], "prompt": WANTED}),
        ("evaluation.json", objects("prompt")),
        ("lines.jsonl", "".join(json.dumps(row) + "\n" for row in objects("text"))),
        ("strings.jsonl", "\n".join(json.dumps(text) for text in WANTED)),
        ("pickapic.parquet", pa.table({"caption": [*WANTED, None], "jpg_0": [b"x"] * 4})),
        ("plain.txt", "\n".join(WANTED) + "\n\n"),
    ],
)  # fmt: skip
def test_every_shape_gives_the_same_prompts(name: str, content: object, tmp_path: Path) -> None:
    assert read_prompts(written(tmp_path, name, content)) == WANTED


def test_a_column_can_be_named_and_repeated_prompts_count_once(tmp_path: Path) -> None:
    both = written(tmp_path, "t.tsv", "prompt\tshort\nlong a\ta\nlong b\tb\nlong c\ta\n")
    assert read_prompts(both) == ["long a", "long b", "long c"]
    assert read_prompts(both, "short") == ["a", "b"]
    assert read_prompts(written(tmp_path, "n.json", ["two\nlines ", "two\nlines"])) == [
        "two\nlines"
    ]
    assert len(read_prompts("miniworld:5")) == 5


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tsv", "Words\tKind\na\tb\n", r"no column prompt, caption or text \(columns: Words, K"),
        ("a.csv", "a cat\na dog\n", r"no column prompt, caption or text \(columns: a cat\)"),
        ("a.json", [{"words": "a"}], r"\(columns: words\); name the column .* with --column"),
        ("a.jsonl", '{"words": "a"}\n', r"\(columns: words\); name the column .* with --column"),
        (
            "a.parquet",
            pa.table({"words": ["a"]}),
            r"\(columns: words\); name the column .* --column",
        ),
        ("b.json", [{"prompt": ["a"]}], r"'prompt' of .*b.json \[\"a\"\] is no text"),
        (
            "k.json",
            {"text": ["a"], "prompt": [["a"]]},
            r"the column 'prompt' of .*k.json \[\"a\"\] is no text",
        ),
        (
            "l.parquet",
            pa.table({"prompt": [["a", "b"], None]}),
            r"'prompt' of .*l.parquet \[\"a\", \"b\"\] is no text; name the column .* --column",
        ),
        (
            "m.parquet",
            pa.table({"prompt": [{"en": "a"}]}),
            r"'prompt' of .*m.parquet {\"en\": \"a\"} is no text; name the column .* --column",
        ),
        ("c.json", 7, "contains no prompt"),
        ("d.json", '["a cat"', "cannot be read"),
        ("e.parquet", "PAR1", "cannot be read"),
        (
            "f.tsv",
            "prompt\tkind\na\tb\n\n\t\nc\n",
            r"Line 5 of .* number of cells \(1\) than its heading \(2\)",
        ),
        ("n.csv", 'prompt,kind\n"a\nb",x\n\n"c\nd"\n', r"Line 5 of .* cells \(1\)"),
        ("g.csv", 'prompt\n"never closed\n', "cannot be read"),
        ("h.txt", "\n \n", "contains no prompt"),
        ("i.yaml", "- a cat\n", r"cannot be read from a file such as .*; name a \.txt"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(
    name: str, content: object, says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        read_prompts(written(tmp_path, name, content))


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = written(tmp_path, "p.tsv", PARTI)
    with pytest.raises(
        InputError, match=r"no column 'words' \(columns: Prompt, Category, Challenge, Note\)"
    ):
        read_prompts(path, "words")
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(str(tmp_path / "gone.txt"))
    with pytest.raises(InputError, match=r"write miniworld:100"):
        read_prompts("miniworld:many")
