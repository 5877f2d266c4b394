"""The page Overview: what the store holds, what was decided, and what to do next."""

import streamlit as st

from app.desk import page as frame
from app.desk import state, summary
from app.desk.components import histogram
from app.desk.components import messages as notice
from app.desk.components.figures import on_ground
from app.desk.components.html_text import literal
from app.desk.queries import queue as data
from app.desk.queries.queue import Desk
from app.desk.views import getting_started as start
from toolkit.colors import VERDICT_COLOURS, Ground
from toolkit.store import Store
from toolkit.store.label_sets import ORIGINAL
from toolkit.store.queue.tables import FINDING, label_set_of
from toolkit.store.queue.view import View


def draw(store: Store, settings: state.Settings, ground: Ground) -> None:
    """The whole page."""
    found = summary.overview(store)
    run = settings.run or next(iter(data.runs_with_queue(store)), "")
    labels = label_set_of(store, run) if run else ORIGINAL
    verdicts = summary.verdict_counts(store, settings.journal, labels)
    st.title(store.root.name)
    st.html(f'<p class="desk-quiet desk-tight">{literal(str(store.root))}</p>')
    _counts(found, sum(verdicts.values()), summary.noise(store, run))
    if found.unfinished:
        _unfinished(found)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if run and run in data.runs_with_queue(store):
            _spread(data.desk(store, run, settings.journal), ground)
        _planted(store, run, ground)
        _runs(found)
    with right:
        _next(store, found, verdicts)
        _decided(verdicts, labels, found.totals["pairs"])
        _quarantine(found)


def _counts(found: summary.Overview, judged: int, noise: summary.Noise | None) -> None:
    numbers = {
        "pairs": f"{found.totals['pairs']:,}",
        "images": f"{found.totals['images']:,}",
        "label sets": f"{len(found.label_sets):,}",
        "runs": f"{len(found.runs):,}",
        "pairs with a verdict": f"{judged:,}",
        "quarantined": f"{found.totals['quarantine']:,}",
    }
    with st.container(horizontal=True, key="counts"):
        for word, number in numbers.items():
            st.metric(word, number, border=True)
        if noise is not None:
            value, about = _noise_words(noise)
            st.metric("estimated wrong labels", value, border=True, help=about)


def _noise_words(noise: summary.Noise) -> tuple[str, str]:
    """The estimate with its interval, and how it came about."""
    how = (
        "The margins read as a mixture of right and reversed labels. A right label's margin is "
        f"{noise.margin:.2f} times its usual size, its spread {noise.spread:.2f}: the smaller the "
        "first beside the second, the less an estimate means."
    )
    if noise.rate is None:
        return "cannot be told", f"Right and reversed labels form one heap here. {how}"
    if noise.low is None or noise.high is None:
        return f"{noise.rate:.0%}", how
    return f"{noise.rate:.0%} ({noise.low:.0%} to {noise.high:.0%})", f"95 % interval. {how}"


def _spread(desk: Desk, ground: Ground) -> None:
    """u of every pair; a click on a bar opens its pairs in the Queue."""
    whole, _ = data.spread(desk, View(run=desk.run), "minority")
    st.subheader("u of every pair")
    event = st.plotly_chart(
        histogram.clickable("u", whole, whole, ground, height=190, ticks=8),
        key=f"spread-{st.session_state['chart']}",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False, "doubleClick": False},
        alt="Histogram of u; a click on a bar opens its pairs in the Queue",
    )
    unknown = f" {whole.unknown:,} pairs have no u yet." if whole.unknown else ""
    st.html(
        f'<p class="desk-quiet">run {literal(desk.run)}: the further right, the more the model '
        f"sides against the label. A click on a bar opens its pairs in the Queue.{unknown}</p>"
    )
    number = histogram.picked_bin(event)
    if number is not None:
        bounds = (whole.edge(number), whole.edge(number + 1))
        last = number + 1 == len(whole.counts)
        view = View(run=desk.run).with_range("minority", bounds[0], None if last else bounds[1])
        state.open_page(state.HOME, view)


def _unfinished(found: summary.Overview) -> None:
    count = len(found.unfinished)
    some = ", ".join(str(path) for path in found.unfinished[:3])
    what = "file that a killed run left" if count == 1 else "files that killed runs left"
    notice.news(
        f"The store holds {count:,} unfinished {what}: {some}{' ...' if count > 3 else ''}. No "
        "reader looks at them; delete them once no run is writing to this store."
    )


def _planted(store: Store, run: str, ground: Ground) -> None:
    figure = summary.flipped_ratio(store, run) if run else None
    if figure is not None:
        st.subheader("Planted flips by u")
        st.plotly_chart(
            on_ground(figure, ground),
            theme=None,
            config={"displayModeBar": False},
            alt="Share of planted flips by bin of u",
        )
        st.html(
            f'<p class="desk-quiet">run {literal(run)}: labels that were flipped on purpose, and '
            "how many of them lie at each u. Bars that rise to the right say that u finds "
            "them.</p>"
        )


def _runs(found: summary.Overview) -> None:
    if not found.runs:
        return
    st.subheader("Runs and their findings")
    rows = "".join(
        f"<tr><td>{literal(run)}</td><td>{literal(_named(found.findings.get(run, [])))}</td></tr>"
        for run in found.runs
    )
    st.html(
        f'<table class="desk-table"><tr><th>run</th><th>findings</th></tr>{rows}</table>'
        f'<p class="desk-quiet">label sets: {literal(_named(found.label_sets))}</p>'
    )


def _named(names: list[str]) -> str:
    return ", ".join(names) or "none yet"


def _decided(verdicts: dict[str, int], labels: str, pairs: int) -> None:
    st.subheader("Curation")
    judged, most = sum(verdicts.values()), max(verdicts.values()) or 1
    done = judged / pairs if pairs else 0.0
    st.html(
        f'<div class="desk-row"><span class="desk-place">{judged:,} of {pairs:,} pairs</span>'
        f'<span class="desk-quiet">{done:.1%} with a verdict</span></div>'
        f'<div class="desk-bar"><span style="width: {100 * done:.2f}%"></span></div>'
    )
    rows = "".join(
        f'<div class="desk-tally"><span>{kind}</span><span class="desk-bar"><span style="width: '
        f'{100 * count / most:.1f}%; background: {VERDICT_COLOURS[kind]}"></span></span>'
        f"<b>{count:,}</b></div>"
        for kind, count in verdicts.items()
    )
    st.html(f'{rows}<p class="desk-quiet">held against label set {literal(labels)}</p>')


def _quarantine(found: summary.Overview) -> None:
    if found.reasons:
        st.subheader("Quarantined")
        rows = "".join(
            f"<tr><td>{literal(reason)}</td><td>{pairs:,}</td></tr>"
            for reason, pairs in found.reasons
        )
        st.html(f'<table class="desk-table">{rows}</table>')


def _next(store: Store, found: summary.Overview, verdicts: dict[str, int]) -> None:
    st.subheader("What to do next")
    missing = [need for need in start.needs(store, found) if not need.there]
    ready = any(FINDING in names for names in found.findings.values())
    if missing:
        st.text(missing[0].text)
        notice.command(missing[0].command)
    if ready and not sum(verdicts.values()):
        frame.page_link(
            state.HOME, "Judge the pairs with the largest u", icon=":material/arrow_forward:"
        )
    elif sum(verdicts.values()):
        st.text("Take the data out, with the verdicts applied:")
        notice.command(f"outvoted export {notice.path(store.root)} --out FOLDER")
