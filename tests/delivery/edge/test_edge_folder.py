"""The folder of `make edge`: what it holds, and that its three ways to ask give the service's answers."""

import functools
import http.server
import json
import math
import shutil
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest
from selenium.webdriver.support.ui import Select, WebDriverWait

from delivery.edge import folder as edge_folder
from delivery.edge import packages
from delivery.edge.templates import predict
from pipeline.artifacts import read_json, write_json
from pipeline.errors import PortabilityError, StageError
from serving.model.contract import Contract
from tests.delivery.edge.conftest import bundle_of
from tests.serving.browser import PATIENCE, browsing

ROWS = [
    {"size": 2.5, "rooms": 4, "new": True, "age": None},
    {"size": 4.75, "rooms": 1.0, "new": 0, "age": 61.2},
    {"size": -1e6, "rooms": 20, "new": False, "age": 0},
]
TOWNS = ["Paris", "", "somewhere else"]
ODD = [None, "", "x", True, 0, 1, 2, 0.5, -1, 21, 1e300, 10**400, [1], {"a": 1}, "true", "Köln"]
NODE_READS = """
require("./model.js");
const { contract, values } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const fits = (column, value) => { try { slipway.read(contract, column, value); return true; } catch { return false; } };
console.log(JSON.stringify(contract.inputs.map((column) => values.map((value) => fits(column, value)))));
"""


def rows_of(name: str) -> list[dict]:
    """Rows for one of the three models."""
    return [row | ({"town": town} if name == "columns" else {}) for row, town in zip(ROWS, TOWNS, strict=True)]


def answered(command: list[str], folder, *arguments: str, given: str = "") -> subprocess.CompletedProcess:
    """What a script of the folder says."""
    return subprocess.run([*command, *arguments], cwd=folder, input=given, capture_output=True, text=True, timeout=120)


def commands(runtimes: packages.Runtimes) -> list[list[str]]:
    """Both scripts. Python sees nothing of this repository."""
    return [[sys.executable, "-I", "predict.py"], [runtimes.node, "predict.mjs"]]


def close(one, other) -> bool:
    """Whether two answers are alike: the label the same, numbers within a millionth."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    return one == other if isinstance(one, str) else math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("name", ["matrix", "columns", "values"])
def test_python_and_node_answer_alike(folders, runtimes, name):
    """Numbers, whole numbers, yes and no, null and text of a kind that training never saw get the same answer in both."""
    folder, _ = folders[name]
    python, node = (answered(command, folder, "--json", json.dumps(rows_of(name))) for command in commands(runtimes))
    assert python.returncode == node.returncode == 0, python.stderr + node.stderr
    ours, theirs = json.loads(python.stdout), json.loads(node.stdout)
    assert len(ours) == 3 and all(close(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_threshold_chooses_the_label(folders, runtimes):
    """Where the contract has a threshold, neither script names the most probable class below it."""
    folder, _ = folders["columns"]
    for command in commands(runtimes):
        rows = [{"size": 3 + step / 10, "rooms": 4, "new": True, "age": 40, "town": "Paris"} for step in range(-10, 10)]
        found = json.loads(answered(command, folder, "--json", "-", given=json.dumps(rows)).stdout)
        assert {one["label"] for one in found} == {"yes", "no"}
        assert all((one["label"] == "yes") == (one["probabilities"]["yes"] >= 0.8) for one in found)
        assert any(0.5 < one["probabilities"]["yes"] < 0.8 for one in found)


@pytest.mark.parametrize("name", ["matrix", "columns", "values"])
def test_each_script_checks_the_golden_rows(folders, name):
    """Both say how many golden rows they answered, and that none differs by more than a millionth."""
    _, made = folders[name]
    python, node, page = made.parts
    assert made.golden_rows == python.measured.golden_rows == node.measured.golden_rows > 20
    assert max(python.measured.largest_difference, node.measured.largest_difference) < 1e-6
    assert min(python.measured.median_ms, node.measured.median_ms) > 0
    assert page.measured is None and 4e6 < page.size < 7e6 < node.size


def test_a_changed_model_is_noticed(folders, runtimes, tmp_path):
    """A golden row that is answered otherwise ends both scripts with status 1 and its number."""
    folder = tmp_path / "edge"
    shutil.copytree(folders["values"][0], folder)
    golden = read_json(folder / "bundle" / "golden.json")
    golden["expected"][3]["value"] += 1
    write_json(folder / "bundle" / "golden.json", golden)
    for command in commands(runtimes):
        done = answered(command, folder)
        assert done.returncode == 1 and "golden row 3 differs by" in done.stdout


def test_each_script_has_a_form(folders, runtimes):
    """--form asks for each input, says what is allowed, asks again after a wrong value, and takes the example for Enter."""
    folder, _ = folders["columns"]
    for command in commands(runtimes):
        done = answered(command, folder, "--form", given="big\n2.5\n99\n4\nyes\nnull\nParis\n")
        assert done.returncode == 0, done.stderr
        assert "'size': \"big\" was given, allowed is a number" in done.stdout
        assert "allowed is a whole number, at least 1 and at most 20" in done.stdout
        typed = json.loads(answered(command, folder, "--json", json.dumps([2.5, 4, True, None, "Paris"])).stdout)
        assert typed["label"] in done.stdout.splitlines()[-3]


def test_a_bad_row_is_refused_in_one_line(folders, runtimes):
    """What is missing, unknown, of the wrong type or no JSON ends both scripts with status 2 and the same words."""
    folder, _ = folders["matrix"]
    bad = ({"size": 1}, rows_of("matrix")[0] | {"extra": 1}, [1, 2], [1, 2.5, True, None], "x")
    for row in bad:
        said = [answered(command, folder, json.dumps(row)) for command in commands(runtimes)]
        assert {done.returncode for done in said} == {2} and len({done.stderr for done in said}) == 1, said
        assert said[0].stderr.startswith("error: ") and said[0].stderr.count("\n") == 1
    assert {answered(command, folder, "{").returncode for command in commands(runtimes)} == {2}


def test_the_scripts_take_what_the_service_takes(folders, runtimes):
    """Of many odd values for each kind of input, Python and Node accept exactly those that the service accepts."""
    folder, _ = folders["columns"]
    plain = read_json(folder / "bundle" / "contract.json")
    contract = msgspec.convert(plain, Contract)

    def taken(read, *last) -> bool:
        try:
            read(*last)
        except (ValueError, predict.Refused):
            return False
        return True

    values = [value for value in ODD if value != 10**400]  # JavaScript reads it as infinity, and refuses that
    wanted = [[taken(column.read, value, contract.largest) for value in values] for column in contract.inputs]
    ours = [[taken(predict.read, plain, column, value) for value in values] for column in plain["inputs"]]
    done = answered([runtimes.node, "-e", NODE_READS], folder, given=json.dumps({"contract": plain, "values": values}))
    assert ours == wanted and json.loads(done.stdout) == wanted, done.stderr
    assert not taken(predict.read, plain, plain["inputs"][0], 10**400)


@pytest.fixture
def address(folders):
    """A function that serves one of the folders and gives the address."""
    servers = []

    def serve(name: str) -> str:
        handler = functools.partial(Quiet, directory=str(folders[name][0]))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/index.html"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_):
        """Nothing."""


@pytest.mark.needs("browser")
def test_the_page_answers_like_the_scripts(folders, runtimes, address, tmp_path):
    """Opened from the folder and over HTTP, the page checks the golden rows, answers its form as Node does, and asks nobody."""
    with browsing(tmp_path / "profile") as browser:
        for name, over_http in (("columns", False), ("matrix", False), ("values", True)):
            folder, _ = folders[name]
            browser.open(address(name) if over_http else (folder / "index.html").as_uri(), "#ask")
            WebDriverWait(browser.driver, PATIENCE).until(lambda _: "loading" not in browser.one("#state").text)
            assert "golden rows are answered as expected" in browser.one("#state").text
            found = json.loads(browser.one("#state").get_attribute("data-result"))
            assert found["largest_difference"] < 1e-6 and found["golden_rows"] == folders[name][1].golden_rows
            fill(browser, [2.5, 4, True, "", *(["Paris"] if name == "columns" else [])])
            row = [2.5, 4, True, None, *(["Paris"] if name == "columns" else [])]
            node = json.loads(answered([runtimes.node, "predict.mjs"], folder, "--json", json.dumps(row)).stdout)
            shown = browser.one("#answer h2").text.removeprefix("target: ")
            assert shown == node.get("label") or math.isclose(float(shown), node["value"], rel_tol=1e-5)
            bars = [text for text in browser.texts("#answer .bar span") if "%" in text]
            assert bars == [f"{value * 100:.1f} %" for value in node.get("probabilities", {}).values()]
            fill(browser, ["", 4, True, ""])
            assert browser.one("#answer .refused").text.startswith("'size': \"\" was given, allowed is a number")
            assert browser.complaints() == []
            foreign = [url for url in browser.asked() if url.startswith("http") and "127.0.0.1" not in url]
            assert not foreign


def fill(browser, values: list) -> None:
    """Fill in the form and send it."""
    browser.run("document.getElementById('answer').replaceChildren()")
    for place, value in enumerate(values):
        control = browser.one(f"#f{place}")
        if control.tag_name == "select":
            Select(control).select_by_value(str(value).lower())
        else:
            control.clear()
            control.send_keys(str(value))
    browser.one("#ask").click()
    WebDriverWait(browser.driver, PATIENCE).until(lambda _: browser.all("#answer *"))


def test_without_node_the_python_part_is_there(tmp_path):
    """Where npm is missing, Python's part is written and tried, and what is left out is named, in README.txt too."""
    made = edge_folder.write(
        bundle_of(tmp_path, "regression", False),
        tmp_path / "edge",
        packages.Runtimes(absent="npm is not on this machine"),
    )
    assert made.parts[0].measured.largest_difference < 1e-6
    assert [one.absent for one in made.parts[1:]] == ["npm is not on this machine"] * 2
    assert "not here: npm is not on this machine" in (tmp_path / "edge" / "README.txt").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "edge").iterdir()} == {"bundle", "predict.py", "README.txt"}


def test_a_model_that_is_not_onnx_is_refused_with_its_reason():
    """The reason is the contract's own."""
    contract = {"format": "skops", "format_reason": "KBinsDiscretizer: ONNX differs by 0.3"}
    with pytest.raises(PortabilityError, match=r"this one is skops: KBinsDiscretizer: ONNX differs by 0\.3"):
        edge_folder.refuse(contract)


def test_rules_that_are_left_out_are_named():
    """Rules are Python code of the service: the folder says which it does not apply."""
    assert edge_folder.notes_on({"rules": None}) == edge_folder.notes_on({}) == []
    (note,) = edge_folder.notes_on({"rules": {"before": ["minors"], "after": ["cap"]}})
    assert note.startswith("The rules minors, cap are not applied here")


@pytest.mark.parametrize(("task", "text"), [("regression", False), ("binary", True)])
def test_a_model_with_rules_is_checked_without_them(tmp_path, task, text):
    """The golden answers of a bundle are those of rules and model together; the folder's are the model's own, and it names no rule."""
    source = bundle_of(tmp_path, task, text)
    contract, golden = read_json(source / "contract.json"), read_json(source / "golden.json")
    alone = [dict(one) for one in golden["expected"]]
    golden["expected"][0] = {"value": 0.0} if task == "regression" else {"label": "no", "probabilities": [1.0, 0.0]}
    write_json(source / "golden.json", golden)
    write_json(source / "contract.json", contract | {"rules": {"before": ["minors"], "after": []}})
    made = edge_folder.write(source, tmp_path / "edge", packages.Runtimes(absent="npm is not on this machine"))
    own = read_json(tmp_path / "edge" / "bundle" / "golden.json")["expected"]
    key = "value" if task == "regression" else "probabilities"
    assert np.allclose([one[key] for one in own], [one[key] for one in alone], atol=1e-6)
    assert [one.get("label") for one in own] == [one.get("label") for one in alone]
    assert "rules" not in read_json(tmp_path / "edge" / "bundle" / "contract.json")
    assert made.parts[0].measured.largest_difference < 1e-6 and "The rules minors" in made.notes[0]


def test_a_script_that_differs_is_no_folder(tmp_path):
    """A model whose golden rows are answered otherwise here stops the build."""
    source = bundle_of(tmp_path, "regression", False)
    golden = read_json(source / "golden.json")
    golden["expected"][0]["value"] = golden["expected"][0]["value"] + 1
    write_json(source / "golden.json", golden)
    with pytest.raises(StageError, match="golden row 0 differs by"):
        edge_folder.write(source, tmp_path / "edge", packages.Runtimes(absent="npm is not on this machine"))
