"""Label sets made from the store: one entry a maker.

To add a maker, write a file here with

    def my_labels(store: Store, name: str, base: str = ORIGINAL, *,
                  share: Annotated[float, "Help of the option.", (0, 1)] = 0.1) -> Made:
        changes = changes_of(pair_ids, labels)          # the pairs whose label is decided
        return write_changes(store, name, base, changes, {"kind": "mine", "share": share})

    MINE = LabelMaker("mine", "What the set contains.", my_labels, "mine")

and name MINE in the tuple below. `outvoted labels mine STORE --share 0.2`, its help and the
recipe in the store follow from the entry.
"""

from toolkit.labels.blend import BLEND
from toolkit.labels.flips import FLIP
from toolkit.labels.majority import MAJORITY, OUTVOTE
from toolkit.labels.maker import LabelMaker, Made, changes_of, write_changes
from toolkit.labels.scorers import VOTE
from toolkit.labels.stated import CURATED, IMPORTED

LABEL_MAKERS: dict[str, LabelMaker] = {
    maker.name: maker for maker in (FLIP, MAJORITY, OUTVOTE, VOTE, BLEND, CURATED, IMPORTED)
}
"""Name on the command line -> maker."""

__all__ = ["LABEL_MAKERS", "LabelMaker", "Made", "changes_of", "write_changes"]
