"""Starts Chromium without a window, driven by WebDriver."""

import contextlib
import os
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.service import Service


@contextlib.contextmanager
def chromium():
    """The driver of a Chromium that ends with the block, and leaves no files."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.accept_insecure_certs = True
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # As root, and without the shared memory that containers have little of.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    # Processes of the browser may still write while they end.
    files = tempfile.TemporaryDirectory(prefix="wsloop-chromium-", ignore_cleanup_errors=True)
    with files as directory:
        service = Service("/usr/bin/chromedriver", env=os.environ | {"TMPDIR": directory})
        with webdriver.Chrome(options, service) as driver:
            yield driver
