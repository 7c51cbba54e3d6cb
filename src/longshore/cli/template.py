"""The part of Go's text/template that ``--format`` uses. Pure; raises `TemplateError` only.

Actions: values and pipelines, ``if``, ``range``, ``with`` with their ``else``, ``break``,
``continue``, variables, comments and the trimming marks. Functions: Go's own and the ones that
podman adds. What is left out, ``define`` and its kin, is refused by name. Field names match
without regard to case when nothing matches exactly, because podman's own two spellings of a field
(``.ID``, ``.Id``) are both in scripts.
"""

from __future__ import annotations

from longshore.cli.gotime import GoTime
from longshore.cli.govalues import GoMap, is_dict, is_list, show, truth, type_name
from longshore.cli.templatefuncs import FUNCTIONS, FunctionError
from longshore.cli.templatelex import Source, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

    from longshore.cli.templatelex import Token

    Node = Callable[["_Scope", Any], None]
    Expr = Callable[["_Scope", Any], Any]

__all__ = ["Template", "TemplateError"]

_DEEPEST = 40  # blocks or parentheses inside one another
_BLOCKS = ("if", "range", "with")
_REFUSED = ("block", "define", "template")


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Scope:
    __slots__ = ("names", "out")

    def __init__(self, data: Any) -> None:
        self.out: list[str] = []
        self.names: list[tuple[str, Any]] = [("$", data)]

    def get(self, name: str) -> Any:
        return next(value for known, value in reversed(self.names) if known == name)

    def put(self, name: str, value: Any) -> None:
        for index in range(len(self.names) - 1, -1, -1):
            if self.names[index][0] == name:
                self.names[index] = (name, value)
                return


class Template:
    """A parsed template. `render` puts values in it."""

    def __init__(self, text: str) -> None:
        try:
            self._nodes = _Parser(text).all()
        except RecursionError:
            raise TemplateError("the template is nested too deeply") from None

    def render(self, data: Any) -> str:
        """Return the template's text with ``data`` as its dot."""
        scope = _Scope(data)
        try:
            for node in self._nodes:
                node(scope, data)
        except RecursionError:
            raise TemplateError("the template is nested too deeply") from None
        return "".join(scope.out)


def field_of(value: Any, name: str, fail: Callable[[str], NoReturn]) -> Any:
    """Return a field of a struct or the entry of a map; ``fail`` is told why there is none."""
    if callable(value):  # a method in the middle of a chain: .Created.UTC.Year
        try:
            value = value()
        except TypeError:
            fail("wrong number of args for a method: got 0")
    if value is None:
        fail(f"nil data; can't evaluate field {name}")
    if isinstance(value, GoMap):
        return value.get(name)
    if isinstance(value, GoTime) and (method := value.method(name)) is not None:
        return method
    if is_dict(value):
        if name in value:
            return value[name]
        for known in value:
            if known.lower() == name.lower():
                return value[known]
    return fail(f"can't evaluate field {name} in type {type_name(value)}")


class _Parser:
    def __init__(self, text: str) -> None:
        self.source = Source(text)
        self.tokens = self.source.tokens()
        self.position = 0
        self.depth = 0
        self.loops = 0
        self.names = ["$"]
        self.fail = self.source.fail

    def peek(self) -> Token:
        while self.position < len(self.tokens) and self.tokens[self.position][0] == "space":
            self.position += 1
        if self.position < len(self.tokens):
            return self.tokens[self.position]
        return ("eof", "", len(self.source.text))

    def next(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def expect_end(self, after: str) -> None:
        kind, word, offset = self.next()
        if kind != "end":
            self.fail(f"unexpected {word!r} in {after}", offset)

    # Blocks.

    def all(self) -> list[Node]:
        nodes, stop, offset = self.block()
        if stop:
            self.fail(f"unexpected {{{{{stop}}}}}", offset)
        return nodes

    def block(self) -> tuple[list[Node], str, int]:
        """Read nodes up to ``else`` or ``end``, and return which."""
        nodes: list[Node] = []
        while True:
            kind, word, offset = self.next()
            if kind == "eof":
                return nodes, "", offset
            if kind == "text":
                nodes.append(_text(word))
            elif kind == "word" and word in ("else", "end"):
                return nodes, word, offset
            elif kind == "word" and word in _BLOCKS:
                nodes.append(self.control(word, offset))
            elif kind == "word" and word in ("break", "continue"):
                if not self.loops:
                    self.fail(f"{{{{{word}}}}} outside {{{{range}}}}", offset)
                self.expect_end(word)
                nodes.append(_leave(_Break if word == "break" else _Continue))
            elif kind == "word" and word in _REFUSED:
                self.fail(f"{{{{{word}}}}} is not supported", offset)
            else:
                self.position -= 1
                nodes.append(self.action())

    def action(self) -> Node:
        names, assigns, expr = self.pipeline("action")
        self.expect_end("action")

        def node(scope: _Scope, dot: Any) -> None:
            value = expr(scope, dot)
            if names and assigns:
                scope.put(names[0], value)
            elif names:
                scope.names.append((names[0], value))
            else:
                scope.out.append("<no value>" if value is None else show(value))

        return node

    def control(self, word: str, offset: int) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail("blocks are nested too deeply", offset)
        known = len(self.names)
        names, assigns, expr = self.pipeline(word)
        self.expect_end(word)
        inner = len(self.names)
        self.loops += word == "range"
        body, stop, at = self.block()
        del self.names[inner:]
        self.loops -= word == "range"
        other: list[Node] = []
        if stop == "else":
            kind, again, at = self.peek()
            if kind == "word" and again in ("if", "with") and again == word:
                self.next()
                other = [self.control(again, at)]
                stop = "end"
                self.depth -= 1
                del self.names[known:]
                return _control(word, names, assigns, expr, body, other, self.failer(offset))
            self.expect_end("else")
            other, stop, at = self.block()
        if stop != "end":
            self.fail(
                f"{{{{{word}}}}} has no {{{{end}}}}" if not stop else "unexpected {{else}}", at
            )
        self.expect_end("end")
        self.depth -= 1
        del self.names[known:]
        return _control(word, names, assigns, expr, body, other, self.failer(offset))

    def failer(self, offset: int) -> Callable[[str], NoReturn]:
        return lambda why: self.fail(why, offset)

    # Expressions.

    def pipeline(self, where: str) -> tuple[list[str], bool, Expr]:
        names: list[str] = []
        assigns = False
        mark = self.position
        kind, word, offset = self.peek()
        if kind == "variable" and len(word) > 1:
            names = [self.next()[1]]
            if where == "range" and self.peek()[1] == ",":
                self.next()
                kind, second, at = self.next()
                if kind != "variable":
                    self.fail("range needs a variable after the comma", at)
                names.append(second)
            sign = self.peek()
            if sign[0] == "mark" and sign[1] in (":=", "="):
                self.next()
                assigns = sign[1] == "="
                for name in names if assigns else ():
                    if name not in self.names:
                        self.fail(f'undefined variable "{name}"', offset)
            else:
                names, self.position = [], mark
        expr = self.command(None, where)
        while self.peek()[:2] == ("mark", "|"):
            self.next()
            expr = self.command(expr, where)
        if not assigns:
            self.names += names
        return names, assigns, expr

    def command(self, piped: Expr | None, where: str) -> Expr:
        kind, word, offset = self.peek()
        if kind == "end" or (kind == "mark" and word in "|),:="):
            self.fail(f"missing value for {where}", offset)
        if kind == "word" and word == "nil":
            self.fail("nil is not a command", offset)
        if kind == "word" and word not in ("true", "false"):
            self.next()
            if word not in FUNCTIONS:
                self.fail(f'function "{word}" not defined', offset, _functions_hint(word))
            return self.call(word, self.operands(), piped, offset)
        expr = self.operand()
        args = self.operands()
        if (args or piped) and kind not in ("field", "variable", "mark"):
            self.fail(f"can't give argument to non-function {word}", offset)
        if not args and piped is None:
            return _called(expr, (), self.failer(offset))
        return _called(expr, (*args, *((piped,) if piped else ())), self.failer(offset))

    def operands(self) -> list[Expr]:
        found: list[Expr] = []
        while True:
            kind, word, offset = self.peek()
            if kind in ("end", "eof", "text") or (kind == "mark" and word not in "(."):
                return found
            if self.tokens[self.position - 1][0] != "space":
                self.fail(f"unexpected {word!r}", offset)
            found.append(_called(self.operand(), (), self.failer(offset)))

    def operand(self) -> Expr:
        expr = self.term()
        while self.position < len(self.tokens) and self.tokens[self.position][0] == "field":
            _, word, offset = self.tokens[self.position]
            if self.tokens[self.position - 1][0] in ("string", "number", "char", "raw"):
                self.fail(f"unexpected {word!r} after a literal", offset)
            self.position += 1
            expr = _field(expr, word[1:], self.failer(offset))
        return expr

    def term(self) -> Expr:
        kind, word, offset = self.next()
        if kind == "field":
            return _field(_dot, word[1:], self.failer(offset))
        if kind == "mark" and word == ".":
            if self.position < len(self.tokens) and self.tokens[self.position][0] == "field":
                self.fail("unexpected . after .", offset)
            return _dot
        if kind == "variable":
            if word not in self.names:
                self.fail(f'undefined variable "{word}"', offset)
            return lambda scope, _dot: scope.get(word)
        if kind == "mark" and word == "(":
            self.depth += 1
            if self.depth > _DEEPEST:
                self.fail("parentheses are nested too deeply", offset)
            names, _, expr = self.pipeline("parenthesis")
            if names:
                self.fail("a variable cannot be declared in parentheses", offset)
            if self.next()[:2] != ("mark", ")"):
                self.fail("unclosed left parenthesis", offset)
            self.depth -= 1
            return expr
        if kind == "word":
            if word in ("true", "false"):
                return _constant(word == "true")
            if word == "nil":
                return _constant(None)
            if word in FUNCTIONS:
                return self.call(word, [], None, offset)
            self.fail(f'function "{word}" not defined', offset, _functions_hint(word))
        if kind in ("string", "raw", "char", "number"):
            return _constant(self.source.literal(kind, word, offset))
        return self.fail(f"unexpected {word!r}", offset)

    def call(self, name: str, args: Sequence[Expr], piped: Expr | None, offset: int) -> Expr:
        function = FUNCTIONS[name]
        every = (*args, piped) if piped else tuple(args)
        lazy = name in ("and", "or")
        if lazy and not every:
            self.fail(f"wrong number of args for {name}: want at least 1 got 0", offset)

        def run(scope: _Scope, dot: Any) -> Any:
            if lazy:
                value: Any = None
                for expr in every:
                    value = expr(scope, dot)
                    if truth(value) is (name == "or"):
                        break
                return value
            values = [expr(scope, dot) for expr in every]
            try:
                return function(*values)
            except FunctionError as err:
                self.fail(f"error calling {name}: {err}", offset)
            except TypeError:
                self.fail(f"wrong number of args for {name}: got {len(values)}", offset)

        return run


def _functions_hint(word: str) -> str | None:
    from longshore.cli.help import nearest

    guess = nearest(word, FUNCTIONS)
    return f"did you mean {guess}?" if guess else f"a field begins with a dot: .{word}"


def _dot(_scope: _Scope, dot: Any) -> Any:
    return dot


def _constant(value: Any) -> Expr:
    return lambda _scope, _dot: value


def _text(piece: str) -> Node:
    return lambda scope, _dot: scope.out.append(piece)


def _leave(how: type[Exception]) -> Node:
    def node(_scope: _Scope, _dot: Any) -> None:
        raise how

    return node


def _field(expr: Expr, name: str, fail: Callable[[str], NoReturn]) -> Expr:
    return lambda scope, dot: field_of(expr(scope, dot), name, fail)


def _called(expr: Expr, args: Iterable[Expr], fail: Callable[[str], NoReturn]) -> Expr:
    every = tuple(args)

    def run(scope: _Scope, dot: Any) -> Any:
        value = expr(scope, dot)
        if not callable(value):
            return value if not every else fail("can't give argument to a field that is no method")
        values = [arg(scope, dot) for arg in every]
        try:
            return value(*values)
        except (TypeError, AttributeError):
            fail(f"wrong arguments for a method: got {len(values)}")

    return run


def _control(
    word: str,
    names: Sequence[str],
    assigns: bool,
    expr: Expr,
    body: Sequence[Node],
    other: Sequence[Node],
    fail: Callable[[str], NoReturn],
) -> Node:
    def bind(scope: _Scope, values: Sequence[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            if assigns:
                scope.put(name, value)
            else:
                scope.names.append((name, value))

    def branch(scope: _Scope, dot: Any) -> None:
        known = len(scope.names)
        value = expr(scope, dot)
        if names:
            bind(scope, [value])
        chosen = body if truth(value) else other
        inner = value if word == "with" and chosen is body else dot
        for node in chosen:
            node(scope, inner)
        del scope.names[known:]

    def loop(scope: _Scope, dot: Any) -> None:
        known = len(scope.names)
        value = expr(scope, dot)
        if names and not assigns:
            bind(scope, [value] * len(names))  # what `else` sees
        base = len(scope.names)
        if isinstance(value, GoMap):
            pairs: list[tuple[Any, Any]] = sorted(value.items())
        elif is_list(value):
            pairs = list(enumerate(value))
        elif value is None:
            pairs = []
        else:
            fail(f"range can't iterate over {show(value)}")
        for key, member in pairs:
            if names:
                bind(scope, [member] if len(names) == 1 else [key, member])
            try:
                for node in body:
                    node(scope, member)
            except _Continue:
                pass
            except _Break:
                break
            finally:
                del scope.names[base:]
        if not pairs:
            for node in other:
                node(scope, dot)
        del scope.names[known:]

    return loop if word == "range" else branch
