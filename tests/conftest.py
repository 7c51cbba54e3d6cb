"""What all tests share: marks by place, and the written list of skips."""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from effort import effort

# A busy machine makes an example slow, and no test is to fail for that.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=effort(100, 10),
)
settings.load_profile("unhurried")

ROOT = Path(__file__).parent.parent
# Of the host tests, those that say most about new versions of conmon and the runtimes.
EVERYWHERE = {
    *("test_activation", "test_create_failures", "test_ends", "test_exec", "test_isolation"),
    *("test_life", "test_start_failures", "test_stop", "test_tty", "test_usage"),
}
ALLOWED_SKIPS = Path(__file__).with_name("allowed-skips.txt")


def allowed_skips(text: str) -> dict[str, str]:
    """Return pattern → reason of the written list."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, _, reason = line.partition("  ")
            found[pattern] = reason.strip()
    return found


class SkipList:
    """Hold the skips of a session against the written list; in CI one that is not on it fails."""

    def __init__(self, allowed: dict[str, str], *, strict: bool) -> None:
        self.allowed = allowed
        self.strict = strict
        self.skipped: dict[str, str] = {}  # test id -> reason
        self.runtimes: dict[str, str] = {}  # runtime:name@layout -> why it was not used
        self.ran: set[str] = set()

    @property
    def unlisted(self) -> dict[str, str]:
        return {
            test: reason
            for test, reason in self.skipped.items()
            if not any(fnmatch(test, pattern) for pattern in self.allowed)
        }

    @property
    def outlived(self) -> list[str]:
        """Patterns all of whose tests ran here: they may be ready to be taken off the list."""
        return [
            pattern
            for pattern in self.allowed
            if any(fnmatch(test, pattern) for test in self.ran)
            and not any(fnmatch(test, pattern) for test in self.skipped)
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self.skipped[report.nodeid] = reason.removeprefix("Skipped: ")
        elif report.when == "call":
            self.ran.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # A runtime that does not work here has no tests at all, which is a skip of all of them.
        hostkit = sys.modules.get("hostkit")
        for runtime, trouble in getattr(hostkit, "probed", {}).items():
            name = f"runtime:{runtime}@{os.environ.get('LONGSHORE_TEST_HOST')}"
            if trouble:
                self.skipped[name] = self.runtimes[name] = trouble
            else:
                self.ran.add(name)
        if self.strict and self.unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for name, trouble in self.runtimes.items():
            terminalreporter.write_line(f"{name} was not used: {trouble}", yellow=True)
        for pattern in self.outlived:
            terminalreporter.write_line(
                f"allowed-skips.txt: {pattern} was not skipped here: does it still belong there?",
                yellow=True,
            )
        if self.strict and self.unlisted:
            terminalreporter.section("skips that are on no list", red=True)
            for test, reason in self.unlisted.items():
                terminalreporter.write_line(f"{test}: {reason}")


class Unsteady:
    """Tell which tests passed only when they were tried again; more than a few fail the session."""

    FEW = 2

    def __init__(self) -> None:
        self.first_tries: dict[str, str] = {}  # test id -> what was wrong

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if str(report.outcome) == "rerun":
            self.first_tries[report.nodeid] = report.longreprtext

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if len(self.first_tries) > self.FEW and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.first_tries:
            most = f"at most {self.FEW} are let pass"
            terminalreporter.section(f"failed when first tried ({most})", red=True)
        for test, wrong in self.first_tries.items():
            terminalreporter.write_line(f"{test}\n{wrong}")


def pytest_configure(config: pytest.Config) -> None:
    """Watch skips; strictly in CI."""
    config.pluginmanager.register(Unsteady(), "longshore-unsteady")
    strict = bool(os.environ.get("CI") or os.environ.get("LONGSHORE_CI"))
    config.pluginmanager.register(
        SkipList(allowed_skips(ALLOWED_SKIPS.read_text()), strict=strict), "longshore-skips"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by place: what is under host/ is a host test, and so on."""
    for item in items:
        part = item.path.relative_to(ROOT / "tests").parts[0]
        if part in ("host", "fresh", "testbed"):
            item.add_marker(part)
        if part == "contract":  # it drives the bare runtimes
            item.add_marker("root")
        if part == "contract" or (part == "host" and item.path.stem in EVERYWHERE):
            item.add_marker("everywhere")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The directory with pyproject.toml in it."""
    return ROOT
