"""The page's requests, from an open clip to a download; and what goes wrong on the way, in one sentence."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the `studio` extra (fastapi)")

from diffvas.exports import read_result
from diffvas.studio.app import Studio
from diffvas.studio.clip_routes import offered_names
from diffvas.studio.clips import unpacked
from diffvas.studio.jobs import Job
from diffvas.studio.opening import Limits
from studio.desk import BALL, ColourTracker, Desk, machine, video


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(machine(), Limits(frames=20), [video(tmp_path / "ball.mp4")])
    yield made
    made.close()


@pytest.fixture
def desk(studio: Studio) -> Desk:
    return Desk(studio)


def picture(desk: Desk, path: str) -> np.ndarray:
    response = desk.client.get(path)
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def test_a_click_shows_a_mask_at_once_and_tracks_it(desk: Desk) -> None:
    clip = desk.open()
    state = desk.click(clip)
    (item,) = state["objects"]
    assert item["previews"] == {"0": 1} and item["clicks"] == [{**BALL, "positive": True}]
    mask = picture(desk, f"{clip}/masks/1/0")
    assert mask.shape == (32, 64, 2) and mask[16, 30, 1] == 255 and mask[2, 2, 1] == 0
    state = desk.settled(clip)
    assert state["tracked"] == state["version"] == 1 and state["objects"][0]["previews"] == {}
    assert len(state["objects"][0]["areas"]) == 5 and min(state["objects"][0]["areas"]) > 10


def test_more_clicks_mend_a_tracked_frame_from_its_mask(desk: Desk) -> None:
    clip = desk.tracked()
    before = picture(desk, f"{clip}/masks/1/3")[..., 1] > 0
    state = desk.click(clip, frame=3, x=38, y=16, positive=False)  # the plate stands there
    assert list(state["objects"][0]["previews"]) == ["3"]
    after = picture(desk, f"{clip}/masks/1/3")[..., 1] > 0
    assert after.sum() <= before.sum() and not after[16, 38]
    assert picture(desk, f"{clip}/masks/1/0")[16, 30, 1] == 255  # the other frames keep theirs until tracking ends
    assert desk.settled(clip)["tracked"] == 2


def test_objects_are_named_removed_and_clicks_taken_back(desk: Desk) -> None:
    clip = desk.tracked()
    desk.click(clip, 2, x=2, y=16)  # the plate
    desk.settled(clip)
    state = desk.ask("PATCH", f"{clip}/objects/2", json={"name": "  ../../a \n plate "})
    assert [item["name"] for item in state["objects"]] == ["object 1", "a plate"]
    assert state["objects"][0]["colour"] != state["objects"][1]["colour"]
    state = desk.ask("DELETE", f"{clip}/objects/1/clicks/0")
    assert state["objects"][0]["clicks"] == [] and state["objects"][0]["areas"] is None
    desk.ask("DELETE", f"{clip}/objects/1")
    state = desk.settled(clip)
    assert [item["id"] for item in state["objects"]] == [2] and state["tracked"] == state["version"]
    assert desk.ask("POST", f"{clip}/objects")["objects"][1]["id"] == 3  # numbers and colours are not used again
    desk.ask("DELETE", f"{clip}/objects/2")
    state = desk.settled(clip)
    assert state["tracked"] == state["version"]  # nothing is left to track


def test_a_box_and_the_box_that_replaces_it(desk: Desk) -> None:
    clip = desk.open()
    desk.click(clip, box=[4, 4, 20, 20])
    state = desk.click(clip, box=[8, 8, 24, 24])
    assert [click["box"] for click in state["objects"][0]["clicks"]] == [[8, 8, 24, 24]]
    assert picture(desk, f"{clip}/masks/1/0")[22, 22, 1] == 255


@pytest.mark.parametrize(
    ("click", "said"),
    [
        ({"frame": 5}, "Expected a frame from 0 to 4, got 5."),
        ({"x": 64}, "Expected a point inside the frame of 64 x 32, got 64, 16."),
        ({"y": -0.5}, "Expected a point inside the frame of 64 x 32, got 30, -0.5."),
        ({"box": [3, 3, 3, 9]}, "Expected a box inside the frame of 64 x 32, got 3, 3, 3, 9."),
        ({"positive": False}, "Click the object itself first; then take away what does not belong to it."),
        ({"x": 60, "y": 2}, "Nothing stands out there; click elsewhere on the object, or drag a box around it."),
    ],
)
def test_clicks_that_are_refused_leave_no_trace(desk: Desk, click: dict, said: str) -> None:
    clip = desk.open()
    desk.ask("POST", f"{clip}/objects")
    assert desk.refused("POST", f"{clip}/objects/1/clicks", 400, json={**BALL, **click}) == said
    state = desk.settled(clip)
    assert state["objects"][0]["clicks"] == [] and state["tracked"] == state["version"]


@pytest.mark.parametrize("x", ["NaN", "Infinity", '"left"', "null", "1e999"])
def test_numbers_that_are_none(desk: Desk, x: str) -> None:
    clip = desk.open()
    desk.ask("POST", f"{clip}/objects")
    body = f'{{"frame": 0, "x": {x}, "y": 3}}'
    response = desk.client.post(f"{clip}/objects/1/clicks", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422) and response.json()["error"]


def test_samples_come_with_their_mean_and_confidence(desk: Desk) -> None:
    clip, run = desk.completed(samples=3, seed=5)
    assert [sample["key"] for sample in run["samples"]] == ["1", "2", "3", "mean"]
    assert len(run["confidence"]["1"]) == 5 and all(0 <= value <= 1 for value in run["confidence"]["1"])
    base = f"{clip}/runs/{run['id']}"
    whole = np.stack([picture(desk, f"{base}/{key}/1/amodal/2")[..., 1] > 127 for key in ("1", "2", "3")])
    modal = picture(desk, f"{base}/1/1/modal/2")[..., 1] > 127
    mean = picture(desk, f"{base}/mean/1/amodal/2")[..., 1] > 127
    assert np.array_equal(mean, modal | (whole.mean(0) >= 0.5))
    content = picture(desk, f"{base}/mean/1/content/2")
    assert content.shape == (32, 64, 4) and np.array_equal(content[..., 3] > 127, mean)
    frame = picture(desk, f"{clip}/frames/2").astype(int)
    assert abs(content[modal][:, :3].astype(int) - frame[modal]).mean() < 8  # the camera's own colours; JPEG
    assert picture(desk, f"{base}/mean/1/probability/2")[..., 3].any()
    desk.refused("GET", f"{base}/1/1/probability/2", 404)
    desk.refused("GET", f"{base}/4/1/amodal/2", 404)
    desk.refused("GET", f"{base}/1/2/amodal/2", 404)
    desk.refused("GET", f"{base}/1/1/amodal/5", 404)


def test_a_sample_is_what_the_library_gives_for_its_seed(desk: Desk) -> None:
    import importlib

    clip, run = desk.completed(samples=2, seed=11, content=False)
    (session,) = desk.studio.sessions._all.values()
    work = session.clips[clip.rsplit("/", 1)[1]]
    model = desk.studio.machine.model()
    completion = importlib.import_module("diffvas.pipelines.completion").complete(
        work.clip, unpacked(work.tracked()), model=replace(model, cut_at=model.levels(2)[1]), samples=1, seed=12
    )
    shown = picture(desk, f"{clip}/runs/{run['id']}/2/1/amodal/2")[..., 1] > 127
    assert np.array_equal(shown, completion.objects[0].amodal_masks[2])
    desk.refused("GET", f"{clip}/runs/{run['id']}/2/1/content/2", 404)


def test_completion_needs_tracked_objects(desk: Desk) -> None:
    clip = desk.open()
    said = desk.refused("POST", f"{clip}/runs", 400, json={})
    assert said == "Expected an object to complete, got none; click one first."
    assert "less than or equal to 16" in desk.refused("POST", f"{clip}/runs", 422, json={"samples": 17})
    said = desk.refused("POST", f"{clip}/runs", 422, json={"depth": "../../etc"})
    assert said == "Depth: input should be 'none', 'auto' or 'exact', got '../../etc'."


def test_clicks_during_a_completion_do_not_change_it(tmp_path: Path) -> None:
    gate = threading.Event()
    tracker = ColourTracker()
    studio = Studio(machine(tracker), Limits(), [video(tmp_path / "ball.mp4")])
    try:
        desk = Desk(studio)
        clip = desk.tracked()
        studio.queue.submit(Job("export", "somebody", "else", lambda job: gate.wait(30)))
        desk.ask("POST", f"{clip}/runs", json={"samples": 1, "content": False})
        state = desk.click(clip, 2, x=2, y=16)  # the completion still waits, and tracking waits behind it
        assert [(job["kind"], job["position"]) for job in state["jobs"][-2:]] == [("complete", 1), ("track", 2)]
        assert state["tracked"] < state["version"]
        gate.set()
        state = desk.settled(clip)
        assert [job["state"] for job in state["jobs"][-2:]] == ["done", "done"]
        assert [item["id"] for item in state["runs"][0]["objects"]] == [1]
        assert state["runs"][0]["track_version"] < state["version"] == state["tracked"]
    finally:
        gate.set()
        studio.close()


def test_what_is_marked_stands_in_front(desk: Desk) -> None:
    import importlib

    clip = desk.tracked()
    desk.click(clip, 2, x=38, y=16)
    desk.settled(clip)
    state = desk.ask("PATCH", f"{clip}/objects/2", json={"in_front": True})
    assert [item["in_front"] for item in state["objects"]] == [False, True] and state["tracked"] == state["version"]
    assert desk.ask("PATCH", f"{clip}/objects/2", json={"name": "plate"})["objects"][1]["in_front"], "a name changes it"
    desk.ask("POST", f"{clip}/runs", json={"seed": 4, "content": False, "depth": "exact"})
    state = desk.settled(clip)
    (run,) = state["runs"]
    assert state["jobs"][-1]["state"] == "done" and [item["id"] for item in run["objects"]] == [1]
    assert run["in_front"] == [2] and run["note"] == "in front: plate"
    (session,) = desk.studio.sessions._all.values()
    work = session.clips[clip.rsplit("/", 1)[1]]
    ball, plate = unpacked(work.tracked())
    asked = {"model": desk.studio.machine.model(), "samples": 1, "seed": 4}
    complete = importlib.import_module("diffvas.pipelines.completion").complete
    told = complete(work.clip, [ball], in_front=[plate], **asked).objects[0].amodal_masks
    assert np.array_equal(picture(desk, f"{clip}/runs/{run['id']}/1/1/amodal/2")[..., 1] > 127, told[2])
    desk.ask("PATCH", f"{clip}/objects/1", json={"in_front": True})
    said = desk.refused("POST", f"{clip}/runs", 400, json={})
    assert said == "Expected an object to complete, got only what stands in front; click what it hides."
    desk.ask("PATCH", f"{clip}/objects/2", json={"in_front": False})
    desk.ask("POST", f"{clip}/runs", json={"content": False})
    assert [item["id"] for item in desk.settled(clip)["runs"][-1]["objects"]] == [2]


def test_exact_depth_is_for_the_demo_only(desk: Desk) -> None:
    clip = desk.tracked()
    desk.ask("POST", f"{clip}/runs", json={"depth": "exact"})
    job = desk.settled(clip)["jobs"][-1]
    assert job["state"] == "failed"
    assert job["error"] == "Expected a clip with exact depth, got one without; estimate it or go without."
    state = desk.ask("POST", "/api/clips/demo")
    assert state["exact_depth"] and state["frames"] == 25


def test_export_downloads_one_zip(desk: Desk, tmp_path: Path) -> None:
    clip, run = desk.completed(samples=1)
    asked = {"run": run["id"], "sample": "1", "formats": ["coco", "result", "npz"], "category": "ball"}
    desk.ask("POST", f"{clip}/exports", json=asked)
    (export,) = desk.settled(clip)["exports"]
    response = desk.client.get(f"{clip}/exports/{export['id']}")
    assert response.headers["content-disposition"] == 'attachment; filename="ball-run1-sample1.zip"'
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path / "out")
    assert (tmp_path / "out" / "coco" / "annotations.json").is_file()
    assert read_result(tmp_path / "out" / "result").num_frames == 5
    assert not list(tmp_path.glob("**/export-*"))
    for change, status in (
        ({"formats": []}, 400),
        ({"formats": ["coko"]}, 400),
        ({"alpha": "no"}, 400),
        ({"category": "a\nb"}, 400),
        ({"sample": "2"}, 404),
        ({"run": "../.."}, 404),
    ):
        desk.refused("POST", f"{clip}/exports", status, json={**asked, **change})


def test_tracked_masks_can_be_taken_along(desk: Desk, tmp_path: Path) -> None:
    from diffvas.masks import read_masks

    clip = desk.open()
    desk.refused("POST", f"{clip}/mask-exports", 400)
    desk.click(clip)
    areas = desk.settled(clip)["objects"][0]["areas"]
    desk.ask("POST", f"{clip}/mask-exports")
    (export,) = desk.settled(clip)["exports"]
    with zipfile.ZipFile(io.BytesIO(desk.client.get(f"{clip}/exports/{export['id']}").content)) as archive:
        archive.extractall(tmp_path / "out")
    (track,) = read_masks(tmp_path / "out" / "masks", (32, 64), 5)
    assert track.object_id == 1 and track.modal_masks.sum((1, 2)).tolist() == areas


def test_five_exports_are_kept(desk: Desk) -> None:
    clip, run = desk.completed(samples=1, content=False)
    for _ in range(6):
        desk.ask("POST", f"{clip}/exports", json={"run": run["id"], "sample": "1", "formats": ["result"]})
        state = desk.settled(clip)
    assert len(state["exports"]) == 5


def test_cancelling_keeps_the_samples_that_are_done(desk: Desk) -> None:
    clip = desk.tracked()
    state = desk.ask("POST", f"{clip}/runs", json={"samples": 16})
    job = state["jobs"][-1]["id"]
    end = time.monotonic() + 60
    while time.monotonic() < end and len(desk.ask("GET", clip)["runs"][0]["samples"]) < 2:
        time.sleep(0.01)
    assert desk.refused("DELETE", f"{clip}/runs/{state['run']}", 400).startswith("This run is in use")
    assert desk.refused("POST", f"{clip}/runs", 400, json={}).startswith("A completion of this clip is under way")
    desk.ask("POST", f"/api/jobs/{job}/cancel")
    state = desk.settled(clip)
    keys = [sample["key"] for sample in state["runs"][0]["samples"]]
    assert state["jobs"][-1]["state"] == "cancelled" and 3 <= len(keys) < 17 and keys[-1] == "mean"
    state = desk.ask("DELETE", f"{clip}/runs/{state['runs'][0]['id']}")
    assert state["runs"] == []


def test_the_queue_has_one_worker_and_tells_positions(tmp_path: Path) -> None:
    gate = threading.Event()
    tracker = ColourTracker(lambda clip: clip.num_frames < 5 or gate.wait(30))  # first masks do not wait
    studio = Studio(machine(tracker), Limits(), [video(tmp_path / "ball.mp4")])
    try:
        desks = [Desk(studio) for _ in range(3)]
        clips = [desk.open() for desk in desks]
        for desk, clip in zip(desks, clips, strict=True):
            assert desk.click(clip)["objects"][0]["previews"]
        jobs = [desk.ask("GET", clip)["jobs"][0] for desk, clip in zip(desks, clips, strict=True)]
        assert [job["position"] for job in jobs] == [0, 1, 2]
        assert [job["state"] for job in jobs[1:]] == ["waiting", "waiting"]
        desks[1].ask("POST", f"/api/jobs/{jobs[1]['id']}/cancel")
        assert desks[2].ask("GET", clips[2])["jobs"][0]["position"] == 1
        gate.set()
        assert desks[2].settled(clips[2])["objects"][0]["areas"]
    finally:
        gate.set()
        studio.close()


def test_clips_of_one_name_are_told_apart() -> None:
    paths = [Path("/a/horse/frames"), Path("/a/street.mp4"), Path("/a/bird/frames")]
    assert offered_names(paths) == ["horse/frames", "street.mp4", "bird/frames"]


def test_clips_are_listed_closed_and_limited(desk: Desk, studio: Studio) -> None:
    clip = desk.tracked()
    assert [item["name"] for item in desk.ask("GET", "/api/session")["clips"]] == ["ball.mp4"]
    (session,) = studio.sessions._all.values()
    assert len(list(session.folder.iterdir())) == 1
    desk.ask("DELETE", clip)
    assert list(session.folder.iterdir()) == [] and desk.ask("GET", "/api/session")["clips"] == []
    assert desk.refused("GET", clip, 404) == "There is no such clip in this session."
    for _ in range(12):
        desk.open()
    assert desk.refused("POST", "/api/clips/offered/0", 413).startswith("Expected at most 12 open clips")


def test_an_upload_is_opened_and_bad_ones_are_not(desk: Desk, studio: Studio, tmp_path: Path) -> None:
    good = video(tmp_path / "up.mp4").read_bytes()
    state = desk.ask("PUT", "/api/clips?name=../../../tmp/evil%00name.mp4", content=good)
    assert state["name"] == "evil name.mp4" and state["frames"] == 5
    (session,) = studio.sessions._all.values()
    inside = {path.name for path in session.folder.iterdir()}
    assert len(inside) == 2 and not any("evil" in name for name in inside)
    for content, said in (
        (b"", "Expected a video, got the empty file 'bad.mp4'."),
        (b"no video at all" * 100, "Expected a video (MP4, MOV, MKV, WebM, AVI, ...), got 'bad.mp4', which is none."),
        (good[: len(good) // 2], None),
    ):
        text = desk.refused("PUT", "/api/clips?name=bad.mp4", 400, content=content)
        assert said is None or text == said
        assert str(tmp_path) not in text and str(session.folder) not in text
    long = video(tmp_path / "long.mp4", 21).read_bytes()
    text = desk.refused("PUT", "/api/clips?name=bad.mp4", 413, content=long)
    assert text == "Expected a video of at most 20 frames, got a longer one; cut a part of it."
    assert {path.name for path in session.folder.iterdir()} == inside  # what was refused is gone


def test_a_playlist_reaches_no_file(desk: Desk, tmp_path: Path) -> None:
    secret = video(tmp_path / "secret.mp4")
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{secret}'\n",
    ):
        assert "which is none" in desk.refused("PUT", "/api/clips?name=list.mp4", 400, content=text.encode())


def test_upload_limits(tmp_path: Path) -> None:
    data = video(tmp_path / "up.mp4").read_bytes()
    for limits, said in (
        (Limits(upload=100), "Expected a file of at most 100 bytes, got a larger one."),
        (Limits(pixels=1000), "Expected frames of at most 0.0 megapixels, got 64 x 32; make the video smaller."),
        (Limits(decoded=20000), "Expected at most 20 KB of decoded frames"),
        (Limits(memory=1), "Expected at most 1 bytes of open clips in the studio"),
    ):
        studio = Studio(machine(), limits)
        desk = Desk(studio)
        assert desk.refused("PUT", "/api/clips?name=a", 413, content=data).startswith(said)
        chunks = (data[k : k + 64] for k in range(0, len(data), 64))  # no Content-Length
        assert desk.refused("PUT", "/api/clips?name=a", 413, content=chunks).startswith(said)
        (session,) = studio.sessions._all.values()
        assert list(session.folder.iterdir()) == []
        studio.close()
        assert not studio.sessions.root.exists()
