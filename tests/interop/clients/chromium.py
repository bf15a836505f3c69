"""Chromium, by WebDriver: the checks are the script of a page."""

import pathlib

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from checks import BASE, ID, tell

options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
options.accept_insecure_certs = True
# As root, and without the shared memory that containers have little of.
for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
    options.add_argument(argument)
driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
try:
    driver.set_script_timeout(120)
    # A page of the same host: Chromium asks before others may connect to this machine.
    driver.get(BASE.replace("ws", "http", 1) + "/health")
    clients = pathlib.Path(__file__).parent
    script = "".join((clients / name).read_text(encoding="utf-8") for name in ("common.js", "standard.js"))
    script += "\ninterop(WebSocket, arguments[0], arguments[1], common).then(arguments[2]);"
    for name, result, note in driver.execute_async_script(script, BASE, ID):
        tell(name, result, note)
finally:
    driver.quit()
