"""A container outlives the program that started it; the next program takes over by name."""

import subprocess
import sys

from longshore import Engine, NoSuchContainer

NAME = "takeover-example"
STARTER = f"""
from longshore import Engine
box = Engine().create(
    command=["sh", "-c", "echo still here; sleep 1000"], rootfs="/", overlay=True, name="{NAME}"
)
box.start()
import os, signal
os.kill(os.getpid(), signal.SIGKILL)  # no chance to tidy up
"""

engine = Engine()
starter = subprocess.run([sys.executable, "-c", STARTER], check=False)
print(f"the program that started it was killed by signal {-starter.returncode}")

box = engine.get(NAME)
print(f"its container: {box.inspect().status.value}")
box.kill("KILL")
print(f"exit: {box.wait(timeout=10).code}")
print(f"its log: {b''.join(record.data for record in box.logs())!r}")
box.remove()
try:
    engine.get(NAME)
except NoSuchContainer as error:
    print(f"and gone: {error}")
