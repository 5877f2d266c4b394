"""Audits: samples of pairs, drawn once and kept, that curators judge blind and can resume.

    STORE/audits/NAME.json      run, label set, seed, the two arms, the order of judging

Both arms are drawn by hash, so that the same seed on the same finding draws the same pairs. Over
the tables that `toolkit.store.queue.tables.make_queue` fills.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import read_json, write_json
from toolkit.ids import short_hash
from toolkit.preference import lean_sql
from toolkit.store.connection import Connection
from toolkit.store.layout import Store, check_name

ARMS = ("random", "top")


@dataclass(frozen=True)
class Audit:
    """A kept sample."""

    name: str
    run: str
    label_set: str
    seed: int
    share: float
    """The top arm is drawn from this share of the pairs, those with the largest u."""
    random: tuple[str, ...]
    """pair_ids drawn from all pairs with a u and a preference."""
    top: tuple[str, ...]
    """pair_ids drawn from the top share; a pair may be in both arms."""
    order: tuple[str, ...]
    """Every pair once, in the order of judging, which says nothing about its arm."""

    def arms(self, pair_id: str) -> list[str]:
        """The arms that a pair is in."""
        return [arm for arm in ARMS if pair_id in getattr(self, arm)]


def draw_audit(
    con: Connection, run: str, label_set: str, *, size: int, share: float, seed: int
) -> Audit:
    """Draw `size` pairs an arm, or all there are: the top arm has no more than its share of the
    pairs, since its flip rate is that share's. InputError where nothing can be drawn."""
    if size < 1 or not 0 < share <= 1:
        raise InputError(
            "An audit needs at least one pair an arm, and a share above 0 and up to 1."
        )
    ranked = (
        "SELECT q.pair_id, row_number() OVER (ORDER BY q.nth) AS rank,"
        " count(*) OVER () AS of FROM queue q JOIN facts USING (nth)"
        f" WHERE {lean_sql('label')} <> 0 AND minority IS NOT NULL"
    )
    arms = []
    for arm in ARMS:
        pool = "true" if arm == "random" else f"rank <= ceil({share!r} * of)"
        rows = con.execute(
            f"SELECT pair_id FROM ({ranked}) WHERE {pool} ORDER BY md5(? || pair_id) LIMIT ?",
            [f"{seed} {arm} ", size],
        ).fetchall()
        arms.append(tuple(sorted(str(row[0]) for row in rows)))
    if not arms[0]:
        raise InputError(
            "No pair has both a u and a label that states a preference, so there is nothing to "
            "audit; type `outvoted analyze STORE --run RUN` after a longer training."
        )
    mixed = con.execute(
        "SELECT p FROM (SELECT unnest(?) AS p) ORDER BY md5(? || p)",
        [sorted({*arms[0], *arms[1]}), f"{seed} order "],
    ).fetchall()
    # Another share or label set is another sample, and gets another name.
    name = f"{run[:60]}-{size}-{seed}-{short_hash(run, label_set, repr(share))[:6]}"
    order = tuple(str(row[0]) for row in mixed)
    return Audit(name, run, label_set, seed, share, arms[0], arms[1], order)


def keep_audit(store: Store, audit: Audit) -> Audit:
    """Write the sample, unless one of its name exists: that one is returned."""
    path = _path(store, audit.name)
    if path.exists():
        return read_audit(store, audit.name)
    write_json(path, asdict(audit))
    return audit


def audits(store: Store) -> list[str]:
    """Names of the kept samples, the newest first."""
    files = sorted(store.folder("audits").glob("*.json"), key=lambda path: path.stat().st_mtime)
    return [path.stem for path in files[::-1]]


def read_audit(store: Store, name: str) -> Audit:
    """A kept sample. StoreError where it is absent or broken."""
    path = _path(store, name)
    try:
        fields = read_json(path, _REMEDY)
        lists: dict[str, Sequence[str]] = {k: tuple(fields.pop(k)) for k in (*ARMS, "order")}
        return Audit(**fields, **lists)  # type: ignore[arg-type]
    except (OSError, KeyError, TypeError) as problem:
        raise StoreError(
            f"The audit {path} cannot be read ({type(problem).__name__}); {_REMEDY}."
        ) from problem


_REMEDY = "restore it from a copy, or draw another sample"


def _path(store: Store, name: str) -> Path:
    return store.folder("audits") / f"{check_name(name, 'sample')}.json"
