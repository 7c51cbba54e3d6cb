"""``longshore doctor``: what is missing on this host, and what mends it."""

from __future__ import annotations

import sys

from longshore.cli.flags import TEXT, Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed


def run(app: App, parsed: Parsed) -> int:
    """Print every finding; 0 when nothing is missing, else 1."""
    findings = app.engine.doctor()
    form = parsed.text("format")
    rows = [
        {
            "Name": one.name,
            "OK": one.ok,
            "Found": one.found,
            "NeededFor": one.needed_for,
            "Hint": one.hint,
        }
        for one in findings
    ]
    if form:
        from longshore.cli import formatting
        from longshore.cli.govalues import to_json

        if formatting.is_json(form):
            text = to_json(rows, indent=2) + "\n"
        else:
            headings = {"OK": "OK", "NeededFor": "NEEDED FOR"}
            headings |= {key: key.upper() for key in rows[0]} | headings if rows else {}
            text = formatting.rows(form, rows, headings)
    else:
        from longshore.cli.table import columns, printable

        lines = columns(
            [("", "WHAT", "NEEDED FOR", "FOUND")]
            + [("ok" if f.ok else "MISSING", f.name, f.needed_for, f.found) for f in findings]
        )
        hints = [f"{printable(f.name)}: {f.hint}" for f in findings if not f.ok and f.hint]
        text = lines + ("\nTo mend it:\n" + "".join(f"  {h}\n" for h in hints) if hints else "")
    sys.stdout.write(text)
    return 0 if all(one.ok for one in findings) else 1


COMMAND = Command(
    run,
    usage="[options]",
    about="""
Looks at everything that containers need on this host. What is missing is shown with what it is
needed for and the command that mends it; the exit code is then 1.""",
    flags=(Flag("format", "f", TEXT, "Print as JSON or through a Go template"),),
)
