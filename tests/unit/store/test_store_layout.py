"""store/layout.py: every path in one place, and nothing that others may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from longshore.store import Layout

ID = "ab" * 32


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path / "root"), str(tmp_path / "run"))


def test_prepare_makes_private_directories(layout: Layout) -> None:
    layout.prepare()
    layout.prepare()
    modes = {}
    for top in (layout.root, layout.run):
        for directory, _, _ in os.walk(top):
            modes[directory] = stat.S_IMODE(os.stat(directory).st_mode)
    wide = {path for path, mode in modes.items() if mode != 0o700}
    assert wide == {layout.exits, layout.sockets}
    assert {modes[path] for path in wide} == {0o750}


def test_prepare_does_not_depend_on_the_umask(layout: Layout) -> None:
    before = os.umask(0)
    try:
        layout.prepare()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(layout.containers).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(layout.exits).st_mode) == 0o750


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/root"):
        Layout(str(tmp_path / "file/root"), str(tmp_path / "run")).prepare()


def test_nothing_durable_is_in_the_run_directory(layout: Layout) -> None:
    paths = layout.paths(ID)
    durable = (
        paths.record, paths.lock, paths.log, paths.layer, paths.merged, paths.checkpoint,
        layout.names, layout.exit_record(ID),
    )  # fmt: skip
    volatile = (
        paths.bundle, paths.config, paths.pidfile, paths.conmon_pidfile, paths.runtime_log,
        paths.exit_file, paths.attach_socket, paths.ctl_fifo, paths.oom_file, paths.shm,
        layout.runtimes, layout.cache,
    )  # fmt: skip
    assert all(path.startswith(f"{layout.root}/") for path in durable)
    assert all(path.startswith(f"{layout.run}/") for path in volatile)
    assert len({*durable, *volatile}) == len(durable) + len(volatile)


def test_the_names_that_conmon_gives(layout: Layout) -> None:
    """conmon writes its exit file as EXIT_DIR/ID, and with --full-attach BUNDLE/attach."""
    paths = layout.paths(ID)
    assert paths.exit_file == f"{paths.exit_dir}/{ID}"
    assert paths.attach_socket == f"{paths.bundle}/attach"
    assert paths.ctl_fifo == f"{paths.bundle}/ctl"
