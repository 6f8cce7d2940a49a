"""Mutants of Python sources: where a small thing could be wrong, what it would look like, and which of them are tried.

A mutant is one span of a source with another text in its place and as many lines, so that nothing else moves.
Statements of modules are no candidates, nor are annotations and decorators: they are names, types and derived numbers.

Reference: R. DeMillo, R. Lipton and F. Sayward, "Hints on Test Data Selection", IEEE Computer 11(4), 1978;
    A. Offutt and others, "An Experimental Determination of Sufficient Mutant Operators", TOSEM 5(2), 1996.
"""

import ast
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

COMPARISONS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "in": "not in",
    "not in": "in",
    "is": "is not",
    "is not": "is",
}
ARITHMETIC = {"+": "-", "-": "+", "*": "//", "/": "*", "//": "*", "%": "//", "<<": ">>", ">>": "<<", "&": "|", "|": "&"}
LEAST = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}
OPERATOR = re.compile(r"<=|>=|==|!=|<<|>>|//|\*\*|not\s+in|is\s+not|\bin\b|\bis\b|\band\b|\bor\b|[-+*/%&|^@<>]")
KERNELS = {"inlined", "kernel", "optional_kernel"}
"""The decorators of what is compiled."""
INTRINSIC = "intrinsic"
"""Takes a function that writes code into kernels, with the help of others of its module.

A table that a module makes with a function of its own is a constant of kernels in the same way.
"""


@dataclass(frozen=True)
class Mutant:
    """One change of one source."""

    file: str
    """Below the package, such as ``state/users/users.py``."""
    line: int
    operator: str
    start: int
    """Bytes of the source from here to ``stop`` are replaced."""
    stop: int
    old: str
    new: str
    in_kernel: bool

    @property
    def name(self) -> str:
        """What tells it from all others of these sources."""
        return f"{self.file}:{self.line}:{self.start}-{self.stop}:{self.operator}:{' '.join(self.new.split())}"

    def applied(self, source: bytes) -> bytes:
        """Return the source with the change; it has as many lines as before."""
        lines = source[self.start : self.stop].count(b"\n") - self.new.count("\n")
        return source[: self.start] + self.new.encode() + b"\n" * lines + source[self.stop :]

    def lines(self, source: bytes) -> tuple[str, str]:
        """Return what stood in the lines that it changes, and what stands there, each as one line."""
        begin = source.rfind(b"\n", 0, self.start) + 1
        end = source.find(b"\n", self.stop)
        end = len(source) if end < 0 else end
        before = source[begin:end].decode()
        after = (source[begin : self.start] + self.new.encode() + source[self.stop : end]).decode()
        return " ".join(before.split()), " ".join(after.split())


class _Candidates(ast.NodeVisitor):
    """Collects what could be wrong in the functions and classes of one source."""

    def __init__(self, file: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._file = file
        self._source = source
        self._starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
        self._in_kernel = False

    def visit_Module(self, node: ast.Module) -> None:
        """Look into functions and classes only; what gives kernels code or a constant is part of them."""
        own = {INTRINSIC} | {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        margin = [each for each in node.body if not isinstance(each, (ast.FunctionDef, ast.ClassDef))]
        calls = (each for part in margin for each in ast.walk(part) if isinstance(each, ast.Call))
        self._in_kernel = any(isinstance(each.func, ast.Name) and each.func.id in own for each in calls)
        for each in node.body:
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.visit(each)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Look into the body; members of an enumeration are constants of kernels."""
        before = self._in_kernel
        self._in_kernel = before or any(isinstance(each, ast.Name) and "Enum" in each.id for each in node.bases)
        for each in node.body:
            self.visit(each)
        self._in_kernel = before

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Look into defaults and body."""
        before = self._in_kernel
        self._in_kernel = before or any(
            isinstance(each, ast.Name) and each.id in KERNELS for each in node.decorator_list
        )
        defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
        for each in (*defaults, *node.body):
            self.visit(each)
        self._in_kernel = before

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  # the name that ast calls

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Look at the value, not at its type."""
        if node.value is not None:
            self._assigned(node, node.target)
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts: before 3.12 their parts do not know where they stand."""

    def visit_Assign(self, node: ast.Assign) -> None:
        """Offer to leave out what changes an object."""
        self._assigned(node, node.targets[0])
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Offer to leave it out."""
        self._add("drop", node, "pass")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        """Offer to leave out a call."""
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call):
            self._add("drop", node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Offer to go on instead; what the error says is not changed."""
        self._add("drop", node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        """Offer to go on below."""
        self._add("drop", node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        """Offer to go on with the loop."""
        self._add("drop", node, "pass")

    def visit_Return(self, node: ast.Return) -> None:
        """Offer to return nothing."""
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._add("return", node.value, "None")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """Offer the opposite."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Offer the opposite."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Offer what is behind ``not``, ``~`` or ``-``."""
        if not isinstance(node.operand, ast.Constant):
            self._add("negation", node, self._text(node.operand), is_whole=True)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Offer another edge of the first comparison."""
        self._between("comparison", node.left, node.comparators[0], COMPARISONS)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Offer ``or`` for the first ``and``, and the other way."""
        self._between("and_or", node.values[0], node.values[1], {"and": "or", "or": "and"})
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Offer another operation."""
        self._between("arithmetic", node.left, node.right, ARITHMETIC)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Offer one more and one less, or the other truth value."""
        if isinstance(node.value, bool):
            self._add("constant", node, str(not node.value))
        elif isinstance(node.value, int | float):
            for each in (node.value + 1, node.value - 1):
                self._add("constant", node, repr(each))

    def visit_Call(self, node: ast.Call) -> None:
        """Offer the other extreme, and to leave out each argument that has a name.

        ``zip(…, strict=True)`` stays: it is an assertion, which fails where there is another fault and nowhere else.
        """
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in LEAST:
            stop = self._stop(node.func)
            self._put("min_max", (stop - len(name), stop), LEAST[name], node.lineno)
        before = max(node.args, key=self._stop, default=None)
        for each in node.keywords:
            start = self._start(each) if before is None else self._stop(before)
            tail = re.match(rb"\s*,?", self._source[self._stop(each) :]) if before is None else None
            if each.arg is not None and (name, each.arg) != ("zip", "strict"):
                stop = self._stop(each) + (0 if tail is None else tail.end())
                self._put("keyword", (start, stop), "", each.lineno)
            before = each
        self.generic_visit(node)

    def _assigned(self, node: ast.stmt, target: ast.expr) -> None:
        if isinstance(target, ast.Attribute | ast.Subscript):
            self._add("drop", node, "pass")

    def _negate(self, node: ast.expr) -> None:
        if not isinstance(node, ast.UnaryOp):
            self._add("negation", node, f"not ({self._text(node)})", is_whole=True)

    def _between(self, operator: str, left: ast.expr, right: ast.expr, others: Mapping[str, str]) -> None:
        """Offer another operator between two expressions."""
        start, stop = self._stop(left), self._start(right)
        gap = self._source[start:stop].decode()
        found = None if "#" in gap else OPERATOR.search(gap)
        if found is not None and (new := others.get(" ".join(found[0].split()))) is not None:
            at = start + len(gap[: found.start()].encode())
            self._put(operator, (at, at + len(found[0])), new, left.lineno)

    def _add(self, operator: str, node: ast.stmt | ast.expr, new: str, *, is_whole: bool = False) -> None:
        """Offer another text for a node; ``is_whole``: it has the line ends that the node had."""
        if is_whole or "\n" not in new:
            self._put(operator, (self._start(node), self._stop(node)), new, node.lineno)

    def _put(self, operator: str, span: tuple[int, int], new: str, line: int) -> None:
        old = self._source[slice(*span)].decode()
        self.found.append(Mutant(self._file, line, operator, *span, old, new, self._in_kernel))

    def _text(self, node: ast.expr) -> str:
        return self._source[self._start(node) : self._stop(node)].decode()

    def _start(self, node: ast.stmt | ast.expr | ast.keyword) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _stop(self, node: ast.stmt | ast.expr | ast.keyword) -> int:
        return self._starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)


def candidates(file: str, source: bytes) -> list[Mutant]:
    """Return every mutant of a source, in no particular order. Whether it can be compiled is not looked at."""
    visitor = _Candidates(file, source)
    visitor.visit(ast.parse(source))
    return visitor.found


def is_another(mutant: Mutant, source: bytes) -> bool:
    """Return whether a mutant can be compiled and says something else than its source."""
    try:
        after = ast.parse(mutant.applied(source))
    except SyntaxError:
        return False
    return ast.dump(after) != ast.dump(ast.parse(source))


def draw(sources: Mapping[str, bytes], count: int, seed: int) -> list[Mutant]:
    """Return mutants drawn from all sources, each module with as many as its candidates are of all.

    Within a module an operator is drawn, then a place: else most would be constants. Modules are gone through in the
    order of their names with one random start, so that each folder has its share as well.
    """
    every = {file: candidates(file, source) for file, source in sorted(sources.items())}
    step = sum(map(len, every.values())) / count if count else 0.0
    edge = random.Random(seed).random() * step  # noqa: S311  # a seeded draw
    found, before = list[Mutant](), 0
    for file, mutants in every.items():
        wanted = 0
        while step and edge < before + len(mutants):
            wanted, edge = wanted + 1, edge + step
        before += len(mutants)
        found += _drawn(mutants, sources[file], wanted, random.Random(f"{seed} {file}"))  # noqa: S311  # as above
    return found


def _drawn(mutants: Sequence[Mutant], source: bytes, wanted: int, dice: random.Random) -> Iterator[Mutant]:
    """Yield some mutants of a module, no two of them at one place."""
    left: dict[str, list[Mutant]] = {}
    for each in mutants:
        left.setdefault(each.operator, []).append(each)
    taken: set[tuple[int, int]] = set()
    while wanted and left:
        operator = dice.choice(sorted(left))
        mutant = left[operator].pop(dice.randrange(len(left[operator])))
        if not left[operator]:
            del left[operator]
        if (mutant.start, mutant.stop) not in taken and is_another(mutant, source):
            taken.add((mutant.start, mutant.stop))
            wanted -= 1
            yield mutant
