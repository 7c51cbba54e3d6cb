"""The OCI runtime driver: one binary, its verbs, flags, quirks and errors."""

from longshore.runtime.driver import Runtime, RuntimeState

__all__ = ["Runtime", "RuntimeState"]
