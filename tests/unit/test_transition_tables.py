"""docs/architecture.md shows the tables as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from longshore.lifecycle import Fact, Op, Status


def _generate(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = checkout / "scripts/transition-tables"
    return subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=False
    )


def test_the_tables_in_the_documentation_are_current(checkout: Path) -> None:
    done = _generate(checkout, "--check")
    assert done.returncode == 0, done.stderr


def test_every_operation_fact_and_status_is_shown(checkout: Path) -> None:
    text = (checkout / "docs/architecture.md").read_text()
    shown = text.partition("<!-- begin: transition")[2].partition("<!-- end: transition")[0]
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    for member in (*Op, *Fact):
        assert names.count(member.value) == 1, member
    heads = [row for row in rows if row.startswith(("| asked ", "| seen "))]
    assert len(heads) == 2
    assert all(status.name in head for status in Status for head in heads)


def test_a_stale_table_is_found_and_mended(checkout: Path, tmp_path: Path) -> None:
    current = (checkout / "docs/architecture.md").read_text()
    page = tmp_path / "page.md"
    stale = current.replace("PAUSED", "PRESSED", 1)
    page.write_text(stale)
    done = _generate(checkout, "--check", str(page))
    assert (done.returncode, page.read_text()) == (1, stale)
    assert "run scripts/transition-tables" in done.stderr
    assert _generate(checkout, str(page)).returncode == 0
    assert page.read_text() == current


def test_a_page_without_markers_is_refused(checkout: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    done = _generate(checkout, str(page))
    assert (done.returncode, page.read_text()) == (2, "nothing\n")
    assert "markers" in done.stderr
