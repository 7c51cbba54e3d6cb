"""What `import longshore` offers: exactly what is promised, each name when it is first used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import longshore
from longshore import errors, models

NAMES = sorted(longshore.__all__)


def _python(code: str) -> str:
    package = str(Path(longshore.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {package!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_all_is_exact() -> None:
    expected = {"Attachment", "Container", "Engine", "EventStream", "Inspection", "Process"}
    expected |= {"Status", "Trace", "__version__"}
    expected |= set(errors.__all__)
    expected |= set(models.__all__) - {"ContainerId"}
    assert set(NAMES) == expected
    assert len(longshore.__all__) == len(expected)
    assert longshore.__all__ == sorted(longshore.__all__)
    assert dir(longshore) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name: str) -> None:
    value = getattr(longshore, name)
    assert getattr(value, "__name__", name) == name
    assert getattr(longshore, name) is value


def test_each_name_alone_in_a_fresh_interpreter() -> None:
    code = (
        "import longshore\n"
        "for name in longshore.__all__:\n"
        "    for loaded in [m for m in sys.modules if m.startswith('longshore.')]:\n"
        "        del sys.modules[loaded]\n"
        "    getattr(longshore, name)\n"
        "    print(name)\n"
    )
    assert _python(code).split() == longshore.__all__


def test_a_star_import() -> None:
    assert "Engine" in _python("from longshore import *\nprint(*globals())").split()


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'longshore' has no attribute 'Nothing'"):
        longshore.Nothing  # noqa: B018
    assert not hasattr(longshore, "annotations_of_nothing")


def test_importing_loads_nothing_else() -> None:
    code = "bare = set(sys.modules)\nimport longshore\nprint(*(set(sys.modules) - bare))"
    assert set(_python(code).split()) <= {"longshore", "__future__"}


def test_an_error_class_costs_no_engine() -> None:
    code = "import longshore\nlongshore.Busy\nprint(*sys.modules)"
    loaded = {m for m in _python(code).split() if m.startswith("longshore")}
    assert loaded == {"longshore", "longshore.errors"}


def test_the_library_prints_nothing(tmp_path: Path) -> None:
    """Neither when it works nor when it fails."""
    code = f"""
import os
from longshore import Engine, LongshoreError
engine = Engine(root={str(tmp_path / "root")!r}, run_root={str(tmp_path / "run")!r})
box = engine.create(rootfs="/", overlay=True, command=["true"], name="box")
for attempt in (lambda: engine.get("no"), lambda: box.pause(), lambda: engine.run(rootfs="/no"),
                lambda: engine.create(rootfs="/", overlay=True, name="box"), lambda: box.wait(0)):
    try:
        attempt()
    except LongshoreError:
        pass
    else:
        raise SystemExit("it was to fail")
engine.inspect_all(); box.inspect(); list(box.logs()); box.remove()
"""
    assert _python(code) == ""
