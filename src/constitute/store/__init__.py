"""What a run holds on disk: each row's answers and how it ended, in one SQLite file, and what made them.

Start at `sqlite.Store`; `manifest` says which settings made the rows.
"""

from constitute.store.lookup import chain_of, first_ids
from constitute.store.sqlite import FILE_NAME, Store

__all__ = ["FILE_NAME", "Store", "chain_of", "first_ids"]
