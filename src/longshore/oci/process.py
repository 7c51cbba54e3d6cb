"""Describe a second process of a container: the runtime-spec's ``process`` object. Pure.

It begins as the container's own, from its config.json: the same limits, profile, label, mask and
environment. Then comes what was asked for. Both crun and runc take it with ``exec --process``.
"""

from __future__ import annotations

from longshore.errors import HostUnsupported
from longshore.oci.privilege import capability_sets, names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.oci.schema import Capabilities, Process, Spec, User
    from longshore.oci.users import ResolvedUser
    from longshore.options.execs import ExecConfig

# Sockets that are handed to the container's first program, and to nobody else (sd_listen_fds(3)).
_FIRST_ONLY = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET")


def exec_process(
    spec: Spec, config: ExecConfig, user: ResolvedUser | None = None, *, bounding_mask: int = 0
) -> Process:
    """Return the process that ``config`` asks for, in the container that ``spec`` describes.

    ``user`` is who ``config.user`` is inside the container's root (`users.resolve_user`), or None
    when nobody was asked for. ``bounding_mask`` is what this process may hand on (CapBnd of
    /proc/self/status); only ``privileged`` and ``cap_add`` need it. HostUnsupported when a
    capability that was asked for by name cannot be had.
    """
    own = spec["process"]
    who = _user(own["user"], user)
    process: Process = {**own, "args": list(config.command), "user": who}
    process["env"] = [f"{name}={value}" for name, value in _environment(own, config, user).items()]
    if config.workdir:
        process["cwd"] = config.workdir
    process["capabilities"] = _capabilities(own, config, who["uid"], bounding_mask)
    if config.privileged:
        process.pop("apparmorProfile", None)
        process.pop("selinuxLabel", None)
    if config.no_new_privileges:
        process["noNewPrivileges"] = True
    process["terminal"] = config.tty
    process.pop("consoleSize", None)
    if config.console_size is not None:
        rows, columns = config.console_size
        process["consoleSize"] = {"height": rows, "width": columns}
    return process


def _user(own: User, asked: ResolvedUser | None) -> User:
    if asked is None:
        return own
    who: User = {"uid": asked.uid, "gid": asked.gid}
    if "umask" in own:
        who["umask"] = own["umask"]
    if asked.groups:
        who["additionalGids"] = list(asked.groups)
    return who


def _environment(own: Process, config: ExecConfig, user: ResolvedUser | None) -> dict[str, str]:
    """Return the container's variables, then those asked for. HOME is that of another user."""
    env = {name: value for name, _, value in (word.partition("=") for word in own.get("env", ()))}
    for name in _FIRST_ONLY:
        env.pop(name, None)
    if user is not None and user.uid != own["user"]["uid"]:
        env["HOME"] = user.home
    if config.tty:
        env.setdefault("TERM", "xterm")
    return {**env, **config.env}


def _capabilities(own: Process, config: ExecConfig, uid: int, mask: int) -> Capabilities:
    held = own.get("capabilities", {})
    if not (config.privileged or config.cap_add) and uid == own["user"]["uid"]:
        return held
    bounding = frozenset(held.get("bounding", ()))
    if config.privileged or config.cap_add:
        available = frozenset(names_of(mask))
        asked = frozenset(config.cap_add) - {"CAP_ALL"}
        if missing := sorted(asked - available):
            raise HostUnsupported(
                f"cap_add: {', '.join(missing)}",
                "this process may not hand it on (CapBnd of /proc/self/status)",
                hint="leave it out, or run Longshore with more privilege",
            )
        everything = config.privileged or "CAP_ALL" in config.cap_add
        bounding |= available if everything else asked
    # what the container's own user was given by name stays theirs
    ambient = held.get("ambient", ()) if uid == own["user"]["uid"] else ()
    return capability_sets((*config.cap_add, *ambient), sorted(bounding), uid)
