"""Who may see the desk where it is open to other machines: whoever knows the token, after naming
themself.

The server knows the token's SHA-256 alone; it is compared in constant time, and a wrong one costs
a second. Being admitted is a matter of the session: no cookie, nothing in the address.
"""

import hashlib
import hmac
import time

import streamlit as st

from app.desk import state
from app.desk.components import messages as notice

_WAIT_SECONDS = 1.0
_LONGEST = 60


def digest(token: str) -> str:
    """What the server is told of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def fits(token: str, wanted: str) -> bool:
    """Whether a token has the digest `wanted`; takes as long whichever it is."""
    return hmac.compare_digest(digest(token).encode(), wanted.encode())


def admitted(settings: state.Settings) -> bool:
    """Whether this session may see the desk."""
    return not settings.token or bool(st.session_state.get("admitted"))


def door(settings: state.Settings) -> None:
    """The page that asks for a name and the token, and says nothing of the store."""
    _, middle, _ = st.columns([1, 1.2, 1])
    with middle, st.form("door", border=True):
        st.subheader("The desk is locked")
        st.text_input("Your name; your verdicts carry it", key="door-name", max_chars=_LONGEST)
        st.text_input("Token", type="password", key="door-token")
        if st.session_state.get("door-problem"):
            notice.sentence(st.session_state["door-problem"])
        st.form_submit_button("Open the desk", type="primary", on_click=_knock, args=(settings,))


def _knock(settings: state.Settings) -> None:
    name = " ".join(st.session_state["door-name"].split())
    token = st.session_state["door-token"]
    if not fits(token, settings.token):
        time.sleep(_WAIT_SECONDS)
        problem = "This is not the token; ask whoever started the desk for it."
    elif not name:
        problem = "Type a name, so that verdicts say whose they are."
    else:
        st.session_state["admitted"], st.session_state["curator"] = True, name
        problem = ""
    st.session_state["door-problem"] = problem
