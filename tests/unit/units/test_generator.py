"""Which files are found, what is written, and what is said of files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.cli import generator as program
from longshore.units import generator

OTHER = "/usr/lib/other.service"
GOOD = "[Container]\nRootfs=/srv\n"


def put(path: Path, text: str = GOOD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_where_files_are_looked_for() -> None:
    look = generator.search_path
    assert look({}, user=False, uid=0) == [
        "/run/containers/systemd", "/etc/containers/systemd", "/usr/share/containers/systemd",
    ]  # fmt: skip
    users = ["/etc/containers/systemd/users/5", "/etc/containers/systemd/users"]
    assert look({"HOME": "/h"}, user=True, uid=5) == ["/h/.config/containers/systemd", *users]
    env = {"HOME": "/h", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/r"}
    places = ["/r/containers/systemd", "/c/containers/systemd"]
    assert look(env, user=True, uid=5) == [*places, *users]
    assert look({"QUADLET_UNIT_DIRS": "/a:b:/c"}, user=False, uid=0) == ["/a", "/c"]


def test_a_name_is_taken_from_the_strongest_place(tmp_path: Path) -> None:
    run, etc = tmp_path / "run", tmp_path / "etc"
    put(run / "a.container")
    put(etc / "a.container")
    put(etc / "below/b.container")
    put(etc / "users/c.container")
    put(etc / "x.volume")
    put(etc / "d.container.d/e.container")
    found = generator.Found([str(run), str(etc), "/nosuch"], user=False)
    assert found.files == {
        "a.container": f"{run}/a.container", "b.container": f"{etc}/below/b.container",
    }  # fmt: skip
    assert found.others == {"x.volume": f"{etc}/x.volume"}


def test_users_have_their_own(tmp_path: Path) -> None:
    put(tmp_path / "1000/a.container")
    put(tmp_path / "all/b.container")
    assert list(generator.Found([str(tmp_path)], user=True).files) == ["b.container"]


def test_drop_ins(tmp_path: Path) -> None:
    run, etc = tmp_path / "run", tmp_path / "etc"
    put(etc / "a-b@1.container")
    for place in ("container.d", "a-.container.d", "a-b@.container.d", "a-b@1.container.d"):
        put(etc / place / "10.conf", f"[Container]\nLabel=ten={place}\n")
    put(etc / "container.d/20.conf", "[Container]\nLabel=twenty=1\n")
    put(run / "container.d/20.conf", "[Container]\nLabel=twenty=run\n")
    put(etc / "container.d/no.txt", "bad")
    found = generator.Found([str(run), str(etc)], user=False)
    assert list(found.dropins("a-b@1.container")) == [
        f"{etc}/a-b@1.container.d/10.conf", f"{run}/container.d/20.conf",
    ]  # fmt: skip
    (made,) = generator.generate(found, program="ls", tell=pytest.fail)
    assert "--label ten=a-b@1.container.d --label twenty=run" in made.text


def test_one_bad_file_keeps_no_other(tmp_path: Path) -> None:
    put(tmp_path / "a.container")
    put(tmp_path / "b.container", "[Container]\nRootfs=/srv\nEnviroment=x\n")
    put(tmp_path / "c.container", "nothing")
    (tmp_path / "d.container").write_bytes(b"[Container]\nExec=\xff\n")
    put(tmp_path / "e f.container")
    put(tmp_path / "n.network")
    said: list[str] = []
    found = generator.Found([str(tmp_path)], user=False)
    made = generator.generate(found, program="ls", tell=said.append)
    assert [one.name for one in made] == ["a.service"]
    assert [line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in said] == [
        "b.container", "c.container", "d.container", "e f.container", "n.network",
    ]  # fmt: skip
    assert "(did you mean 'Environment'?)" in said[0]


def test_what_is_written(tmp_path: Path) -> None:
    put(tmp_path / "q/a.container", f"{GOOD}[Install]\nWantedBy=x.target\nAlias=b.service\n")
    found = generator.Found([str(tmp_path / "q")], user=False)
    made = generator.generate(found, program="ls", tell=pytest.fail)
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):  # what is there already is fine
        generator.write(made, str(out), tell=pytest.fail)
    assert (out / "x.target.wants/a.service").resolve() == out / "a.service"
    assert (out / "b.service").resolve() == out / "a.service"
    assert "[X-Container]" in (out / "a.service").read_text()


def written(tmp_path: Path) -> list[str]:
    """Write what is in q to out, and return what was told, without the directories' names."""
    said: list[str] = []
    found = generator.Found([str(tmp_path / "q")], user=False)
    made = generator.generate(found, program="ls", tell=pytest.fail)
    generator.write(made, str(tmp_path / "out"), tell=said.append)
    return [line.replace(f"{tmp_path}/", "") for line in said]


def test_an_alias_takes_no_other_s_place(tmp_path: Path) -> None:
    alias = "[Install]\nWantedBy=x.target\nAlias=a.service b.service c.service d.service\n"
    put(tmp_path / "q/a.container", GOOD + alias)
    put(tmp_path / "q/b.container")
    put(tmp_path / "out/c.service", "another generator's")
    (tmp_path / "out/d.service").symlink_to(OTHER)
    there = f"it is one to {OTHER}"
    for _ in range(2):
        assert written(tmp_path) == [
            "q/a.container: b.service is not made a link to a.service: it is there already",
            "q/a.container: c.service is not made a link to a.service: it is there already",
            f"q/a.container: d.service is not made a link to a.service: {there} already",
        ]
        out = tmp_path / "out"
        for name in ("a", "b"):
            assert not (out / f"{name}.service").is_symlink()
            assert (
                f"SourcePath={tmp_path}/q/{name}.container" in (out / f"{name}.service").read_text()
            )
        assert (out / "c.service").read_text() == "another generator's"
        assert (out / "d.service").readlink() == Path(OTHER)
        assert (out / "x.target.wants/a.service").resolve() == out / "a.service"


def test_an_alias_belongs_to_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / f"q/{name}.container", f"{GOOD}[Install]\nAlias=c.service\n")
    (tmp_path / "out").mkdir()
    assert written(tmp_path) == [
        "q/b.container: c.service is not made a link to b.service: it is one to a.service already"
    ]
    assert (tmp_path / "out/c.service").readlink() == Path("a.service")


def test_a_service_is_not_written_through_a_link(tmp_path: Path) -> None:
    put(tmp_path / "q/a.container")
    victim = put(tmp_path / "victim", "as it was")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.service").symlink_to(victim)
    assert written(tmp_path) == []
    assert victim.read_text() == "as it was"
    assert "[X-Container]" in (tmp_path / "out/a.service").read_text()


def test_what_cannot_be_written_keeps_nothing_else(tmp_path: Path) -> None:
    wanted = "[Install]\nWantedBy=x.target y.target\nAlias=z.service\n"
    for name in ("a", "b", "c"):
        put(tmp_path / f"q/{name}.container", GOOD + (wanted if name != "c" else ""))
    put(tmp_path / "q/\udcff/d.container")  # what no unit can name
    out = tmp_path / "out"
    (out / "a.service").mkdir(parents=True)
    put(out / "x.target.wants", "a file")
    said = written(tmp_path)
    assert said.pop(1).startswith("q/\udcff/d.container: cannot write out/d.service: 'utf-8' codec")
    assert said == [
        "q/a.container: cannot write out/a.service: Is a directory",
        "q/b.container: cannot write out/x.target.wants/b.service: File exists",
    ]
    assert (out / "b.service").is_file() and (out / "c.service").is_file()
    assert (out / "y.target.wants/b.service").resolve() == out / "b.service"
    assert (out / "z.service").readlink() == Path("b.service")
    assert not (out / "y.target.wants/a.service").is_symlink()


@pytest.mark.parametrize("name", ["a.container", "x.volume"])
def test_a_mask_hides_the_file_of_a_weaker_place(tmp_path: Path, name: str) -> None:
    run, etc, usr = (tmp_path / place for place in ("run", "etc", "usr"))
    for place in (run, etc, usr):
        put(place / "b.container")
    put(run / name)
    (etc / name).symlink_to("/dev/null")
    put(usr / name)
    strong = generator.Found([str(run), str(etc), str(usr)], user=False)
    assert (strong.files | strong.others)[name] == f"{run}/{name}"
    weak = generator.Found([str(etc), str(run), str(usr)], user=False)
    assert name not in weak.files | weak.others
    assert weak.files["b.container"] == f"{etc}/b.container"


# --- the program --------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUADLET_UNIT_DIRS", str(tmp_path / "q"))
    put(tmp_path / "q/a.container", f"{GOOD}[Install]\nWantedBy=x.target\n")
    (tmp_path / "out").mkdir()
    return tmp_path


def test_as_systemd_calls_it(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(files / "out")
    assert program.main([out, "/nosuch/early", "/nosuch/late", "--no-kmsg-log"]) == 0
    assert (files / "out/x.target.wants/a.service").exists()
    put(files / "q/b.container", "[Container]\nBogus=1\n")
    assert program.main(["--no-kmsg-log", out]) == 1
    assert (files / "out/a.service").exists()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "b.container: Bogus= is not a key of [Container]" in captured.err


@pytest.mark.parametrize("dash", ["--dryrun", "-dryrun"])
def test_a_dry_run_writes_nothing(
    files: Path, dash: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([dash, "--program", "/opt/ls"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("---a.service---\n")
    assert "ExecStart=/opt/ls run " in out
    assert "# x.target.wants/a.service -> ../a.service" in out
    assert not list((files / "out").iterdir())


def test_a_directory_that_cannot_be_written(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["--no-kmsg-log", str(files / "nosuch")]) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [([], "no directory to write to"), (["a", "b"], "no directory"), (["--x"], "flag: --x")],
)  # fmt: skip
def test_wrong_calls(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(words) == 125
    assert why in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--help"]) == program.main(["-v"]) == 0
    assert "longshore-generator 0." in capsys.readouterr().out


def test_the_installed_program_is_isolated(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import subprocess

    monkeypatch.setattr(program, "_GENERATORS", (str(files),))
    where = files / "generators"
    assert program.main(["--install", str(where), "--program", "/opt/my\\ ls"]) == 0
    path = where / "longshore-generator"
    assert capsys.readouterr().out == f"{path}\n"
    done = subprocess.run(
        [path, files / "out", "/early", "/late"],
        env={"QUADLET_UNIT_DIRS": str(files / "q")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "ExecStart=/opt/my\\ ls run " in (files / "out/a.service").read_text()


def test_podmans_generator_has_to_be_off(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "_GENERATORS", (str(files / "etc"), str(files / "usr")))
    peer = put(files / "usr/user-generators/podman-user-generator")
    words = ["--user", "--install", str(files / "g")]
    assert program.main(words) == 125
    assert f"{peer} reads the same files" in capsys.readouterr().err
    off = files / "etc/user-generators/podman-user-generator"
    off.parent.mkdir(parents=True)
    off.symlink_to("/dev/null")
    assert program.main(words) == 0
    assert "--user" in (files / "g/longshore-generator").read_text()
