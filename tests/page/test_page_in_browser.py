"""The page as a visitor has it, in a real browser."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from page_server import PageServer
from PIL import Image

from glipkit.data.shapeworld.scenes import draw_scene

pytest.importorskip("gradio", reason="needs gradio, the extra glipkit[demo]")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = pytest.mark.slow

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SECONDS = 90  # to wait for anything: the machine may be busy


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    server = PageServer("fake")
    yield server
    server.stop()


@pytest.fixture
def browser() -> Iterator["webdriver.Chrome"]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (Debian: apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
        *("--window-size=1280,1500", "--force-prefers-reduced-motion", "--no-proxy-server"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Visitor:
    """What a visitor does, by the names of the page's parts."""

    def __init__(self, browser: "webdriver.Chrome", address: str) -> None:
        self.browser = browser
        browser.get(address)
        self.wait(lambda: self.all("#gk-text textarea"))

    def wait(self, until):
        patience = WebDriverWait(
            self.browser, SECONDS, ignored_exceptions=[StaleElementReferenceException]
        )
        return patience.until(lambda _: until())

    def all(self, selector: str):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def one(self, selector: str):
        return self.wait(lambda: self.all(selector))[0]

    def upload(self, path: Path) -> None:
        self.wait(lambda: self.all("#gk-picture input[type=file]"))
        self.one("#gk-picture input[type=file]").send_keys(str(path))

    def type(self, words: str) -> None:
        self.one("#gk-text textarea").send_keys(words)

    def counts(self) -> tuple[int, int] | None:
        """Boxes and forwards, once there is an answer; of one moment, even while they change."""
        found = self.browser.execute_script(
            """
            const said = document.querySelector('#gk-status [data-boxes]')?.dataset;
            return said ? [Number(said.boxes), Number(said.forwards)] : null;
            """
        )
        return found and tuple(found)

    def slide(self, slider: str, value: str) -> None:
        number = self.one(f"{slider} input[type=number]")
        number.send_keys(Keys.CONTROL, "a")
        number.send_keys(value)

    def value(self, slider: str) -> str:
        return self.one(f"{slider} input[type=number]").get_attribute("value")

    def attribute(self, selector: str, name: str) -> str:
        """Of a part that may be replaced while it is looked at."""
        return self.wait(lambda: self.one(selector).get_attribute(name))

    def message(self) -> str:
        return self.wait(lambda: " ".join(t.text for t in self.all("[data-testid=toast-body]")))

    def tab(self, name: str) -> None:
        tabs = [tab for tab in self.all("button[role=tab]") if tab.text == name]
        tabs[0].click()


def requests(browser: "webdriver.Chrome") -> list[str]:
    """Every address that the browser asked for."""
    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


@pytest.fixture
def drawing(tmp_path: Path) -> tuple[Path, str]:
    """A picture of drawn shapes, and what is in it."""
    picture, scene = draw_scene(np.random.default_rng(7), size=256)
    path = tmp_path / "drawing.png"
    picture.save(path)
    pairs = list(dict.fromkeys(one.pair for one in scene.objects))[:2]
    return path, " . ".join(" ".join(pair) for pair in pairs)


def test_from_a_picture_to_boxes(
    browser: "webdriver.Chrome", server: PageServer, drawing: tuple[Path, str], tmp_path: Path
) -> None:
    path, words = drawing
    visitor = Visitor(browser, server.address)
    visitor.upload(path)
    visitor.wait(lambda: visitor.all("#gk-picture img"))
    visitor.type(words)
    visitor.one("#gk-find").click()
    visitor.wait(visitor.counts)
    _, forwards = visitor.counts()

    visitor.slide("#gk-all", "0.01")
    visitor.wait(lambda: visitor.value("#gk-slider-0") == "0.01")  # it moves along
    many = visitor.counts()[0]
    assert many > 0
    visitor.wait(lambda: f"{many} box" in visitor.attribute("#gk-figure img", "alt"))
    visitor.wait(lambda: visitor.one("#gk-slider-0 label").text == words.split(" . ")[0])
    visitor.wait(lambda: visitor.texts("#gk-read mark") == words.split(" . "))

    visitor.slide("#gk-slider-0", "1")
    visitor.wait(lambda: visitor.counts()[0] < many)
    visitor.slide("#gk-all", "1")
    visitor.wait(lambda: visitor.counts()[0] == 0)
    assert visitor.counts()[1] == forwards  # no slider asked the model
    visitor.slide("#gk-all", "0.01")
    visitor.wait(lambda: visitor.counts()[0] == many)

    visitor.tab("Heat map")
    visitor.wait(lambda: visitor.all("#gk-heat img"))
    before = visitor.attribute("#gk-heat img", "alt")
    visitor.wait(lambda: len(visitor.all("#gk-tokens label")) >= 4)
    visitor.one("#gk-tokens label").click()
    visitor.wait(lambda: visitor.attribute("#gk-heat img", "alt") != before)
    visitor.wait(lambda: visitor.counts() == (many, forwards + 1))

    visitor.tab("JSON")
    text = visitor.wait(lambda: visitor.one("#gk-json .cm-content").get_attribute("textContent"))
    assert words.split(" . ")[0] in text
    assert browser.save_screenshot(str(tmp_path / "page.png"))
    assert Image.open(tmp_path / "page.png").width >= 1200

    asked = {urlsplit(url).hostname for url in requests(browser) if url.startswith("http")}
    assert asked == {"127.0.0.1"}
    errors = [row["message"] for row in browser.get_log("browser") if row["level"] == "SEVERE"]
    assert errors == []
    assert "Traceback" not in server.output


def test_the_shipped_model_answers_about_a_drawing(browser: "webdriver.Chrome") -> None:
    server = PageServer("nano")
    try:
        visitor = Visitor(browser, server.address)
        visitor.one("[data-example='0']").click()
        visitor.wait(visitor.counts)
        assert visitor.counts()[1] == 1
        words = visitor.attribute("#gk-text textarea", "value")
        visitor.wait(lambda: visitor.texts("#gk-read mark") == words.split(" . "))
        visitor.slide("#gk-all", "1")
        visitor.wait(lambda: visitor.counts() == (0, 1))
        visitor.tab("Heat map")
        visitor.wait(lambda: visitor.all("#gk-heat img"))
        visitor.wait(lambda: visitor.texts("#gk-tokens label") == words.split())
    finally:
        server.stop()
    assert "Traceback" not in server.output


def test_a_disguised_file_gets_a_message(
    browser: "webdriver.Chrome", server: PageServer, tmp_path: Path
) -> None:
    path = tmp_path / "words.png"
    path.write_text("not a picture at all")
    visitor = Visitor(browser, server.address)
    visitor.upload(path)
    assert "not a picture that this page can read" in visitor.message()
    visitor.wait(lambda: visitor.all("#gk-picture input[type=file]"))  # the field is empty again
    assert server.ask("GET", "/")[0] == 200


def test_a_large_file_gets_a_message(
    browser: "webdriver.Chrome", server: PageServer, tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(bytes(1_500_000))
    visitor = Visitor(browser, server.address)
    visitor.upload(path)
    assert "maximum allowed size" in visitor.message()
    assert server.ask("GET", "/")[0] == 200


def test_questions_without_picture_or_words(
    browser: "webdriver.Chrome", server: PageServer, drawing: tuple[Path, str]
) -> None:
    visitor = Visitor(browser, server.address)
    visitor.one("#gk-find").click()
    said = visitor.message()
    assert "Choose a picture first" in said
    assert "Error" not in said
    assert not any(overlay.is_displayed() for overlay in visitor.all("#gk-figure .error"))
    browser.refresh()
    visitor.wait(lambda: visitor.all("#gk-text textarea"))
    visitor.upload(drawing[0])
    visitor.wait(lambda: visitor.all("#gk-picture img"))
    visitor.one("#gk-find").click()
    assert "Say what to look for" in visitor.message()


def test_a_phone_shows_it_all_in_one_column(
    browser: "webdriver.Chrome", server: PageServer, tmp_path: Path
) -> None:
    """Nothing is wider than the window."""
    phone = {"width": 400, "height": 860, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    visitor = Visitor(browser, server.address)
    visitor.one("[data-example='1']").click()
    visitor.wait(visitor.counts)
    width = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert browser.execute_script(width) <= 400
    question, answer = visitor.one("#gk-find"), visitor.one("#gk-figure")
    assert answer.location["y"] > question.location["y"]
    browser.save_screenshot(str(tmp_path / "phone.png"))


def test_everything_has_a_name_for_a_screen_reader(
    browser: "webdriver.Chrome", server: PageServer
) -> None:
    visitor = Visitor(browser, server.address)
    visitor.one("[data-example='0']").click()
    visitor.wait(visitor.counts)
    nameless = browser.execute_script(
        """
        const named = (e) => e.ariaLabel || e.title || e.innerText?.trim() ||
          [...(e.labels ?? [])].some((label) => label.innerText.trim()) || e.getAttribute('alt');
        return [...document.querySelectorAll('button, input, textarea, a[href], select')]
          .filter((e) => e.checkVisibility() && !named(e)).map((e) => e.outerHTML.slice(0, 200));
        """
    )
    assert nameless == []
    assert visitor.one("#gk-status [role=status]").text
