"""Limits of what runs: what a runtime is told, which control files then say what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore.engine import updating
from longshore.engine.limits import Facts, Plan, plan, unnamed
from longshore.linux import controls
from longshore.linux.cgroups import Hierarchy, Layout
from longshore.linux.controls import Control, numbers
from longshore.options import ContainerConfig

MIB = 1 << 20
V1 = Facts(version=1, cpus="0-3", mems="0", swappiness=60)
V2 = Facts(version=2, cpus="0-3", mems="0")
UNIT = V2.replace(systemd=True)


def planned(facts: Facts, *fields: str, devices: Any = {}, **config: Any) -> Plan:  # noqa: B006
    return plan(ContainerConfig(name="box", **config), fields, devices, facts)


def files(found: Plan) -> dict[str, str]:
    return {c.name: c.text().strip() for c in found.controls}


def test_memory() -> None:
    one = planned(V1, "memory", memory=64 * MIB)
    assert one.resources == {"memory": {"limit": 64 * MIB, "swap": 128 * MIB}}
    assert files(one) == {
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.memsw.limit_in_bytes": str(128 * MIB),
    }
    two = planned(V2, "memory_swap", memory=64 * MIB, memory_swap=80 * MIB)
    assert two.resources == {"memory": {"limit": 64 * MIB, "swap": 80 * MIB}}
    assert files(two) == {"memory.max": str(64 * MIB), "memory.swap.max": str(16 * MIB)}
    none = planned(V2, "memory")
    assert none.resources == {"memory": {"limit": -1, "swap": -1}}
    assert files(none) == {"memory.max": "max", "memory.swap.max": "max"}
    assert files(planned(V2.replace(swap=False), "memory", memory=MIB)) == {"memory.max": str(MIB)}


def test_memory_besides_its_limit() -> None:
    one = planned(V1, "memory_reservation", "memory_swappiness", memory_swappiness=5)
    assert one.resources == {"memory": {"reservation": -1, "swappiness": 5}}
    assert files(one) == {"memory.soft_limit_in_bytes": "-1", "memory.swappiness": "5"}
    assert files(planned(V1, "memory_swappiness")) == {"memory.swappiness": "60"}
    two = planned(V2, "memory_reservation", memory_reservation=MIB)
    assert (two.resources, files(two)) == (
        {"memory": {"reservation": MIB}},
        {"memory.low": str(MIB)},
    )
    assert files(planned(V2, "memory_reservation")) == {"memory.low": "0"}


def test_cpu() -> None:
    one = planned(V1, "cpu_quota", cpu_quota=5000, cpu_period=10000)
    assert one.resources == {"cpu": {"quota": 5000, "period": 10000}}
    assert files(one) == {"cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000"}
    assert files(planned(V2, "cpu_period", cpu_quota=5000)) == {"cpu.max": "5000 100000"}
    for facts, text in ((V1, {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}),
                        (V2, {"cpu.max": "max 100000"})):  # fmt: skip
        none = planned(facts, "cpu_quota", cpu_quota=-1)
        assert (none.resources, files(none)) == ({}, text)  # crun 1.8.1 takes no -1
        assert all(control.own for control in none.controls)
    assert planned(UNIT, "cpu_quota").resources == {"cpu": {"quota": -1, "period": 100000}}


def test_shares_and_sets() -> None:
    one = planned(V1, "cpu_shares", "cpuset_cpus", "cpuset_mems", cpu_shares=9, cpuset_cpus="1")
    assert one.resources == {"cpu": {"shares": 9, "cpus": "1", "mems": "0"}}
    assert files(one) == {"cpu.shares": "9", "cpuset.cpus": "1", "cpuset.mems": "0"}
    two = planned(V2, "cpu_shares", "cpuset_cpus")
    assert two.resources == {"cpu": {"cpus": "0-3"}}
    assert files(two) == {"cpu.weight": "100", "cpuset.cpus": "0-3"}
    converted = planned(V2, "cpu_shares", cpu_shares=9)  # each runtime does it in its own way
    assert (converted.resources, files(converted)) == ({"cpu": {"shares": 9}}, {"cpu.weight": ""})
    unit = planned(UNIT, "cpu_shares", "cpuset_cpus")
    assert unit.resources == {"cpu": {"shares": 1024, "cpus": "0-3"}}


def test_pids() -> None:
    assert planned(V1, "pids_limit", pids_limit=9).resources == {"pids": {"limit": 9}}
    for facts in (V1, V2):
        none = planned(facts, "pids_limit", pids_limit=-1)
        assert (none.resources, files(none)) == ({}, {"pids.max": "max"})
    assert planned(UNIT, "pids_limit", pids_limit=-1).resources == {"pids": {"limit": -1}}


def test_block_devices() -> None:
    devices: Any = {
        "device_read_bps": {(8, 0): 5, (8, 16): 0},
        "blkio_weight_device": {(8, 0): 300},
    }
    one = planned(V1, "device_read_bps", "blkio_weight", devices=devices, blkio_weight=200)
    assert one.resources == {
        "blockIO": {
            "weight": 200,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 300}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
        }
    }
    assert [c.text() for c in one.controls] == ["200", "8:0 300", "8:0 5", "8:16 0"]
    two = planned(V2, "device_read_bps", devices=devices)
    assert [(c.name, c.text()) for c in two.controls][-2:] == [
        ("io.max", "8:0 rbps=5"),
        ("io.max", "8:16 rbps=max"),
    ]


def test_what_is_not_named_is_in_no_plan() -> None:
    found = planned(V1, memory=MIB, cpu_quota=5000, pids_limit=5, cpuset_cpus="1", blkio_weight=9)
    assert (found.resources, found.controls) == ({}, [])
    assert {c.name.partition("|")[0] for c in unnamed(["blkio_weight"], 2)} == {"io.max"}
    assert "memory.swappiness" in {c.name for c in unnamed((), 1)}


@pytest.mark.parametrize(
    ("value", "more", "text", "holds"),
    [
        (str(64 * MIB), {}, f"{64 * MIB}\n", True),
        (str(64 * MIB + 5), {}, f"{64 * MIB}\n", True),  # cut down to whole pages
        (str(64 * MIB), {}, f"{65 * MIB}\n", False),
        ("-1", {}, "9223372036854771712\n", True),
        ("max", {}, "max\n", True),
        ("max", {}, "100\n", False),
        ("50", {}, "51\n", False),
        ("max 100000", {}, "max 100000\n", True),
        ("5000 100000", {}, "max 100000\n", False),
        ("0-2", {"kind": "set"}, "0-1,2\n", True),
        ("0", {"kind": "set"}, "0-1\n", False),
        (" ", {"kind": "set"}, "\n", True),
        ("", {"kind": "weight"}, "39\n", True),
        ("5", {"key": "8:0"}, "8:0 5\n8:16 9\n", True),
        ("9", {"key": "8:0"}, "8:0 5\n8:16 9\n", False),
        ("0", {"key": "8:0"}, "8:16 9\n", True),
        ("0", {"key": "8:16"}, "8:16 9\n", False),
        ("rbps=5", {"key": "8:0"}, "8:0 rbps=5 wbps=max riops=max wiops=max\n", True),
        ("rbps=max", {"key": "8:0"}, "8:0 rbps=5 wbps=max riops=max wiops=max\n", False),
        ("rbps=max", {"key": "8:0"}, "8:0 rbps=max wbps=7 riops=max wiops=max\n", True),
        ("rbps=max", {"key": "8:0"}, "", True),
        ("default", {"key": "8:0"}, "default 100\n", True),
        ("default", {"key": "8:0"}, "default 100\n8:0 50\n", False),
    ],
)
def test_holds(value: str, more: dict[str, str], text: str, holds: bool) -> None:
    control = Control(controller="x", name="x", value=value, **more)  # type: ignore[arg-type]
    assert control.holds(text) is holds


def test_free() -> None:
    limit = Control(controller="memory", name="memory.max", value="5")
    assert limit.is_free("max\n")
    assert not limit.is_free("7\n")
    rate = Control(controller="io", name="io.max", value="rbps=5", key="8:0")
    assert rate.is_free("8:16 rbps=7\n")
    assert not rate.is_free("8:0 rbps=7\n")
    assert numbers("0-2,7") == {0, 1, 2, 7}


@pytest.mark.parametrize(
    ("value", "key", "before", "after"),
    [
        ("5", "", "9\n", "5"),
        ("5", "8:0", "", "8:0 5\n"),
        ("5", "8:0", "8:0 9\n8:16 6\n", "8:0 5\n8:16 6\n"),
        ("0", "8:0", "8:0 9\n8:16 6\n", "8:16 6\n"),
        ("default", "8:0", "default 100\n8:0 9\n", "default 100\n"),
        ("rbps=5", "8:0", "", "8:0 rbps=5 wbps=max riops=max wiops=max\n"),
        ("rbps=5", "8:0", "8:0 rbps=9 wbps=7 riops=max wiops=max\n",
         "8:0 rbps=5 wbps=7 riops=max wiops=max\n"),
        ("wbps=max", "8:0", "8:0 rbps=max wbps=7 riops=max wiops=max\n", ""),
    ],
)  # fmt: skip
def test_what_a_file_says_afterwards(value: str, key: str, before: str, after: str) -> None:
    control = Control(controller="x", name="x", value=value, key=key)
    assert control.applied(before) == after
    assert control.holds(after)


def test_what_stays_noted_of_an_earlier_change(tmp_path: Path) -> None:
    names = ("memory.max", "pids.max", "io.max", "cpuset.cpus", "gone")
    memory, pids, rates, cpus, gone = (str(tmp_path / name) for name in names)
    texts = {memory: "9", pids: "9", cpus: "0-3", rates: "8:0 rbps=9 wbps=5 riops=max wiops=max\n"}
    for path, text in texts.items():
        Path(path).write_text(text)
    noted = {memory: "5", pids: "5", cpus: "0", rates: "", gone: "5"}
    wanted = [
        Control(controller="memory", name="memory.max", value="9"),
        Control(controller="io", name="io.max", value="wbps=5", key="8:0"),
    ]
    files = [(memory,), (rates,)]
    nested = {"top": [cpus]}
    assert updating._left(noted, wanted, files, nested) == {
        pids: "5",
        rates: "8:0 rbps=max wbps=5 riops=max wiops=max\n",
    }
    Path(pids).write_text("5\n")
    Path(rates).write_text("8:0 rbps=max wbps=5 riops=max wiops=max\n")
    assert updating._left(noted, wanted, files, nested) == {}


def test_the_file_that_is_there(tmp_path: Path) -> None:
    layout = Layout((Hierarchy(str(tmp_path), 1, frozenset({"blkio"})),))
    (tmp_path / "box").mkdir()
    control = Control(controller="blkio", name="blkio.weight|blkio.bfq.weight", value="5")
    assert control.file(layout, "/box") == ""
    (tmp_path / "box/blkio.bfq.weight").write_text("100\n")
    assert control.file(layout, "/box") == f"{tmp_path}/box/blkio.bfq.weight"
    assert Control(controller="memory", name="m", value="").file(layout, "/box") == ""


def test_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, rate = tmp_path / "memory.max", tmp_path / "blkio.throttle.read_bps_device"
    limit.write_text("5\n")
    rate.write_text("8:0 5\n8:16 6\n")
    before = {str(limit): "9\n", str(rate): "8:0 7\n", str(tmp_path / "gone"): "1\n"}
    written: list[tuple[str, str]] = []

    def write(path: str, text: str) -> None:
        written.append((Path(path).name, text))
        Path(path).write_text(before[path])

    monkeypatch.setattr(controls, "write", write)
    assert controls.restore(before) == []
    assert written == [
        ("memory.max", "9"),
        ("blkio.throttle.read_bps_device", "8:16 0"),
        ("blkio.throttle.read_bps_device", "8:0 7"),
    ]


class Devices:
    """The files of one cgroup that have a line for each device, as the kernel keeps them."""

    def __init__(self, files: dict[str, str], none: str) -> None:
        self.files = {name: self.entries(text) for name, text in files.items()}
        self.none = none

    @staticmethod
    def entries(text: str) -> dict[str, str]:
        return dict(line.split(maxsplit=1) for line in text.splitlines())

    def read(self, path: str) -> str:
        found = self.files.get(Path(path).name, {})
        return "".join(f"{key} {value}\n" for key, value in found.items())

    def write(self, path: str, text: str) -> None:
        key, _, value = text.partition(" ")
        if "\n" in text or not value:
            raise OSError(22, "one entry a write")
        if value == self.none:
            self.files[Path(path).name].pop(key, None)
        else:
            self.files[Path(path).name][key] = value


ALL = "rbps=max wbps=max riops=max wiops=max"


@pytest.mark.parametrize(
    ("name", "before", "now", "none"),
    [
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max\n", "", ALL),
        ("io.max", "", "8:0 rbps=5 wbps=max riops=max wiops=max\n", ALL),
        ("blkio.throttle.read_bps_device", "8:0 5\n8:16 6\n", "", "0"),
        ("blkio.throttle.write_iops_device", "", "8:0 5\n8:16 6\n", "0"),
        ("blkio.weight_device", "8:0 500\n", "", "0"),
        ("blkio.bfq.weight_device", "default 100\n", "default 100\n8:0 500\n", "default"),
        ("io.bfq.weight", "default 100\n8:0 200\n8:16 300\n", "default 50\n8:32 7\n", "default"),
        ("io.weight", "default 100\n8:0 200\n", "default 50\n8:32 7\n", "default"),
    ],
)
def test_devices_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, before: str, now: str, none: str
) -> None:
    kernel = Devices({name: now}, none)
    path = tmp_path / name
    path.touch()
    monkeypatch.setattr(controls, "read", kernel.read)
    monkeypatch.setattr(controls, "write", kernel.write)
    assert controls.restore({str(path): before}) == []
    assert kernel.files[name] == kernel.entries(before)


def test_what_cannot_be_limited_again_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "io.max"
    path.touch()

    def refuses(*_: str) -> None:
        raise OSError(19, "no such device")

    monkeypatch.setattr(controls, "write", refuses)
    assert controls.restore({str(path): "8:0 rbps=5 wbps=max riops=max wiops=max\n"}) == [str(path)]


def test_an_empty_cpuset_is_kept_as_what_it_comes_to(tmp_path: Path) -> None:
    directory = tmp_path / "box"
    directory.mkdir()
    (directory / "cpuset.cpus").write_text("\n")
    (directory / "cpuset.cpus.effective").write_text("0-3\n")
    assert controls.keep(f"{directory}/cpuset.cpus").strip() == "0-3"


def test_what_cannot_be_restored_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pids.max"
    file.write_text("5\n")

    def refuses(*_: str) -> None:
        raise OSError(16, "busy")

    monkeypatch.setattr(controls, "write", refuses)
    assert controls.restore({str(file): "9\n"}) == [str(file)]
