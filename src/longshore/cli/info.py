"""``longshore info``: this host and the settings in use."""

from __future__ import annotations

import sys

from longshore.cli.flags import TEXT, Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Show this host."""
    from longshore.cli import formatting
    from longshore.cli.govalues import to_json

    document = _document(app)
    form = parsed.text("format")
    if not form:
        text = formatting.yaml(document)
    elif formatting.is_json(form):
        text = to_json(document, indent=2) + "\n"
    else:
        text = formatting.one(form, document)
    sys.stdout.write(text)
    return 0


def _document(app: App) -> dict[str, Any]:
    info = app.engine.info()
    versions = info.version
    runtimes = [
        {"name": runtime.name, "path": runtime.path, "version": runtime.version}
        for runtime in versions.runtimes
    ]
    default = next((one for one in runtimes if one["name"] == info.default_runtime), None)
    return {
        "host": {
            "arch": info.arch,
            "cgroupControllers": list(info.cgroup_controllers),
            "cgroupManager": info.cgroup_manager,
            "cgroupVersion": info.cgroup_mode,
            "conmon": {"path": info.conmon_path, "version": versions.conmon},
            "cpus": info.cpus,
            "hostname": info.hostname,
            "kernel": info.kernel,
            "logDriver": app.engine.settings.log_driver or "k8s-file",
            "memTotal": info.memory,
            "ociRuntime": default or {"name": "", "path": "", "version": ""},
            "ociRuntimes": runtimes,
            "os": "linux",
            "security": {
                "apparmorEnabled": info.apparmor,
                "rootless": info.rootless,
                "seccompEnabled": info.seccomp,
                "selinuxEnabled": info.selinux,
            },
        },
        "store": {
            "containerStore": {
                "number": info.containers,
                "running": info.running,
                "stopped": info.containers - info.running,
            },
            "graphRoot": info.root,
            "runRoot": info.run_root,
        },
        "version": {"Version": versions.longshore, "Python": versions.python},
    }


COMMAND = Command(
    run,
    usage="[options]",
    about="Shows this host, the programs found on it and the settings in use.",
    examples=("info", "info --format '{{.Host.OCIRuntime.Name}}'"),
    flags=(Flag("format", "f", TEXT, "Print as JSON or through a Go template"),),
)
