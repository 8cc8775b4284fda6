"""The report: one file, everything in it, nothing from outside, legible at any width."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess

import pytest

from keras_qan.experiments import reports
from keras_qan.plots import draw
from keras_qan.plots.report import ReportTable, write_report

TABLE = ReportTable(
    "Arms & <losses>",
    ("initial rate", "arm", "loss"),
    (("0.1", "qan", "-1.2 (-1.3 … -1.1)"), ("0.1", "a<b", "0.5"), ("0.2", "qan", "3")),
    text_columns=("arm",),
    note="lower is better",
    groups=True,
)


class Page(html.parser.HTMLParser):
    """Counts tags and keeps text and addresses; fails where tags do not close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.addresses, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def report(run):
    (run / "flags.txt").write_text("--seed=3\n--arms=qan,<b>\n")
    (run / "run.json").write_text('{"seed": 3, "versions": {"keras": "3.99"}}')
    return reports.write(run, "train_qan", "QAN & co", tables=[TABLE], figures=draw(run))


@pytest.mark.slow
def test_it_holds_tables_figures_flags_versions_seeds_and_the_command(report, run):
    page = Page(report.read_text(encoding="utf-8"))
    text = " ".join(page.words)
    for expected in (
        "QAN & co", "Arms & <losses>", "a<b", "-1.2 (-1.3 … -1.1)", "lower is better",
        "--arms=qan,<b>", "3.99",
        f"python scripts/train_qan.py --flagfile={run / 'flags.txt'} --directory=",
    ):  # fmt: skip
        assert expected in text
    assert page.tags.count("img") == 5
    assert page.tags.count("tr") == 1 + 3 + 1 + 2


@pytest.mark.slow
def test_it_needs_nothing_from_outside(report):
    text = report.read_text(encoding="utf-8")
    assert all(address.startswith("data:image/png;base64,") for address in Page(text).addresses)
    assert not re.search(r"https?://|url\(|@import|<script", text)


def test_a_run_without_flags_and_origin_still_gets_versions(tmp_path):
    text = reports.write(tmp_path, "rally", "A rally").read_text(encoding="utf-8")
    assert "keras" in text
    assert "Repeat it" not in text


def browser():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="needs headless Chromium (Debian: chromium)")
@pytest.mark.parametrize("width", [360, 1280])
def test_in_a_browser_the_page_is_no_wider_than_the_window(report, tmp_path, width):
    page = tmp_path / "page.html"
    page.write_bytes(report.read_bytes())
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="{page.name}" style="width:{width}px;height:700px;border:0" onload="document.'
        "body.append('width=' + this.contentDocument.documentElement.scrollWidth)\"></iframe>"
    )
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
        frame.as_uri(),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"width=(\d+)</body>", ran.stdout)
    assert found, ran.stdout
    assert int(found[1]) <= width
    assert int(found[1]) > width - 30  # the scroll bar's share


def test_an_empty_report_is_a_page_of_its_own(tmp_path):
    path = write_report(tmp_path / "new" / "report.html", title="Nothing")
    assert Page(path.read_text(encoding="utf-8")).tags.count("h1") == 1
