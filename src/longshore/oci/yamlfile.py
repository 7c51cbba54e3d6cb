"""Read a YAML document with PyYAML, which is imported here only, and need not be installed.

Only the structure is PyYAML's: what a plain word is (a number, a name, null) is left to whoever
knows what it is for (`oci.fields`), because a device called 0 or 1:0 is no number.
"""

from __future__ import annotations

import sys

from longshore.errors import HostUnsupported, InvalidArgument
from longshore.oci.fields import Plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from yaml.nodes import Node

_DEEPEST = 50
_MOST = 200_000  # nodes; aliases of aliases would be more than memory holds


def read_yaml(content: bytes, path: str) -> object:
    """Return a document as dicts, lists and texts; a word without quotes is a `Plain`.

    HostUnsupported where PyYAML is not installed; InvalidArgument for what is no YAML, or has the
    same key twice.
    """
    try:
        import yaml
    except ImportError:
        raise HostUnsupported(
            f"{path} is YAML",
            f"no PyYAML for {sys.executable}",
            hint=f"`{sys.executable} -m pip install PyYAML` (a distribution's package is "
            "python3-yaml or python3-pyyaml), or write the file as JSON: "
            "`nvidia-ctk cdi generate --format=json`",
        ) from None
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        root = yaml.compose(content.decode(), Loader=loader)
        return None if root is None else _plain(root, path, [0], 0)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as err:
        raise InvalidArgument(f"{path} is not YAML: {' '.join(str(err).split())}") from None


def _plain(node: Node, path: str, count: list[int], depth: int) -> object:
    import yaml

    count[0] += 1
    if depth > _DEEPEST or count[0] > _MOST:
        raise InvalidArgument(f"{path}: it is too large, or refers to itself")
    if isinstance(node, yaml.ScalarNode):
        value = str(node.value)
        return value if node.style else Plain(value)  # None, or "" of libyaml's
    if isinstance(node, yaml.SequenceNode):
        return [_plain(inner, path, count, depth + 1) for inner in node.value]
    assert isinstance(node, yaml.MappingNode)
    found: dict[str, object] = {}
    for key, inner in node.value:
        name = str(key.value)
        if not isinstance(key, yaml.ScalarNode) or name in found:
            what = f"{name!r} is there twice" if name in found else "a key is not text"
            raise InvalidArgument(f"{path}, line {key.start_mark.line + 1}: {what}")
        found[name] = _plain(inner, path, count, depth + 1)
    return found
