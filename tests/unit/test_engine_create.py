"""What `Engine.create` does without a runtime: nothing runs, so no privilege is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore import Engine, InvalidArgument, NameInUse, Status, WrongState
from longshore.linux import files


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(root=tmp_path / "root", run_root=tmp_path / "run")


def test_created(engine: Engine) -> None:
    box = engine.create(command=["true"], rootfs="/", overlay=True, name="box")
    found = box.inspect()
    assert (found.status, found.name, found.config.command) == (Status.CREATED, "box", ("true",))
    assert engine.get("box") == box
    box.remove()
    assert engine.list(all=True) == []


def test_cidfile(engine: Engine, tmp_path: Path) -> None:
    box = engine.create(command=["true"], rootfs="/", overlay=True, cidfile=tmp_path / "cid")
    assert (tmp_path / "cid").read_text() == box.id
    box.remove()
    assert not (tmp_path / "cid").exists()


def test_a_cidfile_of_another_stays(engine: Engine, tmp_path: Path) -> None:
    box = engine.create(command=["true"], rootfs="/", overlay=True, cidfile=tmp_path / "cid")
    (tmp_path / "cid").write_text("of somebody else")
    box.remove()
    assert (tmp_path / "cid").read_text() == "of somebody else"
    box = engine.create(command=["true"], rootfs="/", overlay=True, cidfile=tmp_path / "gone")
    (tmp_path / "gone").unlink()
    box.remove()


def test_a_cidfile_that_is_there_makes_no_container(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "cid").touch()
    with pytest.raises(InvalidArgument, match="cid"):
        engine.create(command=["true"], rootfs="/", overlay=True, cidfile=tmp_path / "cid")
    assert engine.list(all=True) == []


def test_a_cidfile_that_appears_meanwhile_makes_no_container(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.create_exclusive

    def taken(path: str, data: bytes, *, mode: int = 0o600) -> None:
        if path.endswith("/cid"):
            Path(path).touch()
        real(path, data, mode=mode)

    monkeypatch.setattr("longshore.engine.engine.create_exclusive", taken)
    with pytest.raises(InvalidArgument, match="cannot write the cidfile"):
        engine.create(
            command=["true"], rootfs="/", overlay=True, cidfile=tmp_path / "cid", name="b"
        )
    assert engine.list(all=True) == []
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("cid")] == ["cid"]
    engine.create(command=["true"], rootfs="/", overlay=True, name="b")


def test_a_name_in_use_leaves_nothing(engine: Engine) -> None:
    engine.create(command=["true"], rootfs="/", overlay=True, name="b")
    with pytest.raises(NameInUse):
        engine.create(command=["true"], rootfs="/", overlay=True, name="b")
    assert len(engine.list(all=True)) == 1


@pytest.mark.parametrize("options", [{"log_driver": "none"}, {"log_opt": {"max-size": "1m"}}])
def test_run_needs_its_whole_log(engine: Engine, options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="all of it"):
        engine.run(command=["true"], rootfs="/", overlay=True, **options)  # type: ignore[arg-type]
    assert engine.list(all=True) == []


def test_prune_of_nothing(engine: Engine) -> None:
    assert engine.prune() == []


def test_a_ref_that_is_no_text(engine: Engine) -> None:
    for ref in (None, 7, b"box"):
        with pytest.raises(InvalidArgument, match="not a container's name or id"):
            engine.get(ref)  # type: ignore[arg-type]


def test_a_container_that_does_not_run_has_no_namespaces(engine: Engine) -> None:
    engine.create(command=["true"], rootfs="/", overlay=True, name="other")
    with pytest.raises(WrongState) as caught:
        engine.create(
            command=["true"], rootfs="/", overlay=True, network="container:other",
            spec=lambda spec: spec,
        )  # fmt: skip
    assert str(caught.value) == (
        "cannot share the network namespace of container other: it is created, "
        "and has to be running"
    )
