"""MLflow's page of a registered model, used with the mouse in a real browser."""

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import WebDriverWait

from tests.serving.browser import PATIENCE

PENCIL = "[data-component-id*='modelversiontablealiasescell']"


def give_alias(browser, mlflow: str, model: str, version: str, alias: str, picture=None) -> None:
    """Open the model's page, click a version's pencil, choose an alias, and save."""
    browser.look(1500)
    browser.driver.get("about:blank")  # the page does not refresh itself after an alias was saved
    browser.open(f"{mlflow}/#/models/{model}", PENCIL)
    _click(browser, _row(browser, version).find_element("css selector", PENCIL))
    browser.wait("[role=dialog] input[role=combobox]")
    dialog = browser.one("[role=dialog]")
    _click(browser, dialog.find_element("css selector", "input[role=combobox]"))
    _click(browser, _until(browser, lambda: _option(browser, alias)))
    _click(browser, dialog.find_element("css selector", "[id*=title], h1, h2, h3"))  # the list covers the button
    if picture:
        browser.driver.save_screenshot(str(picture))
    _click(browser, dialog.find_element("css selector", "[data-component-id$='save-button']"))
    _until(browser, lambda: not browser.all("[role=dialog]"))


def _row(browser, version: str):
    return _until(
        browser,
        lambda: next((row for row in browser.all("[role=row]") if row.text.startswith(f"Version {version}\n")), None),
    )


def _option(browser, alias: str):
    options = browser.all(".du-bois-light-select-item-option, [role=option]")
    return next((one for one in options if one.is_displayed() and one.text.split("\n")[0] == alias), None)


def _until(browser, look):
    return WebDriverWait(browser.driver, PATIENCE, 0.1).until(lambda _: look())


def _click(browser, element) -> None:
    ActionChains(browser.driver).move_to_element(element).click().perform()
