"""Prompts and annotators by SQL: where labels contradict each other, and who labelled what.

Over the tables that `toolkit.store.queue.tables.make_queue` fills, under its label set. The same
definitions as `analysis.detectors.consistency` and `annotators`, for the pages that show them.
"""

from typing import Any

import pyarrow as pa

from toolkit.preference import lean_sql
from toolkit.store.connection import Connection, fetch

PRIOR_PAIRS = 5.0
"""Average pairs that are added to a prompt's own before its mean u is believed."""

PRIOR_VOTES = 20.0
"""Average votes that are added to an annotator's own; as in `analysis.detectors.annotators`."""

_WON = (
    "SELECT f.pair_id, f.prompt, p.comparison_id,"
    f" CASE {lean_sql('f.label')} WHEN 1 THEN f.image_0 ELSE f.image_1 END AS winner,"
    f" CASE {lean_sql('f.label')} WHEN 1 THEN f.image_1 ELSE f.image_0 END AS loser"
    " FROM facts f JOIN pairs p USING (pair_id)"
    f" WHERE {lean_sql('f.label')} <> 0 AND f.image_0 <> f.image_1"
)


def noisy_prompts(con: Connection, *, least: int = 2, limit: int = 50) -> list[dict[str, Any]]:
    """The prompts whose pairs have the largest mean u, shrunk towards the mean of all.

    Keys: prompt, pairs, known (pairs with a u), mean_u, adjusted_mean_u, largest_u, changed (labels
    that differ from the source's), judged. `least`: pairs with a u that a prompt must have.
    """
    sql = (
        "WITH whole AS (SELECT avg(minority) AS mean FROM queue)"
        " SELECT f.prompt, count(*) AS pairs, count(q.minority) AS known,"
        " avg(q.minority) AS mean_u,"
        " (coalesce(sum(q.minority), 0) + $prior * any_value(whole.mean))"
        " / (count(q.minority) + $prior) AS adjusted_mean_u, max(q.minority) AS largest_u,"
        " count(*) FILTER (f.is_flipped) AS changed,"
        " count(j.verdict) AS judged"
        " FROM facts f JOIN queue q USING (nth) LEFT JOIN verdicts j USING (nth), whole"
        " GROUP BY f.prompt HAVING count(q.minority) >= $least"
        " ORDER BY adjusted_mean_u DESC, f.prompt LIMIT $limit"
    )
    rows = con.execute(sql, {"prior": PRIOR_PAIRS, "least": least, "limit": limit})
    names = [described[0] for described in rows.description]
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def contradictions(con: Connection, *, limit: int = 50) -> tuple[int, list[dict[str, Any]]]:
    """How many comparisons have opposite labels, and the first of them.

    Keys: prompt, first and second (image_ids), for_first and for_second (pair_ids that prefer
    each). A comparison is a prompt with two images, in either order.
    """
    grouped = (
        f"WITH won AS ({_WON}), ends AS (SELECT *, least(winner, loser) AS first,"
        " greatest(winner, loser) AS second FROM won)"
        " SELECT any_value(prompt) AS prompt, first, second,"
        " list(pair_id ORDER BY pair_id) FILTER (winner = first) AS for_first,"
        " list(pair_id ORDER BY pair_id) FILTER (winner = second) AS for_second"
        " FROM ends GROUP BY comparison_id, first, second"
        " HAVING count(DISTINCT winner) > 1"
    )
    total = con.execute(f"SELECT count(*) FROM ({grouped})").fetchall()[0][0]
    rows = fetch(con, f"SELECT * FROM ({grouped}) ORDER BY prompt, first LIMIT {int(limit)}")
    return int(total), list(rows.to_pylist())


def cycles(con: Connection, *, limit: int = 50) -> tuple[int, list[dict[str, Any]]]:
    """How many cycles of three labels there are (a over b, b over c, c over a), and the first.

    Keys: prompt, a, b, c (image_ids), a_b, b_c, c_a (a pair_id of each comparison). A comparison
    counts once, by who won more often.
    """
    # Joined by the hash of prompt and image: numbers join several times faster than texts.
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE beat AS WITH won AS ({_WON}),"
        " tally AS (SELECT prompt, winner, loser, hash(prompt, winner) AS w,"
        " hash(prompt, loser) AS l, count(*) AS times, min(pair_id) AS pair_id"
        " FROM won GROUP BY prompt, winner, loser)"
        " SELECT t.* FROM tally t LEFT JOIN tally o ON o.w = t.l AND o.l = t.w"
        " WHERE t.times > coalesce(o.times, 0)"
    )
    joined = (
        " FROM beat x JOIN beat y ON y.w = x.l JOIN beat z ON z.w = y.l AND z.l = x.w"
        " WHERE x.{0} < y.{0} AND x.{0} < z.{0}"
    )
    total = con.execute(f"SELECT count(*){joined.format('w')}").fetchall()[0][0]
    rows = fetch(
        con,
        "SELECT x.prompt, x.winner AS a, y.winner AS b, z.winner AS c, x.pair_id AS a_b,"
        f" y.pair_id AS b_c, z.pair_id AS c_a{joined.format('winner')}"
        f" ORDER BY x.prompt, a, b, c LIMIT {int(limit)}",
    )
    return int(total), list(rows.to_pylist())


def habits(con: Connection) -> pa.Table:
    """Every annotator's habits, as far as one look over the votes tells them, by annotator.

    Columns as of `analysis.detectors.annotators`; agreement is null and compared 0, since they
    need the votes of others on the same comparison.
    """
    rates = {
        "tie_rate": "avg((b.choice = .5)::DOUBLE)",
        "left_share": "avg(b.choice) FILTER (b.choice <> .5)",
        "mean_u": "avg(q.minority)",
    }
    counts = {
        "tie_rate": "count(*)",
        "left_share": "count(*) FILTER (b.choice <> .5)",
        "mean_u": "count(q.minority)",
    }
    plain = ", ".join(f"{rate} AS {name}" for name, rate in rates.items())
    number = ", ".join(f"{count} AS {name}_n" for name, count in counts.items())
    shrunk = ", ".join(
        f"(coalesce({name}, 0) * {name}_n + {PRIOR_VOTES} * (SELECT sum({name} * {name}_n) /"
        f" sum({name}_n) FROM own)) / ({name}_n + {PRIOR_VOTES}) AS {name}_shrunk"
        for name in rates
    )
    return fetch(
        con,
        f"WITH own AS (SELECT b.annotator, count(*) AS votes, {plain}, {number}"
        " FROM kept_votes b LEFT JOIN queue q USING (pair_id)"
        " WHERE b.annotator IS NOT NULL AND b.choice IS NOT NULL GROUP BY b.annotator)"
        " SELECT annotator, votes, tie_rate, left_share, NULL::DOUBLE AS agreement,"
        f" 0::BIGINT AS compared, mean_u, {shrunk}, NULL::DOUBLE AS agreement_shrunk"
        " FROM own ORDER BY annotator",
    )
