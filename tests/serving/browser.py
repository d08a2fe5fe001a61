"""A headless Chromium, driven like a person would; nothing is downloaded for it."""

import json
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import tools

PATIENCE = 120  # seconds: on a busy machine a page may take long to come
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
    """One window: its content, its requests and its console messages."""

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def open(self, url: str, ready: str) -> None:
        """Open a page and wait until an element of it is present."""
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
        """The texts of all elements that match a CSS selector, visible or not."""
        return [element.get_attribute("textContent").strip() for element in self.all(selector)]

    def wait(self, selector: str) -> None:
        """Wait until an element that matches a CSS selector is present."""
        WebDriverWait(self.driver, PATIENCE).until(lambda _: self.all(selector), f"no {selector}")

    def press(self, *keys: str) -> None:
        """Press keys one after the other in the focused element; a modifier holds until Keys.NULL."""
        self.driver.switch_to.active_element.send_keys("".join(keys))

    def run(self, script: str, *arguments):
        """The result of a piece of JavaScript, awaited if it is a promise."""
        return self.driver.execute_script(script, *arguments)

    def focused(self) -> str | None:
        """The id of the focused element."""
        return self.driver.switch_to.active_element.get_attribute("id")

    def look(self, width: int = 1200, height: int = 900, **media: str) -> None:
        """Set the window's size in pixels, and preferences such as prefers_color_scheme="dark"."""
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """The console messages since the page was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def asked(self) -> list[str]:
        """The URLs requested since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@contextmanager
def browsing(profile: Path):
    """A browser with an empty profile; skips the test when Chromium or its driver is missing."""
    tools.require("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = tools.program("chromium") or tools.program("google-chrome") or ""
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(tools.program("chromedriver")))
    try:
        yield Browser(window)
    finally:
        window.quit()
