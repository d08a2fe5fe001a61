"""The service's pages in a real browser: the model's form at /, the API's documentation at /docs and /redoc."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from selenium.webdriver.common.keys import Keys

from serving.http import pages
from tests.serving.browser import browsing
from tests.serving.bundles import change, make_bundle, make_wide_bundle, read
from tests.serving.service import serving

FORM = "#f0"  # present once the form is drawn
ANSWER = "#facts dd"
LONG = "class {} whose name goes on for long enough to need more than one line of the page"
# The contrast ratio between each visible text and its background, as WCAG 2 defines it.
CONTRASTS = """
const light = (color) => {
  const parts = color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const ground = (element) => {
  const color = getComputedStyle(element).backgroundColor;
  return color === "rgba(0, 0, 0, 0)" && element.parentElement ? ground(element.parentElement) : color;
};
const said = [...document.body.querySelectorAll("*")].filter((element) => element.checkVisibility()
  && [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
return said.concat([...document.querySelectorAll("input")]).map((element) => {
  const [one, other] = [light(getComputedStyle(element).color), light(ground(element))];
  return [element.textContent || element.id, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)];
});
"""


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """One browser for all tests of this file."""
    with browsing(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture
def browser(window):
    """The browser with a wide window in light mode."""
    window.look(prefers_color_scheme="light")
    return window


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A service with 30 inputs and 100 classes, whose names are long and contain HTML."""
    names = ["<b>bold</b>", *(f"worst_fractal_dimension_of_the_cell_nucleus_{number}" for number in range(29))]
    classes = ["<i>class</i>", "0", *(LONG.format(number) for number in range(98))]
    model = "<script>document.title = 'taken over'</script>"
    bundle = make_wide_bundle(tmp_path_factory.mktemp("wide") / "bundle", names, classes, model)
    with serving(bundle) as service:
        yield service


@contextmanager
def gateway(service, key):
    """A proxy in front of a service that requires a key."""

    class Gateway(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path in ("/model/info", "/predict") and self.headers.get("X-API-Key") != key:
                return self.answer(401, b'{"detail": "this key is not known"}', {"Content-Type": "application/json"})
            there = requests.request(self.command, service.url + self.path, data=body, timeout=10)
            self.answer(there.status_code, there.content, there.headers)

        do_POST = do_GET

        def answer(self, status, body, headers):
            self.send_response(status)
            for name in ("Content-Type", "Content-Security-Policy"):
                if name in headers:
                    self.send_header(name, headers[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def type_into(browser, selector, text):
    """Focus a field and replace its content."""
    browser.run("arguments[0].focus()", browser.one(selector))
    browser.press(Keys.CONTROL + "a" + Keys.NULL, Keys.DELETE, text)


def predict(browser):
    """Press Enter in the focused element, and wait for an answer or an error."""
    browser.press(Keys.ENTER)
    browser.wait(f"{ANSWER}, .alert, [aria-invalid=true]")


def percent(share):
    """A probability as the page writes it: only exactly 0 or 1 is shown as 0 or 100 %."""
    if not 0.001 <= share <= 0.999:
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    return f"{share * 100:.1f} %"


def test_form_has_the_contract_s_inputs(browser, service):
    """For each kind of model the inputs are in order, each with its type and its example filled in."""
    browser.open(service.url, FORM)
    contract = service.contract
    assert browser.one("h1").text == contract["name"] and browser.one("#version").text == "version 3"
    assert contract["target"] in browser.one("#about").text
    assert browser.texts("#fields label") == [column["name"] for column in contract["inputs"]]
    words = {"number": "number", "integer": "whole number", "boolean": "true or false", "text": "text"}
    for number, column in enumerate(contract["inputs"]):
        field = browser.one(f"#f{number}")
        chosen = field.get_attribute("value") if field.tag_name == "input" else field.text.splitlines()[0]
        if field.tag_name == "select":
            chosen = browser.run("return arguments[0].selectedOptions[0].textContent", field)
        assert chosen == str(column["example"]).lower().removesuffix(".0")
        hint = browser.one(f"#f{number}-hint").text
        assert hint.startswith(words[column["type"]]) and ("or empty" in hint) == column["nullable"]
        if column["minimum"] is not None and column["maximum"] is not None:
            assert f"{column['minimum']:g} to {column['maximum']:g}" in hint
        if column["observed"]:
            assert f"in training {column['observed']['minimum']:g} to {column['observed']['maximum']:g}" in hint
    assert browser.complaints() == []


def test_page_shows_the_service_s_answer(browser, service):
    """Label or value, a bar for each class, version, latency and request id are those of the response."""
    browser.open(service.url, FORM)
    browser.one(FORM).click()
    predict(browser)
    answer = service.predict(service.example).json()
    said = browser.one("#said").text
    if service.contract["task"] == "regression":
        assert f"{answer['value']:g}" in said and not browser.all(".bars li")
    else:
        assert answer["label"] in said
        assert browser.texts(".bars .share") == [percent(share) for share in answer["probabilities"].values()]
        assert browser.texts(".bars .row span:first-child") == list(answer["probabilities"])
        widths = browser.run("return [...document.querySelectorAll('.bar')].map((bar) => bar.style.width)")
        assert [float(width[:-1]) for width in widths] == pytest.approx(
            [share * 100 for share in answer["probabilities"].values()], abs=1e-3
        )
        assert browser.texts(".chosen .row span:first-child") == [answer["label"]]
    facts = dict(zip(browser.texts("#facts dt"), browser.texts("#facts dd"), strict=True))
    assert facts["Model version"] == "3" and facts["Latency"].endswith(" ms")
    assert re.fullmatch(r"[0-9a-f]{32}", facts["Request id"])
    assert browser.complaints() == []


def test_form_works_with_the_keyboard_alone(browser, binary):
    """Tab reaches each field and the button in order, and keys fill in, choose and send."""
    browser.open(binary.url, FORM)
    passed = []
    while "f0" not in passed and len(passed) < 20:
        browser.press(Keys.TAB)
        passed.append(browser.focused())
    for text, field in (("20", "f0"), ("0.5", "f1"), ("2", "f2")):
        assert browser.focused() == field
        browser.press(Keys.CONTROL + "a" + Keys.NULL, text, Keys.TAB)
    browser.press("f", Keys.TAB)
    assert browser.focused() == "key"
    browser.press(Keys.TAB)
    assert browser.focused() == "predict"
    browser.press(Keys.SPACE)
    browser.wait(ANSWER)
    answer = binary.predict([20, 0.5, 2, False]).json()
    assert percent(max(answer["probabilities"].values())) in browser.one("#said").text
    for back in ("key", "f3", "f2", "f1", "f0", "example"):
        browser.press(Keys.SHIFT, Keys.TAB)
        assert browser.focused() == back
    browser.press(Keys.ENTER)
    assert browser.one(FORM).get_attribute("value") == "12.5"
    assert browser.one("#answer-title").text == "Answer to the values before"


def test_errors_are_shown_beside_their_fields(browser, binary):
    """An error is shown at each field it concerns and linked to it for screen readers; the first such field gets the focus."""
    browser.open(binary.url, FORM)
    type_into(browser, "#f2", "eleven")
    type_into(browser, "#f0", "1000")
    predict(browser)
    assert browser.focused() == "f0"
    said = {"f0": "1000 was given, allowed is a number from 0 to 100", "f2": '"eleven" was given, allowed is a whole'}
    for name, words in said.items():
        field, error = browser.one(f"#{name}"), browser.one(f"#{name}-error")
        assert error.text.startswith(words) and error.is_displayed()
        assert field.get_attribute("aria-invalid") == "true"
        assert f"{name}-error" in field.get_attribute("aria-describedby").split()
    assert browser.one("#alert").get_attribute("role") == "alert"
    assert browser.one("#alert").text == "2 values were refused; the reason stands beside it."
    assert browser.one("#f1").get_attribute("aria-invalid") is None and not browser.texts("#f1-error")[0]
    type_into(browser, "#f2", "3")
    type_into(browser, "#f0", "10")
    predict(browser)
    browser.wait(ANSWER)
    assert not browser.all("[aria-invalid], .alert") and browser.one("#said").get_attribute("role") == "status"


def test_empty_field_is_null_or_missing(browser, columns, binary):
    """An empty nullable field is sent as null, any other is left out."""
    browser.open(columns.url, FORM)
    type_into(browser, FORM, "")
    predict(browser)
    answer = columns.predict({**columns.example, "age": None}).json()
    assert percent(max(answer["probabilities"].values())) in browser.one("#said").text
    browser.open(binary.url, FORM)
    type_into(browser, FORM, "")
    predict(browser)
    assert browser.texts("#f0-error") == ["Feature 'mass' is missing"]


def test_nullable_choice_offers_null(browser, tmp_path):
    """If the contract allows null, a list of values offers it and sends it as null."""
    folder = make_bundle("columns", tmp_path / "bundle")
    inputs = read(folder, "contract.json")["inputs"]
    inputs[1]["nullable"] = True
    with serving(change(folder, "contract.json", inputs=inputs)) as service:
        browser.open(service.url, FORM)
        assert browser.texts("#f1 option") == ["red", "green", "blue", "empty (null)"]
        type_into(browser, FORM, "30.5")
        browser.press(Keys.TAB)
        browser.press(Keys.END)
        browser.press(Keys.TAB)
        predict(browser)
        answer = service.predict({**service.example, "colour": None}).json()
    assert browser.texts(".bars .share") == [percent(share) for share in answer["probabilities"].values()]


def test_value_outside_the_observed_range_warns(browser, binary):
    """An allowed value outside what training saw is marked before it is sent."""
    browser.open(binary.url, FORM)
    assert not browser.all(".outside")
    type_into(browser, FORM, "90")
    assert browser.texts(".outside") == ["outside training 0.5 to 80"]


def test_observed_texts_are_hinted_and_offered(browser, tmp_path):
    """The hint names them, the field offers them, and warns about any other; an empty field does not warn."""
    bundle = make_bundle("columns", tmp_path / "bundle")
    inputs = read(bundle, "contract.json")["inputs"]
    inputs[2]["observed"] = {"values": ["a", "b", "c", "d", "e", "<i>f</i>"]}
    with serving(change(bundle, "contract.json", inputs=inputs)) as service:
        browser.open(service.url, FORM)
        assert [one.get_attribute("value") for one in browser.all("#f2-seen option")] == inputs[2]["observed"]["values"]
        field = browser.one("#f2")
        for text, said in (("a", ""), ("mauve", "not seen in training, which had a, b, c, d, e, …"), ("", "")):
            field.clear()
            field.send_keys("x", Keys.BACK_SPACE, text)
            assert browser.texts("#f2-hint .outside") == ([said] if said else [])
        assert browser.texts("#f2-hint span")[1] == "in training a, b, c, d, e, …"


def test_previous_answer_is_marked(browser, binary):
    """From the second answer on, each bar has a mark at its previous value."""
    browser.open(binary.url, FORM)
    type_into(browser, FORM, "10")
    predict(browser)
    before = browser.run("return document.querySelector('.bar').style.width")
    assert not browser.all(".before")
    type_into(browser, FORM, "60")
    predict(browser)
    browser.wait(".before")
    assert before in browser.run("return document.querySelector('.before').style.left")


def test_key_is_requested_after_a_401(browser, binary):
    """The error is shown at the key's field, which gets the focus; with a valid key the form works, and the key is stored nowhere."""
    with gateway(binary, "right-key") as url:
        browser.open(url, "#key[aria-invalid=true]")
        assert browser.focused() == "key" and browser.texts("#key-error") == ["This key is not known"]
        assert browser.texts("#key-need, #predict") == ["needed here", "Try again"]
        type_into(browser, "#key", "right-key")
        browser.press(Keys.ENTER)
        browser.wait(FORM)
        predict(browser)
        assert browser.texts("#key-error, #predict") == ["", "Predict"] and browser.texts("#facts dd")[0] == "3"
        type_into(browser, "#key", "wrong")
        browser.press(Keys.ENTER)
        browser.wait("#key[aria-invalid=true]")
        assert browser.focused() == "key" and browser.one("#key").get_attribute("type") == "password"
        assert "X-API-Key: $API_KEY" in browser.texts("#command")[0]
        assert browser.run("return localStorage.length + sessionStorage.length + document.cookie.length") == 0
        browser.driver.refresh()
        browser.wait("#key[aria-invalid=true]")
        assert browser.one("#key").get_attribute("value") == ""


def test_unreachable_service_is_reported(browser, bundle):
    """When the service does not respond, the page says so and keeps the input."""
    with serving(bundle) as service:
        browser.open(service.url, FORM)
    type_into(browser, FORM, "33")
    predict(browser)
    assert browser.one("#alert").text == "The service did not answer."
    assert browser.one(FORM).get_attribute("value") == "33"


def test_shell_command_sends_the_same_request(browser, columns):
    """The command for a shell sends what the form would send, including quotes."""
    browser.open(columns.url, FORM)
    type_into(browser, "#f2", "it's")
    command = browser.texts("#command")[0]
    assert command.startswith(f"curl {columns.url}/predict ")
    assert command.endswith("""-d '{"features":{"age":30.5,"colour":"green","note":"it'\\''s"}}'""")


def test_names_are_shown_as_text(browser, wide):
    """HTML in the name of a model, an input or a class is shown as text and not interpreted."""
    browser.open(wide.url, FORM)
    assert browser.one("h1").text == wide.contract["name"]
    assert browser.driver.title.startswith("<script>")
    assert browser.texts("#fields label")[0] == "<b>bold</b>"
    browser.one(FORM).click()
    predict(browser)
    assert "<i>class</i>" in browser.texts(".bars .row span:first-child")
    assert not browser.all("main b, main i, main script") and browser.complaints() == []


def test_many_classes_are_folded(browser, wide):
    """Of a hundred classes the ten most probable are shown, in that order; the others unfold."""
    browser.open(wide.url, FORM)
    browser.one(FORM).click()
    predict(browser)
    shown = [row for row in browser.all(".bars li") if row.is_displayed()]
    probabilities = wide.predict(wide.example).json()["probabilities"]
    best = sorted(probabilities, key=probabilities.get, reverse=True)
    assert [row.text.splitlines()[0] for row in shown] == best[:10]
    browser.one(".more summary").click()
    assert browser.texts(".bars .row span:first-child") == best


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_page_fits_any_screen(browser, wide, width):
    """Thirty inputs and long names fit from 320 pixels on: nothing overflows."""
    browser.look(width)
    browser.open(wide.url, FORM)
    browser.one(FORM).click()
    predict(browser)
    assert browser.run("return innerWidth") == width
    assert browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    over = "return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth).length"
    assert browser.run(over) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser, binary, scheme):
    """In light and dark mode, each text of form, answer and error has a contrast of at least 4.5."""
    browser.look(prefers_color_scheme=scheme)
    browser.open(binary.url, FORM)
    browser.one("#curl summary").click()
    type_into(browser, FORM, "90")
    predict(browser)
    type_into(browser, FORM, "lots")
    browser.press(Keys.ENTER)
    browser.wait(".alert")
    browser.run("for (const e of document.querySelectorAll('*')) e.style.transition = 'none'")
    contrasts = browser.run(CONTRASTS)
    assert len(contrasts) > 30
    assert [text for text in contrasts if text[1] < 4.5] == []
    dark = browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 21, 26)"
    assert dark == (scheme == "dark")


def test_reduced_motion_is_respected(browser, binary):
    """Bars are drawn without animation for people who prefer reduced motion."""
    for preference, seconds in (("no-preference", "0.25s"), ("reduce", "0s")):
        browser.look(prefers_reduced_motion=preference)
        browser.open(binary.url, FORM)
        browser.one(FORM).click()
        predict(browser)
        assert browser.run("return getComputedStyle(document.querySelector('.bar')).transitionDuration") == seconds


def test_docs_show_operations_and_fields(browser, columns):
    """/docs has every operation and each input with its type, and sends the example."""
    browser.open(f"{columns.url}/docs", ".opblock")
    paths = set(browser.texts(".opblock-summary-path"))
    assert {path.replace("\u200b", "") for path in paths} == set(columns.get("/openapi.json").json()["paths"])
    browser.wait(".json-schema-2020-12-property")
    fields = " ".join(browser.texts(".json-schema-2020-12-property .json-schema-2020-12__title"))
    assert all(column["name"] in fields for column in columns.contract["inputs"])
    browser.one("#operations-Predictions-predict .opblock-summary-control").click()
    browser.wait("#operations-Predictions-predict .execute")
    browser.one("#operations-Predictions-predict .execute").click()
    browser.wait("#operations-Predictions-predict .live-responses-table")
    assert browser.texts(".live-responses-table .response-col_status")[-1].startswith("200")
    assert browser.complaints() == []


def test_docs_show_predictions_first_and_no_bounds_of_a_type(browser, binary):
    """The groups are those of the document; limits of the contract are shown, those of the number type are not."""
    browser.open(f"{binary.url}/docs", ".opblock")
    assert browser.texts(".opblock-tag a")[0] == "Predictions"
    assert browser.texts(".opblock-summary-path")[0].replace("\u200b", "") == "/predict"
    browser.wait(".json-schema-2020-12__constraint")
    assert "e+38" not in browser.one("body").text and "[0, 100]" in browser.one("body").text


def test_redoc_shows_operations_and_fields(browser, columns):
    """/redoc has both predictions and each input by its name."""
    browser.open(f"{columns.url}/redoc", "[data-section-id] h2")
    titles = " ".join(browser.texts("[data-section-id] h2"))
    assert "Predict" in titles and "Predict batch" in titles
    fields = " ".join(browser.texts("#operation\\/predict td[kind=field]"))
    assert all(column["name"] in fields for column in columns.contract["inputs"])
    assert browser.complaints() == []


def test_redoc_shows_no_bounds_of_a_type(browser, binary):
    """Limits of the contract are shown, those of the number type are not."""
    browser.open(f"{binary.url}/redoc", "[data-section-id] h2")
    assert "e+38" not in browser.one("body").text and "[ 0 .. 100 ]" in browser.one("body").text


@pytest.mark.parametrize(("path", "ready"), [("/", FORM), ("/docs", ".opblock"), ("/redoc", "[data-section-id] h2")])
def test_pages_load_nothing_from_elsewhere(browser, binary, path, ready):
    """A page sends requests to its own service only, and its policy blocks any others."""
    browser.open(binary.url + path, ready)
    asked = [url for url in browser.asked() if not url.startswith("data:")]
    assert f"{binary.url}{path}" in asked and len(asked) > 2
    assert [url for url in asked if not url.startswith(f"{binary.url}/")] == []
    refused = """
    const done = arguments[0];
    addEventListener("securitypolicyviolation", (event) => done(event.blockedURI));
    const image = document.createElement("img");
    image.src = "http://127.0.0.2:9/pixel.png";
    document.body.append(image);
    """
    assert browser.driver.execute_async_script(refused).startswith("http://127.0.0.2:9")
    started = "const e = document.createElement('script'); e.textContent = 'window.ran = 1'; document.body.append(e)"
    browser.run(started)
    assert browser.run("return window.ran") is None


def test_policy_allows_only_the_service_itself(binary):
    """Every page has default-src none, allows only itself, and has no inline script or style."""
    for path in pages.OURS:
        response = binary.get(path)
        assert response.status_code == 200 and response.headers["x-content-type-options"] == "nosniff"
        policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
        allowed = {word for words in policy.values() for word in words.split()} - {"'none'", "'self'", "data:"}
        assert allowed == ({"'unsafe-inline'"} if path == "/redoc" else set())
        assert not re.search(r"<script(?! src)|\son\w+=|https?://(?!www\.w3\.org)", response.text)


def test_unchanged_page_gets_304(binary):
    """With its ETag, a file gets a 304 without a body; with another ETag it is sent."""
    for path in (*pages.OURS, *pages.THEIRS):
        first = binary.get(path)
        again = binary.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert binary.get(path, headers={"If-None-Match": '"other"'}).content == first.content
    assert binary.post("/").status_code == 405


def test_explain_draws_what_each_input_added(browser, regression):
    """From the usual answer to this one, the largest contribution first; a new answer clears it."""
    browser.open(regression.url, FORM)
    assert not browser.one("#explain").is_displayed()
    type_into(browser, FORM, "3")
    predict(browser)
    browser.run("document.getElementById('explain').click()")
    browser.wait("#why table")
    told = regression.predict([3, 80.0], explain=True).json()["explanation"]
    rows = browser.texts("#why tbody tr")
    assert [row.split()[0] for row in rows] == ["area", "rooms"]  # 80 is much, 3 is a little less than usual
    assert f"+{told['contributions']['area']:.6g}" in rows[0] and f"−{-told['contributions']['rooms']:.6g}" in rows[1]
    assert f"{told['base']:.6g}" in browser.texts("#why thead tr")[0]
    assert "219" in browser.texts("#why tfoot tr")[0]
    tracks = browser.run(
        "return [...document.querySelectorAll('.signed')].map((track) => [track, track.firstChild]"
        ".map((one) => one.getBoundingClientRect()).map(({left, right, top}) => [left, right, top]))"
    )
    for (left, right, top), (start, end, bar_top) in tracks:
        assert top == bar_top and left <= start < end <= right + 0.5
    assert browser.complaints() == []
    type_into(browser, FORM, "4")
    predict(browser)
    assert browser.one("#explain").is_displayed() and not browser.all("#why table")
