"""``longshore doctor``: what is missing on this host, and what mends it."""

from __future__ import annotations

import sys

from longshore.cli.flags import TEXT, Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.cli.app import App
    from longshore.cli.flags import Parsed
    from longshore.engine.host import Finding


def run(app: App, parsed: Parsed) -> int:
    """Print every finding; 0 when nothing that containers need is missing, else 1."""
    findings = app.engine.doctor()
    form = parsed.text("format")
    rows = [
        {
            "Name": one.name,
            "OK": one.ok,
            "Found": one.found,
            "NeededFor": one.needed_for,
            "Hint": one.hint,
            "Essential": one.essential,
            "Features": list(one.features),
            "Limits": [{"What": n.what, "Why": n.why, "Hint": n.hint} for n in one.limits],
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
            + [(_word(f), f.name, f.needed_for, f.found) for f in findings]
        )
        hints = [f"{printable(f.name)}: {printable(f.hint)}" for f in findings if not f.ok]
        text = lines + "".join(map(_details, findings))
        text += "\nTo mend it:\n" + "".join(f"  {h}\n" for h in hints) if hints else ""
    sys.stdout.write(text)
    return 0 if all(one.ok or not one.essential for one in findings) else 1


def _word(finding: Finding) -> str:
    return "ok" if finding.ok else "MISSING" if finding.essential else "absent"


def _details(finding: Finding) -> str:
    """Return what a program can do, and what will not work with it, below its name."""
    from longshore.cli.table import printable

    if not finding.features and not finding.limits:
        return ""
    text = f"\n{printable(finding.name)}\n"
    if finding.features:
        text += f"  features: {printable(', '.join(finding.features))}\n"
    for limit in finding.limits:
        text += f"  will not work: {printable(limit.what)}\n    because {printable(limit.why)}\n"
        text += f"    {printable(limit.hint)}\n" if limit.hint else ""
    return text


COMMAND = Command(
    run,
    usage="[options]",
    about="""
Looks at everything that containers need on this host. What is missing is shown with what it is
needed for and the command that mends it. Each runtime is tried out, and shown with what it can do
and what will not work with it here. The exit code is 1 when something is MISSING; what is only
absent is needed for less than running containers.""",
    flags=(Flag("format", "f", TEXT, "Print as JSON or through a Go template"),),
)
