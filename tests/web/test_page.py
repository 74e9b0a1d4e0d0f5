"""The page in a real browser: open, draw, look, download."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from inference.cases import read_case
from tests.conftest import EXAMPLES, ROOT

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
SCREENSHOTS = os.environ.get("QMEDSAM_SCREENSHOTS")  # a folder to keep them in
VOLUME_BOX = (72, 100, 111, 133)  # the brain stem of the example, in x0, y0, x1, y1


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page, served by the command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "inference", "serve", "--port", str(port)]
    environment = {**os.environ, "QMEDSAM_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        yield re.search(r"http://\S+", line).group()
        process.terminate()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser, address) -> Page:
    context = browser.new_context(viewport={"width": 1180, "height": 860})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    for _ in range(50):  # until the server listens
        try:
            opened.goto(address)
            break
        except Exception:
            time.sleep(0.1)
    yield opened
    context.close()
    assert problems == []


def status(page: Page):
    return page.get_by_role("status")


def draw_box(page: Page, box, size) -> None:
    """Drag the mouse over a box of the image's pixels."""
    area = page.locator("#view").bounding_box()
    x0, y0, x1, y1 = (
        area[start] + value / extent * area[length]
        for value, start, extent, length in zip(
            box, "xyxy", (*size, *size), ("width", "height") * 2, strict=True
        )
    )
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, y1)
    page.mouse.move(x1, y1)
    page.mouse.up()


def keep(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=str(Path(SCREENSHOTS) / f"page-{name}.png"))


def downloaded(page: Page, suffix: str, folder: Path) -> Path:
    page.get_by_label("Format").select_option(suffix)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_a_drawn_box_gives_the_mask_of_the_command(page, tmp_path):
    case = read_case(EXAMPLES / "2DBox_Fundus_retina.npz")
    image = tmp_path / "retina.png"
    cv2.imwrite(str(image), case.pixels[..., ::-1])
    with page.expect_response(re.compile(r"/slices/0/encoding$"), timeout=20_000):
        page.locator("#file").set_input_files(image)
        expect(status(page)).to_have_text("Draw a box round a structure.")
    height, width = case.pixels.shape[:2]
    box = [int(value) for value in case.boxes[0]]
    draw_box(page, box, (width, height))
    expect(status(page)).to_have_text(re.compile(r"Object 1 on 1 slice, \d+ ms"), timeout=20_000)
    keep(page, "box")
    first_ms = int(re.search(r"(\d+) ms", status(page).inner_text()).group(1))
    draw_box(page, [value + 2 for value in box], (width, height))
    expect(status(page)).to_have_text(re.compile(r"Object 2 on 1 slice"))
    took_ms = int(re.search(r"(\d+) ms", status(page).inner_text()).group(1))
    assert took_ms < 1000  # 200 on an idle machine
    print(f"from the drop of the mouse to the outline: {first_ms} ms, then {took_ms} ms")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#objects li")).to_have_count(1)
    path = downloaded(page, ".png", tmp_path)
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    direct = tmp_path / "direct.png"
    words = ["--box", ",".join(str(value) for value in box), "-o", str(direct)]
    command = [sys.executable, "-m", "inference", "segment", str(image), *words]
    subprocess.run(command, cwd=ROOT, check=True)
    expected = cv2.imread(str(direct), cv2.IMREAD_UNCHANGED)
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


def test_a_volume_is_scrolled_and_a_box_followed(page, tmp_path):
    case = read_case(next(iter(sorted(EXAMPLES.glob("3D*.npz")))))
    depth, height, width = case.pixels.shape
    scan = tmp_path / "brain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(case.pixels.T, np.diag([-1.0, -1, 4, 1])), scan)
    page.locator("#file").set_input_files(scan)
    expect(page.locator("#slice-number")).to_have_text(f"{depth // 2 + 1} of {depth}")
    page.locator("#view").focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    expect(page.locator("#slice-number")).to_have_text(f"{depth // 2 - 2} of {depth}")
    page.get_by_label("Follow").fill("2")
    draw_box(page, VOLUME_BOX, (width, height))
    expect(status(page)).to_have_text(re.compile(r"Object 1 on [345] slices"), timeout=30_000)
    keep(page, "volume")
    page.get_by_label("Name of object 1").fill("brain stem")
    page.get_by_label("Name of object 1").press("Enter")
    page.get_by_role("button", name="Hide brain stem").click()
    expect(page.get_by_role("button", name="Show brain stem")).to_be_visible()
    path = downloaded(page, ".nii.gz", tmp_path)
    written = nibabel.load(path)
    np.testing.assert_array_equal(written.affine, nibabel.load(scan).affine)
    slices = np.flatnonzero(np.asarray(written.dataobj).any(axis=(0, 1)))
    assert depth // 2 - 3 in slices
    assert len(slices) <= 5
    assert b'"1": "brain stem"' in written.header.extensions[0].get_content()


def test_errors_are_sentences(page, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    page.locator("#file").set_input_files(tmp_path / "a.png")
    expect(status(page)).to_have_text("a.png must be a PNG, JPEG or TIFF image, got something else")


def test_the_endpoints_have_a_page(page, address):
    page.goto(f"{address}/api")
    expect(page.get_by_role("heading", name="POST /api/scans/{number}/contours")).to_be_visible()
