"""The curator's desk: a Streamlit app over one store. Streamlit is imported here and nowhere else.

serve.py starts the server, main.py is the page frame and the list of pages, access.py the door
where a token is asked for, state.py what a session remembers and the links, ledger.py the verdicts,
shared.py a run's queue in memory, data.py cached reads, pictures.py images at the size they are
shown, saved.py named views; components/ draw parts of a page, views/ are the pages.
"""
