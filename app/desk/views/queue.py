"""The page Queue: the most suspicious pairs one by one, each answered with a verdict."""

from app.desk import data, state
from app.desk.views import judging, start
from toolkit.palette import Ground
from toolkit.store import Store


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page, or the page of what is missing."""
    if settings.run and settings.run not in data.runs_with_queue(store):
        start.draw(store, data.overview(store), settings.run)
        return
    desk, _ = data.current(store, settings)
    if not desk.pairs:
        start.draw(store, data.overview(store))
        return
    judging.pair(desk, settings, ground)
