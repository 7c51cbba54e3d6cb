"""Which SELinux level is whose: a link a level, so that no two containers get the same one.

As with names, making the link is what takes it, and it leads to the container's id. It exists only
where SELinux is active.
"""

from __future__ import annotations

import os

from longshore.linux.files import make_directory, remove_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from longshore.store.layout import Layout


class Levels:
    """The levels below one layout."""

    __slots__ = ("_layout",)

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def take(self, level: str, container_id: str) -> bool:
        """Take a level for a container; False when another one has it."""
        make_directory(self._layout.levels)
        path = self._path(level)
        try:
            os.symlink(container_id, path)
        except FileExistsError:
            return self._holder(path) == container_id
        return True

    def let_go(self, level: str, container_id: str) -> None:
        """Give a level back; that of another stays."""
        path = self._path(level)
        if self._holder(path) == container_id:
            remove_file(path)

    def sweep(self) -> None:
        """Give back the levels of containers that are gone."""
        try:
            levels = os.listdir(self._layout.levels)
        except FileNotFoundError:
            return
        for level in levels:
            holder = self._holder(self._path(level))
            if holder and not os.path.isdir(self._layout.paths(holder).home):
                self.let_go(level, holder)

    def _path(self, level: str) -> str:
        # a level has no slash (`options.security`)
        return f"{self._layout.levels}/{level}"

    def _holder(self, path: str) -> str:
        try:
            return os.readlink(path)
        except OSError:
            return ""
