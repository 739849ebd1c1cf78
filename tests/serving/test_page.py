"""The page, used as people use it, against the real server."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from jaxsound.serving.output import clock
from tests.serving.conftest import NAMES, RATE, sound
from tests.serving.page_browser import Page
from tests.serving.page_server import Server

TAB, SPACE, ENTER, RIGHT, DOWN = "\ue004", "\ue00d", "\ue007", "\ue014", "\ue015"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings that people might have."""
    folder = tmp_path_factory.mktemp("clips")
    soundfile.write(folder / "clip.wav", sound(4.0, 22050), 22050)
    steady = np.random.default_rng(0).uniform(-0.5, 0.5, 30 * 48000)  # each second like the others
    soundfile.write(folder / "steady.wav", steady, 48000)
    soundfile.write(folder / "clip.aiff", sound(4.0, 22050), 22050)
    soundfile.write(folder / "silence.flac", np.zeros(RATE), RATE)
    soundfile.write(folder / 'a, "b".ogg', sound(1.0, 44100), 44100)
    (folder / "broken.wav").write_bytes(b"RIFF but no sound")
    long = np.tile(np.concatenate([sound(7.0), np.zeros(3 * RATE, np.float32)]), 60)
    soundfile.write(folder / "long.wav", long, RATE)
    return folder


@pytest.fixture(scope="module")
def server(run: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(run / "fold_1", cache, tmp_path_factory.mktemp("server") / "log")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def tab(clips: Path) -> Iterator[Page]:
    """A browser whose microphone hears a recording, and may be used."""
    page = Page(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={clips / 'steady.wav'}",
    )
    yield page
    page.close()


@pytest.fixture
def page(tab: Page, server: Server) -> Page:
    tab.open(server.url)
    tab.wait(lambda: tab.text("#model").startswith("Model "))
    return tab


def shown(page: Page, name: str) -> str:
    """The answer for a file, once it is there and drawn."""
    page.wait(lambda: page.text("#title") == name and page.rows("#bars li"), 60)
    return page.text("#answer")


def test_a_file_is_answered_as_the_server_does(page: Page, server: Server, clips: Path) -> None:
    _, answer = server.predict(clips / "clip.wav")
    page.give(clips / "clip.wav")
    best = answer["classes"][0]
    assert shown(page, "clip.wav") == f"{best['label']}, {100 * best['probability']:.1f} %"
    assert page.rows("#bars li") == [
        f"{c['label']} {100 * c['probability']:.1f} %" for c in answer["classes"]
    ]
    (row,) = page.rows("#history tbody tr")
    assert f"clip.wav 0:04.0 {best['label']} " in row
    assert page.rows("#segments .segment") == [
        f"{clock(s['start'])} to {clock(s['end'])} {s['label']} {100 * s['probability']:.1f} %"
        for s in answer["timeline"]
    ]


def test_a_file_is_drawn_and_played(page: Page, clips: Path) -> None:
    page.give(clips / "clip.wav")
    shown(page, "clip.wav")
    drawn = """
        const canvas = document.getElementById(arguments[0]);
        const middle = [canvas.width / 2 - 10, 0, 20, canvas.height]; // away from the labels
        const data = canvas.getContext("2d").getImageData(...middle).data;
        return new Set(new Uint32Array(data.buffer)).size;
    """
    colours = {"waveform": 3, "spectrogram": 50, "curves": 3, "timeline": 2, "axis": 2}
    for name, least in colours.items():
        page.wait(lambda name=name, least=least: page.script(drawn, name) >= least)
        if name != "axis":
            assert "0:00.0 to 0:04.0" in page.find(f"#{name}").get_attribute("aria-label")
    assert page.text("#clock") == "0:00.0 / 0:04.0"
    page.find("#play").click()
    page.wait(lambda: page.text("#play") == "Pause" and page.text("#clock") > "0:00.3")
    cursor = "return document.getElementById('plots').style.getPropertyValue('--at')"
    assert 0.05 < float(page.script(cursor)) < 1
    page.find("#play").click()
    page.wait(lambda: page.text("#play") == "Play")
    page.find("#timeline").click()  # in its middle
    page.wait(lambda: page.text("#clock") == "0:02.0 / 0:04.0")


def test_nothing_is_asked_of_another_host_and_the_console_is_quiet(
    page: Page, server: Server, clips: Path
) -> None:
    page.open(server.url)
    page.give(clips / "clip.wav")
    shown(page, "clip.wav")
    page.find("#listen").click()
    page.wait(lambda: page.text("#live-state") == "Listening.")
    page.find("#listen").click()
    page.wait(lambda: len(page.rows("#history tbody tr")) == 2)
    lines, hosts = page.logs()
    assert not lines
    assert hosts == {f"127.0.0.1:{server.port}"}


def test_a_broken_file_is_the_server_s_sentence(page: Page, server: Server, clips: Path) -> None:
    status, answer = server.predict(clips / "broken.wav")
    assert status in (415, 422)
    page.give(clips / "broken.wav")
    page.wait(lambda: answer["detail"] in page.text("#problem"))
    page.wait(lambda: not page.find("#result").is_displayed())
    assert not page.rows("#history tbody tr")
    page.give(clips / "clip.wav")  # the next one does not suffer
    shown(page, "clip.wav")
    assert not page.text("#problem")


def test_a_file_that_is_too_large_is_not_sent(page: Page, server: Server, tmp_path: Path) -> None:
    with (tmp_path / "large.wav").open("wb") as file:
        file.truncate(50_000_001)
    page.logs()
    page.give(tmp_path / "large.wav")
    page.wait(lambda: "50 MB at most" in page.text("#problem"))
    assert not page.logs()[0]


def test_what_the_browser_cannot_decode_is_answered_all_the_same(
    page: Page, server: Server, clips: Path
) -> None:
    _, answer = server.predict(clips / "clip.aiff")
    page.give(clips / "clip.aiff")
    assert shown(page, "clip.aiff").startswith(answer["label"])
    page.wait(lambda: "clip.aiff" in page.text("#remark"))
    assert not page.find("#waveform").is_displayed()
    assert page.find("#curves").is_displayed()
    assert not page.find("#play").is_displayed()
    page.give(clips / "clip.wav")
    shown(page, "clip.wav")
    page.wait(lambda: page.find("#waveform").is_displayed() and not page.text("#remark"))


def test_a_file_is_dropped(page: Page, clips: Path) -> None:
    page.script(
        """
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(arguments[0])], "dropped.flac"));
        const dropped = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", dropped));
        """,
        list((clips / "silence.flac").read_bytes()),
    )
    page.wait(lambda: page.text("#title") == "dropped.flac" and page.text("#answer") == "Silence")


def test_silence_is_no_guess(page: Page, clips: Path) -> None:
    page.give(clips / "silence.flac")
    page.wait(lambda: page.text("#answer") == "Silence")
    assert not page.rows("#bars li")


def test_ten_minutes(page: Page, server: Server, clips: Path) -> None:
    _, answer = server.predict(clips / "long.wav")
    assert len(answer["timeline"]) > 10
    page.script("""
        window.longest = 0;
        new PerformanceObserver((list) => {
          for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
        }).observe({ type: "longtask" });
    """)
    page.give(clips / "long.wav")
    shown(page, "long.wav")
    page.wait(lambda: page.text("#clock") == "0:00.0 / 10:00.0")
    page.wait(lambda: "loudest" in page.find("#waveform").get_attribute("aria-label"))
    lines = page.rows("#segments .segment")
    assert len(lines) == len(answer["timeline"])
    page.driver.find_elements("css selector", "#segments .segment")[2].click()
    start = answer["timeline"][2]["start"]
    seconds = "return Number(document.getElementById('position').value)"
    page.wait(lambda: start <= page.script(seconds) < start + 2)
    assert page.script("return longest") < 1000  # ms that the page could not be used


def test_the_microphone(page: Page, server: Server, clips: Path) -> None:
    _, answer = server.predict(clips / "steady.wav")
    expected = {c["label"]: c["probability"] for c in answer["classes"]}
    page.find("#listen").click()
    page.wait(lambda: page.text("#live-state") == "Listening.")
    page.wait(lambda: "0:02" in page.text("#about"))
    found = dict(row.split(" ", 1) for row in page.rows("#bars li"))
    assert set(found) == set(NAMES)
    for name, share in found.items():
        assert float(share.split()[0]) / 100 == pytest.approx(expected[name], abs=0.1)
    assert any("Fake" in option for option in page.rows("#device option"))
    page.find("#listen").click()
    (row,) = page.wait(lambda: page.rows("#history tbody tr"))
    assert page.text("#title") in row
    assert page.text("#listen") == "Listen"


def test_history_as_csv(page: Page, server: Server, clips: Path) -> None:
    for name in ('a, "b".ogg', "silence.flac"):
        page.give(clips / name)
        page.wait(lambda name=name: any(name in r for r in page.rows("#history tbody tr")))
    page.driver.refresh()  # outlives it
    page.wait(lambda: len(page.rows("#history tbody tr")) == 2)
    page.find("#download").click()
    (file,) = page.wait(lambda: list(page.downloads.glob("*.csv")))
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["source"] for row in rows] == ["silence.flac", 'a, "b".ogg']
    _, answer = server.predict(clips / 'a, "b".ogg')
    assert rows[0]["silent"] == "true"
    assert rows[0]["label"] == ""
    assert rows[1]["label"] == answer["label"]
    assert float(rows[1]["probability"]) == pytest.approx(answer["classes"][0]["probability"])
    page.find("#clear").click()
    assert not page.rows("#history tbody tr")


def test_the_keyboard_is_enough(page: Page, clips: Path) -> None:
    page.script("document.getElementById('file').onclick = () => (window.picked = true)")
    page.press(TAB)
    assert page.driver.switch_to.active_element.get_attribute("id") == "choose"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.script(outline) == "solid"
    page.press(ENTER)
    assert page.script("return window.picked")
    page.give(clips / "long.wav")
    shown(page, "long.wav")
    page.wait(lambda: page.find("#play").is_displayed())
    page.script("document.getElementById('choose').focus()")
    stops = []
    for _ in range(7):
        page.press(TAB)
        active = page.driver.switch_to.active_element
        stops.append(active.get_attribute("id") or active.get_attribute("class"))
    assert stops == ["device", "listen", "play", "position", "segment", "download", "clear"]
    page.script("document.getElementById('position').focus()")
    page.press(RIGHT * 30)
    page.wait(lambda: page.text("#clock").startswith("0:00.3"))
    page.script("document.getElementById('play').focus()")
    page.press(SPACE)
    page.wait(lambda: page.text("#play") == "Pause")
    page.script("document.querySelector('#segments button').focus()")
    page.press(DOWN)
    lines = page.driver.find_elements("css selector", "#segments button")
    assert page.driver.switch_to.active_element == lines[1]
    page.script("document.getElementById('clear').focus()")
    page.press(ENTER)
    assert not page.rows("#history tbody tr")
    assert page.driver.switch_to.active_element.get_attribute("id") == "history-heading"


@pytest.mark.parametrize("dark", [False, True])
def test_a_telephone(page: Page, clips: Path, dark: bool) -> None:
    page.emulate(width=360, dark=dark)
    page.give(clips / "clip.wav")
    shown(page, "clip.wav")
    assert (
        page.script("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0
    )
    colour = page.script("return getComputedStyle(document.body).backgroundColor")
    levels = [int(level) for level in colour.strip("rgb()").split(",")]
    assert max(levels) < 60 if dark else min(levels) > 200


def test_mel_spectra_are_librosa_s(page: Page) -> None:
    samples = sound(0.2)[:512]
    found = page.driver.execute_async_script(
        """
        const [samples, rate, done] = arguments;
        import("/static/spectrum.js").then(({ MelSpectrum }) => {
          const spectrum = new MelSpectrum(rate, 20, rate / 2, 512);
          const sums = new Float64Array(20);
          spectrum.add(Float32Array.from(samples), 0, sums);
          done([...sums]);
        });
        """,
        samples.tolist(),
        RATE,
    )
    power = np.abs(np.fft.rfft(samples * np.hanning(513)[:-1])) ** 2
    filters = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=20, htk=True, norm=None)
    np.testing.assert_allclose(found, filters @ power, rtol=1e-4)


def test_what_the_browser_refuses_is_said(server: Server, clips: Path) -> None:
    page = Page("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    try:
        page.open(server.url)
        page.wait(lambda: page.text("#model").startswith("Model "))
        page.find("#listen").click()
        page.wait(lambda: "Allow it for this page" in page.text("#problem"))
        assert page.find("#listen").is_enabled()
        page.open(f"http://jaxsound.test:{server.port}/")  # neither https nor this computer
        page.wait(lambda: "https" in page.text("#live-state"))
        assert not page.find("#listen").is_enabled()
        page.give(clips / "clip.wav")  # files need no permission
        shown(page, "clip.wav")
    finally:
        page.close()


def test_the_server_goes_away_and_comes_back(
    run: Path, cache: Path, tab: Page, clips: Path, tmp_path: Path
) -> None:
    server = Server(run / "fold_1", cache, tmp_path / "log", token="sesame").start()
    try:
        page = tab
        page.open(server.url)
        enter_token(page)
        listening = page.driver.current_window_handle
        page.find("#listen").click()
        page.wait(lambda: page.rows("#segments .segment"))
        page.driver.switch_to.new_window("tab")
        page.open(server.url)
        enter_token(page)
        sending = page.driver.current_window_handle
        server.kill()
        page.give(clips / "clip.wav")
        page.wait(lambda: "does not answer" in page.text("#server"))
        page.wait(lambda: page.text("#answer") == "Waiting for the server…")
        page.driver.switch_to.window(listening)
        page.wait(lambda: "connection is lost" in page.text("#live-state"))
        (before,) = page.rows("#segments .segment")
        server.start()
        page.wait(lambda: page.text("#live-state") == "Listening.")
        # What was not heard is in no segment.
        assert page.wait(lambda: page.rows("#segments .segment")[1:]) == [before]
        page.driver.switch_to.window(sending)
        page.wait(lambda: "is back" in page.text("#server"))
        shown(page, "clip.wav")
        page.driver.close()
        page.driver.switch_to.window(listening)
    finally:
        server.stop()


def enter_token(page: Page) -> None:
    page.wait(lambda: page.find("#token-form").is_displayed())
    page.find("#token").send_keys("abracadabra" + ENTER)
    page.wait(lambda: "does not accept" in page.text("#problem"))
    page.find("#token").clear()
    page.find("#token").send_keys("sesame" + ENTER)
    page.wait(lambda: page.text("#model").startswith("Model "))
    assert not page.find("#token-form").is_displayed()
    assert not page.text("#problem")
