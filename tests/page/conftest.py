"""The page in a real Chromium."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from sqlalchemy import Engine

from harness.pages.browser import CHROMIUM
from harness.pages.tabs import ARGUMENTS, SLOWEST_MS, Tab, opened
from harness.servers.api_server import api
from shared.infra.settings import Settings

expect.set_options(timeout=SLOWEST_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


@pytest.fixture
def tab(browser: Browser, client: httpx.Client, database: Engine) -> Iterator[Tab]:
    """A tab for the page of a platform without jobs."""
    with opened(browser, str(client.base_url)) as tab:
        yield tab
