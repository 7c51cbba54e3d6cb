"""cgroup/bus.py against a scripted systemd that speaks D-Bus: what it asks, and how it fails."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longshore.cgroup import bus
from longshore.cgroup.bus import Manager, Refused
from longshore.errors import HostUnsupported, LongshoreError, OperationTimeout
from peers.fake_systemd import FakeSystemd

UNIT = "machine-longshore_ab.slice"
PROPERTIES: list[bus.Property] = [("Description", ("s", "x")), ("PIDs", ("au", [1, 2]))]


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[FakeSystemd]:
    with FakeSystemd(tmp_path, root="/docker/x") as made:
        yield made


def talk(systemd: FakeSystemd, seconds: float = 30) -> Manager:
    return Manager(systemd.address, time.monotonic() + seconds)


def start(systemd: FakeSystemd, unit: str = UNIT, seconds: float = 30) -> LongshoreError | None:
    with talk(systemd, seconds) as manager:
        (error,) = manager.start([(unit, PROPERTIES)])
    return error


def test_where_its_cgroups_are(systemd: FakeSystemd) -> None:
    with talk(systemd) as manager:
        assert manager.root() == "/docker/x"
    assert systemd.calls == [("Hello",), ("Get", f"{bus._SYSTEMD}.Manager", "ControlGroup")]


@pytest.mark.parametrize(("found", "root"), [("", ""), ("/", ""), ("/a/", "/a")])
def test_the_root_of_the_tree_is_nothing(systemd: FakeSystemd, found: str, root: str) -> None:
    systemd.root = found
    with talk(systemd) as manager:
        assert manager.root() == root


def test_a_unit_is_started_with_its_properties(systemd: FakeSystemd) -> None:
    assert start(systemd) is None
    assert systemd.units == {UNIT: {"Description": "x", "PIDs": [1, 2]}}
    assert [call[0] for call in systemd.calls] == ["Hello", "AddMatch", "StartTransientUnit"]
    assert systemd.calls[-1][1:3] == (UNIT, "replace")


def test_everything_goes_out_at_once(systemd: FakeSystemd) -> None:
    """Two units cost one round trip: what is known beforehand waits for no answer."""
    with talk(systemd) as manager:
        assert manager.start([("a.slice", PROPERTIES), ("b.scope", PROPERTIES)]) == [None, None]
    assert (systemd.connections, systemd.writes) == (1, 1)
    assert list(systemd.units) == ["a.slice", "b.scope"]


def test_an_end_that_is_told_before_the_answer(systemd: FakeSystemd) -> None:
    systemd.script[UNIT] = ["early"]
    assert start(systemd) is None


@pytest.mark.parametrize("result", ["failed", "timeout", "canceled", "dependency", "skipped"])
def test_a_job_that_fails_names_unit_and_result(systemd: FakeSystemd, result: str) -> None:
    systemd.script[UNIT] = [result]
    error = start(systemd)
    assert str(error) == f"cannot start {UNIT}: the job of systemd ended as {result!r}"
    assert error is not None and f"systemctl status {UNIT}" in (error.hint or "")


def test_only_systemd_says_how_a_job_ended(systemd: FakeSystemd) -> None:
    systemd.script[UNIT] = ["forged"]
    assert "'failed'" in str(start(systemd))


def test_one_of_two_that_fails_is_that_one(systemd: FakeSystemd) -> None:
    systemd.script["b.scope"] = ["failed"]
    with talk(systemd) as manager:
        first, second = manager.start([("a.slice", PROPERTIES), ("b.scope", PROPERTIES)])
    assert first is None
    assert "b.scope" in str(second)


def test_what_systemd_refuses_has_its_words(systemd: FakeSystemd) -> None:
    systemd.script[UNIT] = ["exists", "denied"]
    error = start(systemd)
    assert isinstance(error, Refused)
    assert error.name == bus.UNIT_EXISTS
    assert str(error) == f"cannot start {UNIT}: systemd says: Unit {UNIT} already exists."
    assert error.hint is None
    error = start(systemd)
    assert isinstance(error, Refused)
    assert "root" in (error.hint or "")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.name, again.hint) == (str(error), error.name, error.hint)


@pytest.mark.parametrize("outcome", ["never", "silent"])
def test_a_deadline_is_kept(systemd: FakeSystemd, outcome: str) -> None:
    systemd.script[UNIT] = [outcome]
    with pytest.raises(OperationTimeout, match=f"cannot start {UNIT}"):
        start(systemd, seconds=0.05)


def test_a_bus_that_goes_away(systemd: FakeSystemd) -> None:
    systemd.script[UNIT] = ["gone"]
    with pytest.raises(LongshoreError, match=f"cannot start {UNIT}.*closed") as caught:
        start(systemd)
    assert "cgroupfs" in (caught.value.hint or "")


def test_a_bus_that_does_not_want_us(tmp_path: Path) -> None:
    with (
        FakeSystemd(tmp_path, auth=b"REJECTED EXTERNAL") as systemd,
        pytest.raises(LongshoreError, match="it refuses us: REJECTED EXTERNAL"),
    ):
        start(systemd)


def test_a_bus_that_speaks_something_else(tmp_path: Path) -> None:
    with (
        FakeSystemd(tmp_path, auth=b"OK?") as systemd,
        pytest.raises(LongshoreError, match="it refuses us"),
    ):
        start(systemd)


@pytest.mark.parametrize("address", ["unix:path={}/nothing", "tcp:host=localhost", "nonsense", ""])
def test_no_bus(tmp_path: Path, address: str) -> None:
    with pytest.raises(HostUnsupported) as caught:
        Manager(address.format(tmp_path), time.monotonic() + 30)
    assert "needs D-Bus" in str(caught.value)
    assert "--cgroup-manager cgroupfs" in (caught.value.hint or "")


def test_stopping(systemd: FakeSystemd) -> None:
    start(systemd)
    with talk(systemd) as manager:
        manager.stop(UNIT, forget=("x.scope",))
    assert systemd.units == {}
    with talk(systemd) as manager:
        manager.stop(UNIT)  # what is not there is fine
    systemd.script[UNIT] = ["failed", "denied"]
    for words in ("'failed'", "Access denied"):
        with talk(systemd) as manager, pytest.raises(LongshoreError, match=words):
            manager.stop(UNIT)


def test_units_that_are_there(systemd: FakeSystemd) -> None:
    start(systemd)
    with talk(systemd) as manager:
        assert manager.units("*longshore_*.slice") == [(UNIT, "x")]
    assert systemd.calls[-1] == ("ListUnitsByPatterns", [], ["*longshore_*.slice"])


def test_units_without_a_process(systemd: FakeSystemd) -> None:
    start(systemd)
    with talk(systemd) as manager:
        assert not manager.is_empty(UNIT)
        assert manager.is_empty("gone.scope")
    systemd.ended = {1, 2}
    with talk(systemd) as manager:
        assert manager.is_empty(UNIT)


def test_which_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert bus.address(user=False) == "unix:path=/run/dbus/system_bus_socket"
    with pytest.raises(HostUnsupported, match="XDG_RUNTIME_DIR"):
        bus.address(user=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert bus.address(user=True) == "unix:path=/run/user/1000/bus"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=x")
    assert bus.address(user=True) == "unix:abstract=x"
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/b")
    assert bus.address(user=False) == "unix:path=/b"
