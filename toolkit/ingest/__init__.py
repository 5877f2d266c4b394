"""Ways into a store: one source a file, and one dict of them. Every source is thin: it opens and
checks its files, and yields `SourceRow`s to the shared writer (or columns, where no image is read).
"""

from collections.abc import Callable

from toolkit.ingest.chosen_rejected import ingest_chosen_rejected, open_chosen_rejected
from toolkit.ingest.folders import ingest_folders, open_folders
from toolkit.ingest.hpd import ingest_hpd, open_hpd
from toolkit.ingest.image_preferences import ingest_image_preferences, open_image_preferences
from toolkit.ingest.imagereward import ingest_imagereward, open_imagereward
from toolkit.ingest.pickapic import ingest_pickapic, open_pickapic
from toolkit.ingest.ratings import Ratings, ingest_ratings, open_ratings
from toolkit.ingest.records import Reference, SourceImage, SourceRow, Summary, Vote
from toolkit.ingest.score_arrays import ingest_released_npy, open_released_npy
from toolkit.ingest.votes import ingest_votes, open_votes
from toolkit.ingest.writer import ingest_rows

SOURCES: dict[str, Callable[..., Summary]] = {
    "pickapic": ingest_pickapic,
    "hpd": ingest_hpd,
    "imagereward": ingest_imagereward,
    "image-preferences": ingest_image_preferences,
    "chosen-rejected": ingest_chosen_rejected,
    "folders": ingest_folders,
    "ratings": ingest_ratings,
    "votes": ingest_votes,
}
"""Each takes a store and what its module's open function returned. The arrays of `released_npy`
make a run, and are no pairs."""

__all__ = [
    "SOURCES",
    "Ratings",
    "Reference",
    "SourceImage",
    "SourceRow",
    "Summary",
    "Vote",
    "ingest_chosen_rejected",
    "ingest_folders",
    "ingest_hpd",
    "ingest_image_preferences",
    "ingest_imagereward",
    "ingest_pickapic",
    "ingest_ratings",
    "ingest_released_npy",
    "ingest_rows",
    "ingest_votes",
    "open_chosen_rejected",
    "open_folders",
    "open_hpd",
    "open_image_preferences",
    "open_imagereward",
    "open_pickapic",
    "open_ratings",
    "open_released_npy",
    "open_votes",
]
