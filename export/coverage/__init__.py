"""Which networks can be differentiated, and how exactly: ``python -m export.coverage``."""
