"""The login of a desk that is open to other machines: a name and a shared token.

The server knows only the token's SHA-256; it is compared in constant time, and a wrong one costs
a second. There is no cookie, and nothing in the address. So that a reload does not ask again, the
browser's tab keeps a pass (sessionStorage), which is good for one reload of this server's desk.
"""

import hashlib
import hmac
import secrets
import time

import streamlit as st

from app.desk import state
from app.desk.components import text

_JS = """
export default function ({ data, setTriggerValue }) {
  const name = "outvoted-pass";
  const pass = sessionStorage.getItem(name);
  if (data.keep) return sessionStorage.setItem(name, data.keep);
  sessionStorage.removeItem(name);
  if (pass) setTriggerValue("shown", pass);
}
"""
_pass = st.components.v2.component("outvoted_pass", js=_JS)

_WAIT_SECONDS = 1.0
_LONGEST = 60


def digest(token: str) -> str:
    """The SHA-256 of a token, which is what the server is given."""
    return hashlib.sha256(token.encode()).hexdigest()


def matches(token: str, wanted: str) -> bool:
    """Whether a token has the digest `wanted`, in constant time."""
    return hmac.compare_digest(digest(token).encode(), wanted.encode())


def is_logged_in(settings: state.Settings) -> bool:
    """Whether this session may see the desk."""
    return not settings.token or bool(st.session_state.get("logged-in"))


@st.cache_resource(show_spinner=False)
def _passes() -> dict[str, str]:
    """SHA-256 of every pass that was given out and not used -> its curator."""
    return {}


def keep_login(settings: state.Settings) -> None:
    """Give the tab a pass, with which it need not ask again after a reload."""
    if not settings.token:
        return
    if "pass" not in st.session_state:
        st.session_state["pass"] = secrets.token_urlsafe(32)
        _passes()[digest(st.session_state["pass"])] = st.session_state["curator"]
    with st.container(key="pass"):
        _pass(key="pass-kept", data={"keep": st.session_state["pass"]})


def _use_pass() -> None:
    curator = _passes().pop(digest(str(st.session_state["pass-asked"]["shown"])), None)
    if curator:
        st.session_state["logged-in"], st.session_state["curator"] = True, curator


def show_login(settings: state.Settings) -> None:
    """The page that asks for a name and the token, and says nothing about the store."""
    _pass(key="pass-asked", data={}, on_shown_change=_use_pass)
    _, middle, _ = st.columns([1, 1.2, 1])
    with middle, st.form("login", border=True):
        st.subheader("The desk is locked")
        st.text_input("Your name, saved with your verdicts", key="login-name", max_chars=_LONGEST)
        st.text_input("Token", type="password", key="login-token")
        if st.session_state.get("login-problem"):
            text.error(st.session_state["login-problem"])
        st.form_submit_button("Open the desk", type="primary", on_click=_log_in, args=(settings,))


def _log_in(settings: state.Settings) -> None:
    name = " ".join(st.session_state["login-name"].split())
    token = st.session_state["login-token"]
    if not matches(token, settings.token):
        time.sleep(_WAIT_SECONDS)
        problem = "This is not the token; ask the person who started the desk."
    elif not name:
        problem = "Type a name, so that your verdicts carry it."
    else:
        st.session_state["logged-in"], st.session_state["curator"] = True, name
        problem = ""
    st.session_state["login-problem"] = problem
