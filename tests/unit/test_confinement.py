"""engine/confinement.py with a scripted SELinux: which labels a container gets, keeps and frees."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from longshore.config import Settings
from longshore.engine import confinement
from longshore.engine.finishing import _forget
from longshore.engine.machinery import Machinery
from longshore.errors import HostUnsupported, InvalidArgument
from longshore.linux import selinux
from longshore.models import Mount
from longshore.oci.labels import level_of
from longshore.options import ContainerConfig
from longshore.store import Record
from peers.selinux import CALLER, ScriptedSELinux

PROCESS, FILE = "system_u:system_r:container_t", "system_u:object_r:container_file_t"


class Host:
    """A host with SELinux, and containers on it that have only records."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        root, run = str(tmp_path / "root"), str(tmp_path / "run")
        self.machinery = Machinery(Settings(root=root, run_root=run, **settings), runtime="/bin/sh")
        self.machinery.layout.prepare()
        self.selinux = ScriptedSELinux(tmp_path / "selinux")
        self.machinery.selinux = self.selinux
        self.count = 0

    def add(self, **config: Any) -> Record:
        self.count += 1
        record = Record(
            id=f"{self.count:064x}",
            config=ContainerConfig(name=f"box{self.count}", rootfs="/srv", **config),
            created_ns=1,
        )
        self.machinery.store.create(record)
        return self.start(record)

    def start(self, record: Record) -> Record:
        record = confinement.labelled(self.machinery, record)
        self.machinery.store.write(record)
        return record


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "selinux").mkdir()
    return Host(tmp_path)


def test_a_label_of_its_own_that_stays(host: Host) -> None:
    one, two = host.add(), host.add()
    level = level_of(one.process_label)
    assert one.process_label == f"{PROCESS}:{level}"
    assert one.mount_label == f"{FILE}:{level}"
    low, high = (int(part[1:]) for part in level.removeprefix("s0:").split(","))
    assert 0 <= low < high < 1024
    assert level_of(two.process_label) != level
    assert host.start(one) == one


def test_a_level_that_is_taken_is_not_given_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter([5 << 16 | 7, 5 << 16 | 7, 7 << 16 | 7, 1023 << 16 | 1022, 9 << 16 | 3])
    monkeypatch.setattr(os, "urandom", lambda _size: next(numbers).to_bytes(4, "little"))
    assert level_of(host.add().process_label) == "s0:c5,c7"
    assert level_of(host.add().process_label) == "s0:c3,c9", "taken, one category, unconfined"


def test_many_at_once_share_none(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # few levels, so that they meet
    lock, state = threading.Lock(), [0]

    def urandom(_size: int) -> bytes:
        with lock:
            state[0] += 1
            return ((state[0] // 3 % 12) << 16 | 20).to_bytes(4, "little")

    monkeypatch.setattr(os, "urandom", urandom)
    records = [Record(id=f"{n:064x}", config=ContainerConfig(name="x", rootfs="/"), created_ns=1)
               for n in range(12)]  # fmt: skip
    found: list[str] = []

    def work(record: Record) -> None:
        found.append(confinement.labelled(host.machinery, record).process_label)

    threads = [threading.Thread(target=work, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 12


def test_a_removed_container_gives_it_back(host: Host) -> None:
    record = host.add()
    levels = host.machinery.layout.levels
    assert os.listdir(levels) == [level_of(record.mount_label)]
    _forget(host.machinery, record, attended=True)
    assert os.listdir(levels) == []


@pytest.mark.parametrize(
    "config",
    [
        {"selinux_opts": ("disable",)},
        {"privileged": True},
        {"pid": "host"},
        {"ipc": "host", "selinux_opts": ("type:x_t",)},
    ],
)
def test_who_has_no_label(host: Host, config: dict[str, Any]) -> None:
    record = host.add(**config)
    assert record.process_label == ""
    assert record.mount_label == f"{FILE}:s0:c1022,c1023"


def test_settings(tmp_path: Path) -> None:
    (tmp_path / "selinux").mkdir()
    assert Host(tmp_path, label=False).add().process_label == ""


def test_label_users(tmp_path: Path) -> None:
    (tmp_path / "selinux").mkdir()
    record = Host(tmp_path, label_users=True).add()
    user, role = CALLER.split(":")[:2]
    assert record.process_label.startswith(f"{user}:{role}:container_t:")
    assert record.mount_label.startswith(f"{user}:object_r:container_file_t:")


@pytest.mark.parametrize("namespace", ["pid", "ipc"])
def test_who_joins_takes_over_the_label(host: Host, namespace: str) -> None:
    first = host.add(selinux_opts=("type:x_t",))
    second = host.add(**{namespace: f"container:{first.name}"})
    assert second.process_label == first.process_label
    assert second.mount_label == first.mount_label
    assert len(os.listdir(host.machinery.layout.levels)) == 1
    _forget(host.machinery, second, attended=True)
    assert len(os.listdir(host.machinery.layout.levels)) == 1, "it is the first one's"


def test_who_joins_one_without_a_label_has_its_own(host: Host) -> None:
    first = host.add(privileged=True)
    assert host.add(pid=f"container:{first.name}").process_label.startswith(PROCESS)


def test_an_asked_level_may_be_shared_and_is_nobody_elses(host: Host) -> None:
    one = host.add(selinux_opts=("level:s0:c5,c7",))
    two = host.add(selinux_opts=("level:s0:c5,c7",))
    assert one.process_label == two.process_label == f"{PROCESS}:s0:c5,c7"


def test_a_policy_without_containers_is_a_warning(
    host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_warned", set())
    monkeypatch.setattr(host.selinux, "container_contexts", dict)
    assert host.add().process_label == ""
    host.add()
    assert caplog.text.count("container-selinux") == 1
    with pytest.raises(HostUnsupported, match="label=type:x_t"):
        host.add(selinux_opts=("type:x_t",))


def test_conmon_is_spawned_at_level_s0(host: Host) -> None:
    exec_file = host.selinux.attr / "exec"
    with host.machinery.spawning():
        assert exec_file.read_text() == "unconfined_u:unconfined_r:unconfined_t:s0"
    assert exec_file.read_text() == ""
    (host.selinux.attr / "current").write_text("u:r:t:s0")
    with host.machinery.spawning():
        assert exec_file.read_text() == ""


# --- volumes


def _volume(path: Path | str, *options: str) -> Mount:
    return Mount(type="bind", source=str(path), target="/data", options=options)


def test_volumes_are_relabelled(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    labels: dict[str, str] = {}

    def relabel(path: str, label: str) -> None:
        done.append((path, label))
        labels[path] = label

    monkeypatch.setattr(selinux, "relabel", relabel)
    monkeypatch.setattr(selinux, "label_of", labels.get)
    record = host.add(
        mounts=(
            _volume("/srv/own", "Z", "rbind"),
            _volume("/srv/all", "ro", "z"),
            _volume("/srv/none", "rbind"),
            Mount(type="tmpfs", target="/t", options=("rw",)),
        )
    ).replace(starts=1)
    confinement.relabel_volumes(record)
    both = [("/srv/own", record.mount_label), ("/srv/all", f"{FILE}:s0")]
    assert done == both
    confinement.relabel_volumes(record.replace(starts=2))
    assert done == both, "a second start finds them as they are"
    labels["/srv/all"] = "another"
    confinement.relabel_volumes(record.replace(starts=2))
    assert done == [*both, both[1]]
    confinement.relabel_volumes(record.replace(mount_label=""))
    assert len(done) == 3


def test_volumes_that_are_not_relabelled(host: Host, tmp_path: Path) -> None:
    for options in (("z",), ("Z", "ro")):
        config = ContainerConfig(name="x", rootfs="/", mounts=(_volume("/usr", *options),))
        with pytest.raises(InvalidArgument, match="/usr is not allowed"):
            confinement.check_volumes(host.machinery, config)
    config = ContainerConfig(name="x", rootfs="/", mounts=(_volume("/usr", "ro"),))
    confinement.check_volumes(host.machinery, config)
    config = ContainerConfig(name="x", rootfs="/", mounts=(_volume(tmp_path, "Z"),))
    with pytest.raises(InvalidArgument, match="Longshore keeps"):
        confinement.check_volumes(host.machinery, config)
