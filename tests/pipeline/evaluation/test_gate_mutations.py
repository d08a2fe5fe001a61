"""The gate broken on purpose, one sign at a time: each time the table of cases must notice."""

import ast
import copy
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import gate_cases
import pytest

from pipeline.evaluation import gate

SOURCE = Path(gate.__file__).read_text(encoding="utf-8")
DECIDING = {
    "identical", "compare", "compare_slices", "success", "judge_limits", "decide", "_broken", "_by_policy", "is_worse",
    "gain", "judged_by_limits", "_by_limits", "_beside_best", "surely_better",
}  # fmt: skip
# Each sign turned round, and moved by the one value on its boundary.
SIGNS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.Gt, ast.LtE),
    ast.LtE: (ast.GtE, ast.Lt),
    ast.Gt: (ast.Lt, ast.GtE),
    ast.GtE: (ast.LtE, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
OTHER_WORD = {"accept": "keep", "refuse": "keep", "keep": "accept"}


def _replacements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What this node can be broken into."""
    if isinstance(node, ast.Compare):
        for other in SIGNS.get(type(node.ops[0]), ()):
            yield other.__name__, ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        for other in SIGNS[type(node.op)]:
            yield other.__name__, ast.BoolOp(other(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield f"without {type(node.op).__name__}", node.operand
    elif isinstance(node, ast.IfExp):
        yield "branches exchanged", ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant) and node.value in OTHER_WORD:
        yield OTHER_WORD[node.value], ast.Constant(OTHER_WORD[node.value])


class _Break(ast.NodeTransformer):
    """Put the replacement where the node with that number is."""

    def __init__(self, number: int, replacement: ast.AST):
        self.number, self.replacement = number, replacement

    def visit(self, node: ast.AST) -> ast.AST:
        if getattr(node, "number", None) == self.number:
            return ast.copy_location(copy.deepcopy(self.replacement), node)
        return self.generic_visit(node)


def mutants() -> Iterator[tuple[str, ast.Module]]:
    """Every broken gate, and where it is broken."""
    tree = ast.parse(SOURCE)
    for number, node in enumerate(ast.walk(tree)):
        node.number = number  # type: ignore[attr-defined]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in DECIDING]
    for function in functions:
        for statement in function.body:
            for node in ast.walk(statement):
                for what, replacement in _replacements(node):
                    broken = _Break(node.number, replacement).visit(copy.deepcopy(tree))
                    name = f"{function.name}, line {node.lineno}: {ast.unparse(node)} -> {what}"
                    yield name, ast.fix_missing_locations(broken)


def load(tree: ast.Module) -> types.ModuleType:
    """The module that a tree is the source of; known by name while it is made, for dataclasses look it up."""
    module = types.ModuleType("broken_gate")
    sys.modules[module.__name__] = module
    try:
        exec(compile(tree, gate.__file__, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


MUTANTS = list(mutants())


def test_the_unbroken_source_passes_every_case():
    """What kills a mutant is the mutation, not the way it is loaded."""
    gate_cases.check_all(load(ast.parse(SOURCE)))


def test_there_is_something_to_break():
    """Each deciding function is broken at least once, so that none silently escapes when it is renamed."""
    broken = {name.split(",")[0] for name, _ in MUTANTS}
    assert broken == DECIDING - {"judge_limits"}  # which has no sign to turn
    assert len(MUTANTS) > 60


@pytest.mark.parametrize("tree", [tree for _, tree in MUTANTS], ids=[name for name, _ in MUTANTS])
def test_every_broken_gate_is_noticed(tree):
    """With one sign, word or operator changed, at least one case comes out wrong."""
    with pytest.raises((AssertionError, TypeError, ValueError, AttributeError, IndexError)):
        gate_cases.check_all(load(tree))
