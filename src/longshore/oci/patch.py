"""JSON merge patches (RFC 7396), and what a patched spec must still be."""

from __future__ import annotations

from longshore._value import is_list
from longshore.errors import InvalidArgument

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


# What a start itself reads, and what no runtime does without (runtime-spec, config.md).
_SHAPE: tuple[tuple[tuple[str, ...], type, str], ...] = (
    (("ociVersion",), str, "text"),
    (("root",), dict, "an object"),
    (("root", "path"), str, "text"),
    (("process",), dict, "an object"),
    (("process", "args"), list, "a list"),
    (("process", "cwd"), str, "text"),
    (("mounts",), list, "a list"),
    (("linux",), dict, "an object"),
    (("linux", "namespaces"), list, "a list"),
)


def check_patched(spec: Any, cgroups_path: str) -> None:
    """Refuse a patched spec that no runtime could run, or whose cgroup nobody would find again."""
    for path, kind, words in _SHAPE:
        value = spec
        for key in path:
            value = (_object(value) or {}).get(key)
        if not isinstance(value, kind):
            raise InvalidArgument(
                f"the patched spec's {'.'.join(path)} is {value!r}, not {words}",
                hint="see the runtime-spec, config.md",
            )
    args = spec["process"]["args"]
    if not args or not all(isinstance(word, str) for word in args):
        raise InvalidArgument(f"the patched spec's process.args is {args!r}, not a list of words")
    env = spec["process"].get("env", [])
    if not is_list(env) or not all(isinstance(word, str) for word in env):
        raise InvalidArgument(f"the patched spec's process.env is {env!r}, not a list of words")
    if spec["linux"].get("cgroupsPath", "") != cgroups_path:
        raise InvalidArgument(
            f"the patched spec's linux.cgroupsPath is {spec['linux'].get('cgroupsPath')!r}",
            hint=f"leave it at {cgroups_path!r}, where it is measured and ended; "
            "cgroup_parent= chooses its place",
        )
