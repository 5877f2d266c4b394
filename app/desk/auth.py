"""The login of a desk that is open to other machines: a name and a shared token.

The server knows only the token's SHA-256; it is compared in constant time, and a wrong one costs
a second. A session stays logged in: there is no cookie, and nothing in the address.
"""

import hashlib
import hmac
import time

import streamlit as st

from app.desk import state
from app.desk.components import text

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


def show_login(settings: state.Settings) -> None:
    """The page that asks for a name and the token, and says nothing about the store."""
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
