"""The page in a real Chromium without a window."""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

PATIENCE = 20.0  # seconds for something to show
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1200,1000",
    # No name but this machine's and one that stands for another leads anywhere.
    "--host-resolver-rules=MAP jaxsound.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Page:
    """A tab with the page, and what the tests do in it."""

    def __init__(self, *flags: str):
        webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
        program = next(filter(None, map(shutil.which, NAMES)), None)
        driver = shutil.which("chromedriver")
        if not program or not driver:
            pytest.skip(f"no browser here: {' or '.join(NAMES[:2])} and chromedriver are wanted")
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, *flags):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.downloads = Path(tempfile.mkdtemp())
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(self.downloads)}
        )
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(driver))

    def close(self) -> None:
        self.driver.quit()
        shutil.rmtree(self.downloads, ignore_errors=True)

    def open(self, url: str) -> "Page":
        """Loads the page afresh, with nothing kept from before, and waits for its model."""
        self.driver.get(url)
        self.script("sessionStorage.clear()")
        self.emulate()
        self.logs()
        self.driver.get(url)
        return self

    def emulate(self, width: int = 1200, dark: bool = False, calm: bool = False) -> None:
        """Screen and preferences of the reader."""
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if calm else "no-preference",
        }
        screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        media = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        """What a reader sees there, "" where it is hidden; spaces are plain."""
        return re.sub(r"\s+", " ", str(self.find(selector).text)).strip()

    def rows(self, selector: str) -> list[str]:
        """The text of each such element."""
        code = "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)"
        return [re.sub(r"\s+", " ", row).strip() for row in self.script(code, selector)]

    def script(self, code: str, *args: Any) -> Any:
        return self.driver.execute_script(code, *args)

    def give(self, path: Path) -> None:
        """Chooses a file."""
        self.find("#file").send_keys(os.fspath(path))

    def wait(self, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Until something is true; its value."""
        deadline = time.monotonic() + seconds
        while not (value := holds()):
            told = [self.text(name) for name in ("#problem", "#server", "#live-state", "#answer")]
            assert time.monotonic() < deadline, f"the page says {told}"
            time.sleep(0.05)
        return value

    def press(self, *keys: str) -> None:
        """Keys to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def logs(self) -> tuple[list[str], set[str]]:
        """Since the last time: errors and warnings of the console, and the hosts asked."""
        lines = [line["message"] for line in self.driver.get_log("browser")]
        hosts = set()
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
            elif message["method"] == "Network.webSocketCreated":
                url = message["params"]["url"]
            else:
                continue
            if not url.startswith(("blob:", "data:")):
                hosts.add(urlsplit(url).netloc)
        return lines, hosts
