"""What Longshore remembers, and where: layout, records, names, locks, exit records."""

from longshore.store.layout import Layout, Paths
from longshore.store.records import Record, Run, Store

__all__ = ["Layout", "Paths", "Record", "Run", "Store"]
