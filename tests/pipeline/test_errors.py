"""The edge: errors that a user can act on become words and exit status 1, and nothing else is hidden."""

import re
import sys

import pytest

from pipeline import errors
from pipeline.errors import DataError, ProjectError, RegistryError, SlipwayError, edge, in_project


def raising(error):
    """A command that ends with this error."""

    @edge
    def main():
        """What it does."""
        raise error

    return main


def test_error_becomes_words_and_status_1(capsys):
    """What is wrong and what to do next go to standard error, one line each; nothing to standard output."""
    assert raising(DataError("the data has no rows", "add rows"))() == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "error: the data has no rows\n  next: add rows\n")


def test_without_advice_there_is_one_line(capsys):
    """An error without advice makes one line."""
    assert raising(SlipwayError("wrong"))() == 1
    assert capsys.readouterr().err == "error: wrong\n"


def test_status_of_the_command_is_kept():
    """What main returns is the exit status; nothing returned is success."""
    assert [edge(lambda status=status: status)() for status in (0, 3, None)] == [0, 3, 0]


def test_keyboard_ends_with_130(capsys):
    """Control-C ends a command with a word and the shell's usual status."""
    assert raising(KeyboardInterrupt())() == 130
    assert capsys.readouterr().err == "stopped by the keyboard or a signal\n"


def test_our_own_faults_keep_their_traceback():
    """An error that the user cannot act on is ours, and is raised as it is."""
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())()


def test_errors_of_mlflow_and_of_the_network_are_told(capsys):
    """What MLflow or requests raise becomes their first line, with advice."""
    import requests

    assert raising(requests.ConnectionError("refused\nand more"))() == 1
    assert capsys.readouterr().err == (
        "error: MLflow: refused\n  next: `make doctor` says which MLflow is used and whether it answers\n"
    )


def test_files_that_cannot_be_used_are_named(capsys):
    """An error of the system about a file names the file and the system's reason."""
    assert raising(PermissionError(13, "Permission denied", "/x/build"))() == 1
    assert "error: /x/build: Permission denied" in capsys.readouterr().err
    with pytest.raises(OSError, match="no file"):
        raising(OSError("no file"))()


def test_fault_in_project_names_the_line(tmp_path, monkeypatch):
    """An exception out of project/ names function, file, line and reason, and keeps its cause."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project/own_code.py").write_text("def own():\n    return {}['key']\n")
    monkeypatch.syspath_prepend(tmp_path / "project")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import own_code

    with pytest.raises(ProjectError) as caught, in_project("own() in project/own_code.py"):
        own_code.own()
    assert caught.value.what == "own() in project/own_code.py failed (project/own_code.py, line 2): KeyError: 'key'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_errors_of_ours_pass_through_project():
    """An error that already says what to do is not wrapped."""
    with pytest.raises(DataError, match="no rows"), in_project("load()"):
        raise DataError("no rows")


def test_every_error_is_in_the_tree_of_the_docstring():
    """The tree drawn in the module's docstring names each error class, and no other."""
    drawn = set(re.findall(r"\b\w+Error\b", errors.__doc__))
    there = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, SlipwayError)
    }
    assert drawn == there and issubclass(RegistryError, SlipwayError)


def test_a_missing_package_comes_with_the_command_that_adds_it():
    """Where project/ imports what is not installed, the next step is `make add`; a misspelt module of project/ is for the team to correct."""
    with pytest.raises(ProjectError) as caught, in_project("build()"):
        import no_such_library.trees  # noqa: F401
    assert "no_such_library" in caught.value.what and "`make add PACKAGE=no_such_library`" in caught.value.then
    with pytest.raises(ProjectError) as caught, in_project("build()"):
        import project.no_such_module  # noqa: F401
    assert caught.value.then == "correct it and run again"
