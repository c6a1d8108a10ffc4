"""How runs are started: the Prefect flow and the sclip command."""
