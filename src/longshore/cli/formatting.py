"""``--format``: JSON, a table, or a template for each row."""

from __future__ import annotations

from longshore.cli.govalues import is_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def is_json(form: str) -> bool:
    """Return whether a format asks for JSON, in podman's or docker's spelling."""
    return form.strip() in ("json", "{{json .}}", "{{ json . }}")


def unescaped(form: str) -> str:
    r"""Return a format with ``\t``, ``\n`` and their like made real: shells do not."""
    if "\\" not in form:
        return form
    import re

    return re.sub(r"\\([abfnrtv])", lambda found: _ESCAPES[found.group(1)], form)


def rows(form: str, found: Sequence[dict[str, Any]], headings: dict[str, Any]) -> str:
    """Return a line for each row; ``table …`` aligns them under the headings of their fields."""
    from longshore.cli.template import Template

    is_table = form.strip() == "table" or form.startswith("table ")
    form = unescaped(form.removeprefix("table").strip() if is_table else form)
    template = Template(form)
    if not is_table:
        return "".join(_line(template.render(row)) for row in found)
    from longshore.cli.table import columns

    lines = [template.render(row) for row in ([headings] if headings else []) + list(found)]
    return columns([line.rstrip("\n").split("\t") for line in lines])


def one(form: str, document: Any) -> str:
    """Return one document through a template, ending in a newline."""
    from longshore.cli.template import Template

    return _line(Template(unescaped(form)).render(document))


def _line(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def yaml(value: Any, indent: str = "") -> str:
    """Return plain data as YAML, enough for what `info` shows."""
    if is_dict(value):
        return "".join(f"{indent}{key}:{_yaml_value(v, indent)}" for key, v in value.items())
    return "".join(
        f"{indent}-{_yaml_value(v, indent + '  ')}"
        if not isinstance(v, dict)
        else f"{indent}- {yaml(v, indent + '  ').lstrip()}"
        for v in value
    )


def _yaml_value(value: Any, indent: str) -> str:
    if isinstance(value, (dict, list)) and value:
        return "\n" + yaml(value, indent + "  " if isinstance(value, dict) else indent)
    if value is None or isinstance(value, (bool, int, float, dict, list)):
        import json

        return f" {json.dumps(value)}\n"
    text = str(value)
    plain = text and text[0].isalpha() and text.isprintable() and text == text.strip()
    plain = plain and not any(mark in text for mark in (": ", " #")) and not text.endswith(":")
    if text.startswith("/") and text.isprintable() and " " not in text and ":" not in text:
        plain = True
    if not plain or text.lower() in ("true", "false", "yes", "no", "null", "on", "off"):
        import json

        text = json.dumps(text, ensure_ascii=False)
    return f" {text}\n"
