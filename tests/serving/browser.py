"""A real Chromium without a window, driven as a person would; nothing is downloaded for it."""

import json
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import tools

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class Browser:
    """One window: what it shows, what it asked for, what it complained of."""

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def open(self, url: str, ready: str) -> None:
        """Open a page and wait until something of it is there."""
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(url)
        self.wait(ready)

    def all(self, selector: str):
        """The elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str):
        """The only element of a CSS selector."""
        (element,) = self.all(selector)
        return element

    def texts(self, selector: str) -> list[str]:
        """What the elements of a CSS selector say, whether they are in sight or not."""
        return [element.get_attribute("textContent").strip() for element in self.all(selector)]

    def wait(self, selector: str) -> None:
        """Wait until an element of a CSS selector is there."""
        WebDriverWait(self.driver, 20).until(lambda _: self.all(selector), f"no {selector}")

    def press(self, *keys: str) -> None:
        """Press keys one after the other, whatever has the focus; a modifier holds until Keys.NULL."""
        self.driver.switch_to.active_element.send_keys("".join(keys))

    def run(self, script: str, *arguments):
        """What a piece of JavaScript returns, a promise's value included."""
        return self.driver.execute_script(script, *arguments)

    def focused(self) -> str:
        """The id of what has the focus."""
        return self.driver.switch_to.active_element.get_attribute("id")

    def look(self, width: int = 1200, **media: str) -> None:
        """Take another width, in pixels, and other preferences, such as prefers_color_scheme="dark"."""
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """The lines of its console since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """Every address that it asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@contextmanager
def browsing(profile: Path):
    """A browser with an empty profile; the test is skipped where Chromium or its driver is missing."""
    tools.require("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = tools.program("chromium") or tools.program("google-chrome")
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(tools.program("chromedriver")))
    try:
        yield Browser(window)
    finally:
        window.quit()
