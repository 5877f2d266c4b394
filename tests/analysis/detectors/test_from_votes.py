"""Detectors of labels, votes, scores and images: hand-made cases, then planted ones."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

from analysis.detectors.agreement import agreement
from analysis.detectors.annotators import annotator_minority, annotators, overlap
from analysis.detectors.consistency import consistency
from analysis.detectors.data_defects import FLAT, defects, look, looks_table
from analysis.trajectory import numbers
from toolkit.ids import make_comparison_id
from toolkit.image_files import decode


def pairs_of(*rows):
    """(prompt, image_0, image_1, label) each, pair_ids p0, p1 ..."""
    return pa.table(
        {
            "pair_id": [f"p{k}" for k in range(len(rows))],
            "comparison_id": [make_comparison_id(*row[:3]) for row in rows],
            "prompt": [row[0] for row in rows],
            "image_0": [row[1] for row in rows],
            "image_1": [row[2] for row in rows],
            "label": pa.array([row[3] for row in rows], pa.float64()),
        }
    )


def votes_of(*rows):
    """(pair_id, annotator, choice) each."""
    names = ("pair_id", "annotator", "choice")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    columns["choice"] = pa.array(columns["choice"], pa.float64())
    return pa.table(columns)


LABELS = pa.table({"pair_id": ["a", "b", "c", "d"], "label": [1.0, 0.0, 0.5, None]})


def test_votes_against_a_label_are_counted_and_all_against_stands_apart_from_mixed():
    votes = votes_of(
        ("a", "x", 0.0), ("a", "y", 0.0), ("a", "z", 0.5),
        ("b", "x", 0.0), ("b", "y", 1.0), ("b", "z", 0.0),
        ("c", "x", 1.0), ("stranger", "x", 1.0),
    )  # fmt: skip
    rows = agreement(LABELS, votes).to_pylist()
    assert [row["votes"] for row in rows] == [2, 3, 1, 0]
    assert [row["against"] for row in rows] == [2, 1, 0, 0]
    assert rows[0]["against_share"] == 1.0
    assert rows[1]["against_share"] == pytest.approx(1 / 3)
    assert [row["pattern"] for row in rows] == ["all against", "mixed", None, None]


def test_extra_votes_that_are_all_ties_decide_nothing():
    rows = agreement(LABELS, votes_of(("a", "x", 0.5), ("b", "x", 0.5))).to_pylist()
    assert [row["against_share"] for row in rows] == [None] * 4
    assert [row["pattern"] for row in rows] == [None] * 4


def test_opposite_labels_on_the_same_two_images_contradict_each_other_either_way_round():
    rows = consistency(
        pairs_of(
            ("cat", "i", "j", 1),
            ("cat", "j", "i", 1),
            ("cat", "i", "j", 1),
            ("dog", "i", "j", 0),
            ("cat", "i", "j", 0.5),
        )
    ).to_pylist()
    assert [row["repeats"] for row in rows] == [2, 2, 2, 0, 0]
    assert [row["contradictions"] for row in rows] == [1, 2, 1, 0, 0]
    assert rows[1]["contradicted"] == 1.0
    assert rows[3]["contradicted"] is None
    assert rows[4]["contradicted"] is None


def test_a_pair_of_one_image_twice_says_nothing_of_itself_or_others():
    apart = [("cat", "i", "j", 1), ("cat", "j", "i", 1), ("cat", "j", "k", 1)]
    itself = [("cat", "i", "i", 1), ("cat", "i", "i", 0), ("dog", "a", "a", 1)]
    rows = consistency(pairs_of(*apart, *itself)).to_pylist()
    assert rows[:3] == consistency(pairs_of(*apart)).to_pylist()
    for row in rows[3:]:
        assert (row["repeats"], row["contradictions"], row["triangles"]) == (0, 0, 0)
        assert row["contradicted"] is row["cyclic"] is row["ranking_residual"] is None


def test_three_labels_in_a_circle_are_found_and_three_in_a_row_are_not():
    circle = [("cat", "a", "b", 1), ("cat", "b", "c", 1), ("cat", "c", "a", 1)]
    row = [("dog", "a", "b", 1), ("dog", "b", "c", 1), ("dog", "a", "c", 1)]
    found = consistency(pairs_of(*circle, *row)).to_pylist()
    assert [entry["cyclic"] for entry in found] == [1, 1, 1, 0, 0, 0]
    assert [entry["triangles"] for entry in found] == [1] * 6
    alone = consistency(pairs_of(*circle[:2])).to_pylist()
    assert [entry["cyclic"] for entry in alone] == [None, None]


def test_flipped_labels_stand_out_from_a_common_ranking():
    rng = np.random.default_rng(0)
    rows, flipped = [], []
    for prompt in range(40):
        strength = rng.normal(size=6)
        for i in range(6):
            for j in range(i + 1, 6):
                flip = rng.random() < 0.1
                rows.append(
                    (f"p{prompt}", str(i), str(j), float((strength[i] > strength[j]) != flip))
                )
                flipped.append(flip)
    table = consistency(pairs_of(*rows))
    order = np.argsort(np.array([f"p{k}" for k in range(len(rows))]))
    hit = np.array(flipped)[order]
    assert roc_auc_score(hit, numbers(table["ranking_residual"])) > 0.85
    assert roc_auc_score(hit, numbers(table["cyclic"])) > 0.7


def test_a_pair_that_nothing_else_speaks_of_has_no_residual():
    table = consistency(pairs_of(("a", "i", "j", 1), ("b", "i", "j", 0), ("c", "k", "k", 1)))
    assert table["ranking_residual"].null_count == 3


def test_no_labelled_pair_gives_nulls():
    table = consistency(pairs_of(("a", "i", "j", None), ("a", "i", "k", 0.5)))
    assert table["ranking_residual"].null_count == table["contradicted"].null_count == 2


def picture(seed, side=96, kind="PNG", quality=90):
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), (128, 128, 128))
    drawing = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = rng.integers(0, side, 2).tolist()
        r = int(rng.integers(8, side // 2))
        drawing.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(0, 256, 3).tolist()))
    out = io.BytesIO()
    image.save(out, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return out.getvalue()


def flat(grey):
    out = io.BytesIO()
    Image.new("RGB", (96, 96), (grey,) * 3).save(out, "PNG")
    return out.getvalue()


def test_defects_of_pictures_are_found_and_sound_ones_left_alone():
    data = {
        "one": picture(1), "two": picture(2), "black": flat(0), "white": flat(255),
        "jpeg": picture(1, kind="JPEG"), "same": picture(2), "three": picture(3),
    }  # fmt: skip
    looks = looks_table({name: look(decode(raw)) for name, raw in data.items()})
    pairs = pairs_of(
        ("cat", "one", "three", 1),  # sound, but both stand under another prompt
        ("dog", "black", "white", 1),  # two flat ones
        ("cow", "one", "jpeg", 1),  # near-identical, and `one` also stands under cat
        ("hen", "two", "same", 1),  # the same bytes twice
        ("fox", "gone", "three", 1),
    )
    rows = defects(pairs, looks).to_pylist()
    assert [row["flat"] for row in rows] == [0, 2, 0, 0, None]
    assert [row["identical"] for row in rows] == [False, False, False, True, None]
    assert rows[2]["distance"] <= 4 < rows[0]["distance"]
    assert [row["elsewhere"] for row in rows] == [2, 0, 1, 0, 1]  # `three` is known to be under cat
    assert [row["image_defect"] for row in rows] == [1.0, 1.0, 1.0, 1.0, 1.0]
    sound = defects(pairs.slice(0, 1), looks).to_pylist()[0]
    assert sound["image_defect"] == 0.0


def test_a_shape_as_bright_as_its_ground_is_not_flat():
    image = Image.new("RGB", (64, 64), (150, 80, 80))
    ImageDraw.Draw(image).ellipse((20, 20, 44, 44), fill=(40, 130, 100))
    out = io.BytesIO()
    image.save(out, "PNG")
    assert np.asarray(image.convert("L")).std() < 3
    assert look(decode(out.getvalue())).spread > FLAT


def test_habits_of_annotators_are_counted_and_few_votes_are_shrunk():
    pairs = pairs_of(*[("cat", "i", "j", 1)] * 3, ("dog", "j", "i", 1))
    votes = votes_of(
        ("p0", "ann", 1), ("p1", "bob", 1), ("p2", "cyd", 0), ("p3", "ann", 0.5), ("p3", None, 1)
    )
    u = np.array([0.1, 0.2, 0.9, 0.3])
    table = annotators(pairs, votes, u).to_pylist()
    ann, bob, cyd = table
    assert [row["annotator"] for row in table] == ["ann", "bob", "cyd"]
    assert (ann["votes"], ann["tie_rate"], ann["left_share"]) == (2, 0.5, 1.0)
    assert (ann["agreement"], ann["compared"]) == (None, 0)  # the two others are even
    assert (cyd["agreement"], cyd["compared"]) == (0.0, 1)
    assert bob["mean_u"] == pytest.approx(0.2)
    # one label of .9 beside 20 of the common mean (.1 + .3 + .2 + .9) / 4
    assert cyd["mean_u_shrunk"] == pytest.approx((0.9 + 20 * 0.375) / 21)
    own = annotator_minority(
        pa.table({"pair_id": ["p2"], "annotator": ["cyd"]}), annotators(pairs, votes, u)
    )
    assert own["annotator_minority"][0].as_py() == pytest.approx(cyd["mean_u_shrunk"])


def test_somebodys_own_further_votes_on_a_comparison_are_not_those_of_others():
    pairs = pairs_of(
        ("cat", "i", "j", 1), ("cat", "j", "i", 0), ("dog", "i", "j", 1), ("dog", "i", "j", 1),
        ("dog", "j", "i", 1), ("dog", "i", "j", 1),
    )  # fmt: skip
    votes = votes_of(
        ("p0", "ann", 1), ("p1", "ann", 0),  # i twice, and nobody else voted
        ("p2", "ann", 1), ("p3", "ann", 1), ("p4", "bob", 1), ("p5", "cyd", 0),  # i, i, j, j
    )  # fmt: skip
    table = {row["annotator"]: row for row in annotators(pairs, votes).to_pylist()}
    told = {name: (row["agreement"], row["compared"]) for name, row in table.items()}
    # ann's two votes for i meet two for j; bob and cyd meet one for j and two for i
    assert told == {"ann": (0.0, 2), "bob": (0.0, 1), "cyd": (0.0, 1)}
    alone = annotators(pairs, votes.slice(0, 2)).to_pylist()
    assert [(row["agreement"], row["compared"]) for row in alone] == [(None, 0)]


def test_no_votes_give_an_empty_table_and_no_overlap():
    pairs = pairs_of(("cat", "i", "j", 1))
    votes = votes_of(("p0", None, 1))
    assert annotators(pairs, votes).num_rows == 0
    assert overlap(pairs, votes) is None


def crowd(seed=0, comparisons=150):
    """Five annotators vote on every comparison; the fifth at random. One pair a vote."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=(comparisons, 2))
    error = [0.1, 0.1, 0.1, 0.15, 0.5]
    rows, votes, wrong = [], [], []
    for k in range(comparisons):
        truth = float(strength[k, 0] > strength[k, 1])
        for who, e in enumerate(error):
            flip = rng.random() < e
            turned = rng.random() < 0.5
            side = truth if not flip else 1 - truth
            images = ("i", "j") if not turned else ("j", "i")
            label = side if not turned else 1 - side
            votes.append((f"p{len(rows)}", f"w{who}", label))
            rows.append((f"prompt {k}", *images, label))
            wrong.append(flip)
    return pairs_of(*rows), votes_of(*votes), np.array(wrong)


def test_models_of_overlapping_votes_find_wrong_ones_and_the_one_who_guesses():
    pairs, votes, wrong = crowd()
    state = np.random.get_state()[1].copy()
    found = overlap(pairs, votes)
    assert (np.random.get_state()[1] == state).all()  # the global generator is left as it was
    assert found.comparisons == 150
    assert 0.3 < found.alpha < 0.7
    by_id = dict(zip(pairs["pair_id"].to_pylist(), wrong, strict=True))
    hit = np.array([by_id[pair] for pair in found.pairs["pair_id"].to_pylist()])
    for name in ("dawid_skene", "glad", "noisy_bradley_terry"):
        assert roc_auc_score(hit, numbers(found.pairs[name])) > 0.9, name
    for name in ("dawid_skene", "glad"):
        skill = dict(
            zip(found.voters["annotator"].to_pylist(), numbers(found.voters[name]), strict=True)
        )
        assert min(skill, key=skill.get) == "w4", name


def test_votes_count_together_whichever_way_round_the_images_stand():
    pairs = pairs_of(
        ("cat", "i", "j", 1), ("cat", "j", "i", 0), ("dog", "i", "j", 1), ("dog", "i", "j", 1)
    )
    votes = votes_of(("p0", "ann", 1), ("p1", "bob", 0), ("p2", "ann", 0), ("p3", "bob", 0))
    assert overlap(pairs, votes).alpha == pytest.approx(1.0)
