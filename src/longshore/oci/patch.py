"""JSON merge patches (RFC 7396)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` with ``patch`` applied; neither is changed, and nothing is shared.

    Members of objects are merged, None removes one, and everything else (lists too) replaces.
    """
    changes = _object(patch)
    if changes is None:
        return copy_json(patch)
    result: dict[str, Any] = copy_json(_object(target) or {})
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _object(value: Any) -> dict[str, Any] | None:
    # typed here once: isinstance alone leaves the members unknown
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


def copy_json(value: Any) -> Any:
    """Return JSON's own types, copied to the last member."""
    if (members := _object(value)) is not None:
        return {key: copy_json(item) for key, item in members.items()}
    if isinstance(value, (list, tuple)):
        return [copy_json(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
