"""The page in a real browser: open, draw, look, download."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright
from pydicom.uid import generate_uid

from qmedsam.batch.cases import read_case
from tests.conftest import EXAMPLES, HANGS_AFTER_S, ROOT, wait_for
from tests.qmedsam.formats.conftest import series

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
SCREENSHOTS = os.environ.get("QMEDSAM_SCREENSHOTS")  # a folder to keep them in
expect.set_options(timeout=1000 * HANGS_AFTER_S)
VOLUME_BOX = (72, 100, 111, 133)  # the brain stem of the example, in x0, y0, x1, y1


@pytest.fixture(scope="module")
def address(model_cache):
    """The page, served by the command."""
    command = [sys.executable, "-m", "qmedsam", "serve", "--port", "0"]
    environment = {**os.environ, "QMEDSAM_CACHE_DIR": str(model_cache)}
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
    opened.goto(address)
    yield opened
    context.close()
    assert problems == []


def status(page: Page):
    return page.get_by_role("status")


def draw_box(page: Page, box, size) -> None:
    """Drag the mouse from the first to the last pixel of a box."""
    x0, y0, x1, y1 = on_screen(page, box, size)
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, y1)
    page.mouse.move(x1, y1)
    page.mouse.up()


def on_screen(page: Page, box, size) -> list[float]:
    """Return the middles of the first and the last pixel of a box."""
    area = page.locator("#view").bounding_box()
    return [
        area[start] + (value + 0.5) / extent * area[length]
        for value, start, extent, length in zip(
            box, "xyxy", (*size, *size), ("width", "height") * 2, strict=True
        )
    ]


def open_brain(page: Page, folder: Path, suffix: str) -> tuple[Path, tuple[int, int, int]]:
    """Open the example of a volume as a file of a format; return it and (D, H, W)."""
    source = next(iter(sorted(EXAMPLES.glob("3D*.npz"))))
    case = read_case(source)
    scan = folder / f"brain{suffix}"
    if suffix == ".npz":
        shutil.copy(source, scan)
    else:
        nibabel.save(nibabel.Nifti1Image(case.pixels.T, np.diag([-1.0, -1, 4, 1])), scan)
    page.locator("#file").set_input_files(scan)
    depth = len(case.pixels)
    expect(page.locator("#slice-number")).to_have_text(f"{depth // 2 + 1} of {depth}")
    expect(status(page)).to_have_text("Draw a box round a structure.")
    return scan, case.pixels.shape


def open_retina(page: Page, folder: Path) -> tuple[list[int], tuple[int, int]]:
    """Open the example of a fundus and rest until it is encoded; return a box and (W, H)."""
    case = read_case(EXAMPLES / "2DBox_Fundus_retina.npz")
    image = folder / "retina.png"
    cv2.imwrite(str(image), case.pixels[..., ::-1])
    page.locator("#file").set_input_files(image)
    expect(status(page)).to_have_text("Draw a box round a structure.")
    page.wait_for_function("() => state.isEncoded")
    height, width = case.pixels.shape[:2]
    return [int(value) for value in case.boxes[0]], (width, height)


def keep(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=str(Path(SCREENSHOTS) / f"page-{name}.png"))


def picture(page: Page) -> str:
    """Return what is on the canvas."""
    return page.evaluate("view.toDataURL()")


def next_picture(page: Page, before: str) -> str:
    """Wait until there is another one."""
    page.wait_for_function("before => view.toDataURL() !== before", arg=before)
    return picture(page)


def frame(page: Page) -> list[int]:
    """Return x0, y0, x1, y1 in pixels of the canvas of what is drawn white on it."""
    content = base64.b64decode(picture(page).partition(",")[2])
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    rows, columns = np.nonzero(pixels > 200)
    return [int(value) for value in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def downloaded(page: Page, suffix: str, folder: Path) -> Path:
    page.get_by_label("Format").select_option(suffix)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_a_drawn_box_gives_the_mask_of_the_command(page, tmp_path):
    box, size = open_retina(page, tmp_path)
    image = tmp_path / "retina.png"
    preview_ms, took_ms = [], []
    for number in (1, 2, 3):
        with page.expect_response(re.compile(r"/preview$")) as answered:
            draw_box(page, [value + 2 * (number - 1) for value in box], size)
        answered.value.finished()
        preview_ms.append(round(answered.value.request.timing["responseEnd"]))
        said = re.compile(rf"Object {number} on 1 slice, \d+ ms")
        expect(status(page)).to_have_text(said)
        took_ms.append(int(re.search(r"(\d+) ms", status(page).inner_text()).group(1)))
        if number == 1:
            keep(page, "box")
    print(f"from the drop of the mouse: preview {preview_ms} ms, refined {took_ms} ms")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Delete Object 2").click()
    expect(page.locator("#objects li")).to_have_count(1)
    path = downloaded(page, ".png", tmp_path)
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    direct = tmp_path / "direct.png"
    words = ["--box", ",".join(str(value) for value in box), "-o", str(direct)]
    command = [sys.executable, "-m", "qmedsam", "segment", str(image), *words]
    subprocess.run(command, cwd=ROOT, check=True)
    expected = cv2.imread(str(direct), cv2.IMREAD_UNCHANGED)
    assert expected.any()
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def held(page):
    """Requests for refined outlines, which wait to be let go."""
    routes: list[Route] = []
    page.route(re.compile(r"/contours$"), lambda route: routes.append(route))
    return routes


def next_of(page: Page, routes: list[Route]) -> Route:
    """Wait for a request, and return it."""
    wait_for(lambda: page.evaluate("true") and bool(routes), "The request")
    return routes.pop()


def test_a_preview_is_drawn_until_the_refined_outline_comes(page, tmp_path, held):
    box, size = open_retina(page, tmp_path)
    plain = picture(page)
    with page.expect_response(re.compile(r"/preview$")) as answered:
        draw_box(page, box, size)
    assert answered.value.json()["contours"]["0"]
    preview = next_picture(page, plain)
    expect(page.locator("#objects li")).to_have_count(0)
    keep(page, "preview")
    next_of(page, held).continue_()
    expect(page.locator("#objects li")).to_have_count(1)
    assert picture(page) not in (plain, preview)
    keep(page, "refined")
    page.get_by_role("button", name="Delete Object 1").click()
    assert picture(page) == plain, "something of the preview is left"


def test_a_preview_that_comes_last_is_dropped(page, tmp_path):
    box, size = open_retina(page, tmp_path)
    previews: list[Route] = []
    page.route(re.compile(r"/preview$"), lambda route: previews.append(route))
    draw_box(page, box, size)
    expect(page.locator("#objects li")).to_have_count(1)
    refined = picture(page)
    with page.expect_response(re.compile(r"/preview$")):
        next_of(page, previews).continue_()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert picture(page) == refined


def test_a_preview_that_fails_is_ignored_and_goes_with_what_fails(page, tmp_path, held):
    box, size = open_retina(page, tmp_path)
    plain = picture(page)
    page.route(re.compile(r"/preview$"), lambda route: route.fulfill(status=500))
    draw_box(page, box, size)
    refined = next_of(page, held)
    expect(status(page)).to_have_text("Draw a box round a structure.")
    refined.continue_()
    expect(page.locator("#objects li")).to_have_count(1)
    page.unroute(re.compile(r"/preview$"))
    page.get_by_role("button", name="Delete Object 1").click()
    draw_box(page, box, size)
    next_picture(page, plain)
    next_of(page, held).fulfill(status=422, json={"detail": "The box is wrong."})
    expect(status(page)).to_have_text("The box is wrong.")
    assert picture(page) == plain


@pytest.mark.parametrize("reason", ["whole", "not-encoded"])
def test_a_preview_is_asked_for_where_it_is_quicker_alone(page, tmp_path, reason):
    def see_whole(route: Route) -> None:
        answer = route.fetch()
        assert answer.json()["has_preview"]
        route.fulfill(json={**answer.json(), "has_preview": False})

    if reason == "whole":  # as with --regions whole
        page.route(re.compile(r"/api/scans\?"), see_whole)
    box, size = open_retina(page, tmp_path)
    if reason == "not-encoded":
        page.evaluate("() => { state.isEncoded = false; }")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    draw_box(page, box, size)
    expect(page.locator("#objects li")).to_have_count(1)
    assert asked == ["contours"]


def test_a_volume_is_scrolled_and_a_box_followed(page, tmp_path):
    scan, (depth, height, width) = open_brain(page, tmp_path, ".nii.gz")
    page.locator("#view").focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    expect(page.locator("#slice-number")).to_have_text(f"{depth // 2 - 2} of {depth}")
    page.get_by_label("Follow").fill("2")
    draw_box(page, VOLUME_BOX, (width, height))
    expect(status(page)).to_have_text(re.compile(r"Object 1 on [345] slices"))
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


def test_a_volume_in_npz_is_downloaded_as_such(page, tmp_path):
    _, (depth, height, width) = open_brain(page, tmp_path, ".npz")
    draw_box(page, VOLUME_BOX, (width, height))
    expect(page.locator("#objects li")).to_have_count(1)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename == "brain_labels.npz"
    waiting.value.save_as(tmp_path / "labels.npz")
    with np.load(tmp_path / "labels.npz") as archive:
        assert archive["segs"].shape == (depth, height, width)
        assert np.unique(np.nonzero(archive["segs"])[0]).tolist() == [depth // 2]


def test_boxes_go_to_the_slice_that_is_shown(page, tmp_path):
    _, (depth, height, width) = open_brain(page, tmp_path, ".nii.gz")
    shown = depth // 2
    page.locator("#view").focus()
    held = []
    page.route(re.compile(r"/slices/\d+$"), lambda route: held.append(route))
    for _ in range(2):
        with page.expect_request(re.compile(r"/slices/\d+$")):
            page.keyboard.press("ArrowDown")
    with page.expect_request(re.compile(r"/contours$")) as asked:
        draw_box(page, VOLUME_BOX, (width, height))
    sent = asked.value.post_data_json
    assert (sent["slice"], sent["box"]) == (shown, list(VOLUME_BOX))
    expect(page.locator("#objects li")).to_have_count(1)
    x0, y0, x1, y1 = on_screen(page, VOLUME_BOX, (width, height))
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1)
    drawn = picture(page)
    for route in held:
        route.continue_()
    expect(page.locator("#slice-number")).to_have_text(f"{shown + 3} of {depth}")
    page.mouse.up()  # of a box that was begun on another slice
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    expect(page.locator("#objects li")).to_have_count(1)
    assert picture(page) != drawn
    page.unroute_all()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#slice-number")).to_have_text(f"{shown + 1} of {depth}")


def test_contours_stay_with_their_slice(page, tmp_path):
    _, (_, height, width) = open_brain(page, tmp_path, ".nii.gz")
    draw_box(page, VOLUME_BOX, (width, height))
    expect(page.locator("#objects li")).to_have_count(1)
    before = picture(page)
    page.locator("#view").focus()
    page.route(re.compile(r"/slices/\d+$"), lambda route: None)
    page.keyboard.press("ArrowDown")
    page.get_by_role("button", name="Hide Object 1").click()
    assert picture(page) != before
    page.get_by_role("button", name="Show Object 1").click()
    assert picture(page) == before
    page.unroute_all()


def test_a_box_is_given_by_numbers(page, tmp_path):
    open_brain(page, tmp_path, ".nii.gz")
    page.get_by_label("Follow").fill("0.6")
    for label, value in zip(("x0", "y0", "x1"), VOLUME_BOX, strict=False):
        page.get_by_label(label).fill(str(value))
    page.get_by_role("button", name="Segment").click()
    expect(status(page)).to_have_text("Give all four numbers of the box.")
    page.get_by_label("y1").fill(str(VOLUME_BOX[3]))
    page.get_by_role("button", name="Segment").click()
    expect(status(page)).to_have_text(re.compile(r"Object 1 on [23] slices"))


def test_a_box_in_which_nothing_is_found_is_said(page, tmp_path):
    open_brain(page, tmp_path, ".npz")
    for label, value in zip(("x0", "y0", "x1", "y1"), (400, 400, 440, 440), strict=True):
        page.get_by_label(label).fill(str(value))
    page.get_by_role("button", name="Segment").click()
    expect(status(page)).to_have_text("Nothing was found in that box.")


def test_a_drawn_box_is_framed_round_its_pixels(page, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((64, 64), 90, np.uint8))
    page.locator("#file").set_input_files(tmp_path / "a.png")
    expect(status(page)).to_have_text("Draw a box round a structure.")
    x0, y0, x1, y1 = on_screen(page, (8, 16, 80, 47), (64, 64))
    with page.expect_request(re.compile(r"/contours$")) as asked:
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move(x1, y1)
        framed = frame(page)
        page.mouse.up()
    assert asked.value.post_data_json["box"] == [8, 16, 63, 47]
    np.testing.assert_allclose(framed, np.multiply((8, 16, 64, 48), 10), atol=1)  # half a line


def test_windows_are_named_or_given_by_numbers(page, tmp_path):
    open_brain(page, tmp_path, ".nii.gz")
    window = page.get_by_role("combobox", name="Name")
    expect(window).to_have_value("percentiles")
    seen = [picture(page)]
    page.get_by_label("Level").fill("100")
    page.get_by_label("Width").fill("50")
    page.get_by_role("button", name="Set level and width").click()
    expect(window).to_have_value("")
    expect(window.locator("option:checked")).to_have_text("L 100 W 50")
    seen.append(next_picture(page, seen[-1]))
    expect(status(page)).to_have_text("Further boxes are segmented in this window.")
    names = window.locator("option").all_inner_texts()
    for name in ("soft-tissue", "percentiles"):
        assert name in names
        window.select_option(name)
        expect(window.locator("option[value='']")).to_have_count(0)
        expect(page.locator("#name")).to_contain_text(f"window {name}")
        seen.append(next_picture(page, seen[-1]))
    assert seen[0] == seen[3]
    assert len(set(seen)) == 3
    window.select_option("file")
    expect(status(page)).to_have_class("error")
    expect(window).to_have_value("percentiles")


def test_a_volume_is_opened_again_in_another_plane(page, tmp_path):
    scan, (depth, height, width) = open_brain(page, tmp_path, ".nii.gz")
    plane = page.get_by_label("Plane")
    assert plane.locator("option").all_inner_texts() == ["axial", "coronal", "sagittal"]
    expect(plane).to_have_value("axial")
    page.get_by_role("combobox", name="Name").select_option("soft-tissue")
    expect(status(page)).to_have_text("Further boxes are segmented in this window.")
    draw_box(page, VOLUME_BOX, (width, height))
    expect(page.locator("#objects li")).to_have_count(1)
    asked: list[str] = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    plane.select_option("sagittal")
    expect(plane).to_have_value("axial")
    expect(page.locator("#objects li")).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.accept())
    plane.select_option("sagittal")
    expect(page.locator("#slice-number")).to_have_text(f"{width // 2 + 1} of {width}")
    assert asked == ["What was found goes when the volume is opened in another plane. Open it?"]
    expect(plane).to_have_value("sagittal")
    expect(page.locator("#name")).to_contain_text(f"{height} x {depth} x {width}, window soft-")
    expect(page.locator("#objects li")).to_have_count(0)
    expect(status(page)).to_have_text("Further boxes are segmented in this window.")
    keep(page, "plane")
    draw_box(page, (100, 4, 140, depth - 5), (height, depth))
    expect(page.locator("#objects li")).to_have_count(1)
    written = nibabel.load(downloaded(page, ".nii.gz", tmp_path))
    assert written.shape == nibabel.load(scan).shape


def test_a_plane_is_no_choice_for_what_is_not_placed(page, tmp_path):
    plane = page.get_by_label("Plane")
    expect(plane).to_be_hidden()
    open_brain(page, tmp_path, ".nii.gz")
    expect(plane).to_be_visible()
    open_brain(page, tmp_path, ".npz")
    expect(page.get_by_label("Format").locator("option")).to_have_text([".npz"])
    expect(plane).to_be_hidden()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_of_several_dicom_series_is_opened(page, tmp_path):
    folders = [series(tmp_path / "one"), series(tmp_path / "two", count=4)]
    files = [sorted(folder.glob("*.dcm")) for folder in folders]
    page.locator("#file").set_input_files(files[0])
    expect(page.locator("#slice-number")).to_have_text("4 of 6")
    expect(page.get_by_label("Series")).to_be_hidden()
    page.locator("#file").set_input_files([*files[0], *files[1]])
    expect(status(page)).to_have_text("Choose one of 2 series.")
    choice = page.get_by_label("Series")
    choice.select_option(
        next(text for text in choice.locator("option").all_inner_texts() if "4 files" in text)
    )
    page.get_by_role("button", name="Open series").click()
    expect(page.locator("#slice-number")).to_have_text("3 of 4")
    expect(page.get_by_label("Format").locator("option").first).to_have_text(".dcm")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_of_several_dicom_volumes_is_opened(page, tmp_path):
    folder = series(tmp_path / "ct")
    for path in sorted(folder.glob("*.dcm"))[:4]:
        dataset = pydicom.dcmread(path)
        dataset.AcquisitionNumber, dataset.SOPInstanceUID = 9, generate_uid()
        dataset.save_as(folder / f"late_{path.name}")
    page.locator("#file").set_input_files(sorted(folder.glob("*.dcm")))
    expect(status(page)).to_have_text("Choose one of 2 volumes.")
    expect(page.get_by_label("Series")).to_be_hidden()
    choice = page.get_by_label("Volume")
    for words, slices in (("6 axial slices", "4 of 6"), ("4 axial slices", "3 of 4")):
        texts = choice.locator("option").all_inner_texts()
        choice.select_option(next(text for text in texts if words in text))
        page.get_by_role("button", name="Open volume").click()
        expect(page.locator("#slice-number")).to_have_text(slices)
    page.locator("#file").set_input_files(sorted(folder.glob("late*.dcm")))
    expect(choice).to_be_hidden()


def test_errors_are_sentences(page, tmp_path):
    (tmp_path / "a.png").write_text("no image")
    page.locator("#file").set_input_files(tmp_path / "a.png")
    expect(status(page)).to_have_text(
        "a.png must be a PNG, JPEG, TIFF, BMP, GIF, WebP or JPEG 2000 image, got something else"
    )


def test_the_endpoints_have_a_page(page, address):
    page.goto(f"{address}/api")
    expect(page.get_by_role("heading", name="POST /api/scans/{number}/contours")).to_be_visible()
