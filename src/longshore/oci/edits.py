"""What CDI devices change in a spec. Pure: the host has been looked at by `oci.cdi`.

The order and what replaces what are those of the Container Device Interface's own library
(pkg/cdi/container-edits.go of tags.cncf.io/container-device-interface).
"""

from __future__ import annotations

from longshore._value import Value
from longshore.errors import InvalidArgument
from longshore.oci.patch import copy_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from longshore.oci.schema import DeviceNode, DeviceRule, Hook, MountPoint, Spec


class EditedNode(Value):
    """A device file; what is None is left to the runtime, the owner to the container's user."""

    path: str  # in the container
    type: str  # b, c or p
    major: int = 0
    minor: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    access: str = "rwm"


class Edits(Value):
    """Edits of one device or of many, in order."""

    env: tuple[str, ...] = ()  # NAME=VALUE
    nodes: tuple[EditedNode, ...] = ()
    mounts: tuple[MountPoint, ...] = ()
    hooks: tuple[tuple[str, Hook], ...] = ()  # stage, hook
    gids: tuple[int, ...] = ()
    intel_rdt: Mapping[str, Any] = {}

    def __add__(self, other: Edits) -> Edits:
        """Return these edits and then the others."""
        return Edits(
            env=self.env + other.env,
            nodes=self.nodes + other.nodes,
            mounts=self.mounts + other.mounts,
            hooks=self.hooks + other.hooks,
            gids=self.gids + other.gids,
            intel_rdt=other.intel_rdt or self.intel_rdt,
        )


def apply(spec: Spec, edits: Edits, *, asked: frozenset[str] = frozenset()) -> None:
    """Make the edits in a spec. ``asked`` are the targets of mounts that the caller asked for.

    A variable, device file or mount that is there already is replaced; but what the caller wants
    at a mount's place is not replaced in silence: InvalidArgument.
    """
    process, linux = spec["process"], spec["linux"]
    env = {name: value for name, _, value in (word.partition("=") for word in process["env"])}
    env.update((name, value) for name, _, value in (word.partition("=") for word in edits.env))
    process["env"] = [f"{name}={value}" for name, value in env.items()]
    for node in edits.nodes:
        # in the container's view a device belongs to its user, if the file does not say more
        made = _node(node, process["user"]["uid"], process["user"]["gid"])
        others = [d for d in linux.get("devices", ()) if d["path"] != node.path]
        linux["devices"] = [*others, made]
        if node.type != "p":
            rule: DeviceRule = {
                "allow": True,
                "type": node.type,
                "major": node.major,
                "minor": node.minor,
                "access": node.access,
            }
            linux.setdefault("resources", {}).setdefault("devices", []).append(rule)
    if edits.mounts:
        mounts = {mount["destination"]: mount for mount in spec["mounts"]}
        for mount in edits.mounts:
            target = mount["destination"]
            if target in asked:
                raise InvalidArgument(
                    f"a CDI device mounts {mount['source']} on {target}, where another mount is to "
                    "be",
                    hint="leave one of them out",
                )
            mounts.pop(target, None)
            mounts[target] = {**mount, "options": list(mount["options"])}
        spec["mounts"] = sorted(mounts.values(), key=lambda m: m["destination"].count("/"))
    if edits.hooks:
        hooks = {stage: list(found) for stage, found in spec.get("hooks", {}).items()}
        for stage, hook in edits.hooks:
            hooks.setdefault(stage, []).append(copy_json(hook))
        spec["hooks"] = hooks
    if gids := [gid for gid in edits.gids if gid != 0]:
        present = process["user"].get("additionalGids", [])
        process["user"]["additionalGids"] = list(dict.fromkeys([*present, *gids]))
    if edits.intel_rdt:
        linux["intelRdt"] = {**edits.intel_rdt}  # type: ignore[typeddict-item]  # checked keys


def _node(node: EditedNode, uid: int, gid: int) -> DeviceNode:
    made: DeviceNode = {
        "path": node.path,
        "type": node.type,
        "major": node.major,
        "minor": node.minor,
        "uid": uid if node.uid is None else node.uid,
        "gid": gid if node.gid is None else node.gid,
    }
    if node.mode is not None:
        made["fileMode"] = node.mode
    return made
