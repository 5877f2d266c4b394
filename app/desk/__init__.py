"""The curator's desk: a Streamlit app over one store. Only this package imports Streamlit.

serve.py starts the server; streamlit_app.py lists the pages and draws the frame around them.
page.py is what pages share; state.py what a session remembers; auth.py the login; verdict_state.py
the verdicts, and bulk_verdicts.py those on many pairs; image_cache.py and export_jobs.py are what
their names say. queries/ are cached reads, components/ draw parts of a
page, views/ are the pages.
"""
