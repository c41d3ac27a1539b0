"""The run directory's one SQLite file."""

from constitute.store.lookup import chain_of
from constitute.store.sqlite import FILE_NAME, Store

__all__ = ["FILE_NAME", "Store", "chain_of"]
