"""``longshore version``: the versions of Longshore and of what it drives."""

from __future__ import annotations

import os
import sys

from longshore.cli.flags import TEXT, Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Show versions."""
    from longshore.cli import formatting

    found = app.engine.version()
    uname = os.uname()
    runtimes = [{"Name": r.name, "Path": r.path, "Version": r.version} for r in found.runtimes]
    document = {
        "Client": {
            "Name": "Longshore",
            "APIVersion": found.longshore,
            "Version": found.longshore,
            "PythonVersion": found.python,
            "OsArch": f"linux/{uname.machine}",
            "Os": "linux",
            "Kernel": found.kernel,
            "Conmon": found.conmon,
            "Runtimes": runtimes,
        }
    }
    form = parsed.text("format")
    if form and formatting.is_json(form):
        from longshore.cli.govalues import to_json

        text = to_json(document) + "\n"
    elif form:
        text = formatting.one(form, document)
    else:
        lines = [
            ("Client:", "Longshore"),
            ("Version:", found.longshore),
            ("Python:", found.python),
            ("OS/Arch:", f"linux/{uname.machine}"),
            ("Kernel:", found.kernel),
            ("conmon:", found.conmon or "not found"),
            *((f"{r.name}:", f"{r.version} ({r.path})") for r in found.runtimes),
        ]
        width = max(len(label) for label, _ in lines) + 2
        text = "".join(f"{label:<{width}}{value}\n" for label, value in lines)
    sys.stdout.write(text)
    return 0


COMMAND = Command(
    run,
    usage="[options]",
    examples=("version", "version --format '{{.Client.Version}}'"),
    flags=(Flag("format", "f", TEXT, "Print as JSON or through a Go template"),),
)
