"""Try a runtime out: does it come as far as executing a program, here and now?

Nothing that is known of a version tells that as well: a runtime may lack a capability, a cgroup
controller, a kernel's feature. The container has an empty root, so the one thing that may go wrong
is that its program is not there.
"""

from __future__ import annotations

import json
import os
import tempfile

from longshore.cgroup.placement import DEFAULT_PARENT, Cgroupfs, Placement, Unplaced
from longshore.errors import LongshoreError, ProgramNotFound, RuntimeFailed
from longshore.linux.procs import clean_env, run
from longshore.runtime import Runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.engine.machinery import Machinery
    from longshore.oci.schema import Linux, Resources, Spec

_PROGRAM = "/longshore-doctor"
_TIMEOUT = 30.0  # seconds


def trouble(machinery: Machinery, runtime: Runtime) -> LongshoreError | None:
    """Return why a runtime cannot run a container here; None when it can. Leaves nothing."""
    name = f"doctor-{os.getpid()}"
    # a user's runtime has to be content with the cgroup that it is in
    placement: Placement = Unplaced()
    if machinery.user is None:
        placement = Cgroupfs(machinery.cgroup_layout, DEFAULT_PARENT, name)
    with tempfile.TemporaryDirectory(prefix="longshore-doctor-") as top:
        for directory in ("dev", "proc"):
            os.makedirs(f"{top}/rootfs/{directory}")
        with open(f"{top}/config.json", "w", encoding="utf-8") as file:
            json.dump(_spec(machinery, f"{top}/rootfs", placement.runtime.path), file)
        own = runtime.sandbox_flags("none") if runtime.sandboxes() else ()
        tried = Runtime(
            runtime.name,
            runtime.path,
            state_dir=f"{top}/state",
            cache_dir=runtime.cache,
            flags=(*own, *runtime.flags),
            timeout=_TIMEOUT,
            entering=machinery.entering,
        )
        try:
            argv = tried.argv(("run", "--bundle", top, name))
            done = run(argv, env=clean_env(), timeout=_TIMEOUT)
            if done.returncode == 0:
                return RuntimeFailed(f"{runtime.name} ran a program that is not there")
            error = tried.failed(done.words, "try", name, log=None)
            return None if isinstance(error, ProgramNotFound) else error
        except LongshoreError as error:
            return error
        finally:
            try:
                tried.delete(name)
            except LongshoreError:
                pass
            placement.remove()


def _spec(machinery: Machinery, root: str, cgroup: str) -> Spec:
    # what every container of ours has, and some runtimes cannot do on some hosts
    resources: Resources = {"devices": [{"allow": False, "access": "rwm"}]}
    if "pids" in machinery.cgroup_layout.controllers():
        resources["pids"] = {"limit": 100}
    linux: Linux = {
        "namespaces": [
            {"type": "pid"},
            {"type": "mount"},
            {"type": "ipc"},
            {"type": "uts"},
            {"type": "network"},
        ]
    }
    if cgroup:
        linux |= {"cgroupsPath": cgroup, "resources": resources}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "args": [_PROGRAM],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": False},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": []}],
        "linux": linux,
    }
