"""Attacks on the command line: `python -m tests.attacks.run KIND --count 1000 --seed 0`.

Each prints its figures, then what must not be, and ends with 1 if there is any. What was measured
is in results.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.attacks.forks import Tally, in_fork, run_all


def conditions(count: int, seed: int, _: Path) -> Tally:
    """Random conditions, over a table of every type."""
    from tests.attacks.conditions import attack_condition, connection, random_conditions

    con = connection()
    return run_all(
        random_conditions(seed, count), lambda case: attack_condition(case, con), fork=False
    )


def links(count: int, seed: int, folder: Path) -> Tally:
    """Random links to views of the desk, over a store's queue."""
    from tests.attacks.damages import full_store
    from tests.attacks.links import attack_link, random_links
    from toolkit.store import open_store
    from toolkit.store.connection import connect
    from toolkit.store.queue.tables import QueueColumns, make_queue

    store = open_store(full_store(folder))
    with connect(store) as con:
        make_queue(con, store, "r")
        columns = QueueColumns(con, store, "r")
        return run_all(
            random_links(seed, count), lambda case: attack_link(case, con, columns), fork=False
        )


def recipes(count: int, seed: int, folder: Path) -> Tally:
    """Random recipes."""
    from tests.attacks.recipes import attack_recipe, random_recipes

    file = folder / "recipe.yaml"
    return run_all(random_recipes(seed, count), lambda case: attack_recipe(file, *case), fork=False)


def damages(count: int, seed: int, folder: Path) -> Tally:
    """Single damages to a store, each checked in a forked child."""
    import toolkit.store.integrity  # noqa: F401  (once, for all children)
    from tests.attacks.damages import attack_damage, full_store, random_damages

    _in_child(lambda: str(full_store(folder)))
    base = folder / "store"
    return run_all(
        random_damages(base, seed, count), lambda case: attack_damage(base, case), fork=True
    )


def commands(count: int, seed: int, folder: Path) -> Tally:
    """Random command lines, each in a forked child over a copy of a store."""
    import analysis.report.page  # noqa: F401  (once, for all children)
    import toolkit.export
    import toolkit.ingest
    import toolkit.labels
    import toolkit.store.integrity  # noqa: F401
    from tests.attacks.commands import attack_command, random_commands
    from tests.attacks.damages import full_store

    _in_child(lambda: str(full_store(folder)))
    (folder / "files").mkdir()
    (folder / "files" / "votes.csv").write_text("pair_id,annotator,choice\nx,a,1\n")
    base = folder / "store"
    return run_all(
        random_commands(seed, count), lambda case: attack_command(base, *case), fork=True
    )


def _in_child(make: Callable[[], str]) -> None:
    """A parent that used Arrow's threads must not fork."""
    outcome, text = in_fork(make)
    if outcome.isupper():
        raise SystemExit(f"{outcome}: {text}")


KINDS = {f.__name__: f for f in (conditions, links, recipes, damages, commands)}


def attack(kind: str, count: int, seed: int = 0) -> Tally:
    """Run one kind in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return KINDS[kind](count, seed, Path(folder))


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tally = attack(given.kind, given.count, given.seed)
    print(f"{given.kind}, {given.count:,} cases, seed {given.seed}: {tally.line()}")
    for failure in tally.failures[:20]:
        print(ascii(failure))
    sys.exit(bool(tally.failures))


if __name__ == "__main__":
    main()
