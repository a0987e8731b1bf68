"""Who may talk to the studio: names, origins, sessions; and that one visitor is nothing to another."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the `studio` extra (fastapi)")

from fastapi.testclient import TestClient

from diffvas.studio.app import Studio, make_app
from diffvas.studio.clips import clean_name
from diffvas.studio.guard import host_name, is_allowed_host, known_names, refusal
from diffvas.studio.opening import Limits
from studio.desk import HEADERS, Desk, machine, video

NAMES = known_names("127.0.0.1", ["Studio.Example"])


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(machine(), Limits(sessions=3, idle=1000), [video(tmp_path / "ball.mp4")])
    yield made
    made.close()


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8765", "127.0.0.1:1", "[::1]:8765", "192.168.7.9", "studio.example:80", "LOCALHOST."],
)
def test_own_names_and_addresses_are_known(host: str) -> None:
    assert is_allowed_host(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:8765",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "a@localhost",
        "localhost@evil.example",
        "[::1",
        "127.0.0.1:x@evil.example",
        "2130706433.evil",
    ],
)
def test_other_names_are_not(host: str | None) -> None:
    assert not is_allowed_host(host, NAMES)


def test_host_names() -> None:
    assert host_name("[::1]:80") == "::1" and host_name("A.b:1") == "a.b" and host_name("") is None


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://localhost:8765"}, True),
        ({"origin": "http://LOCALHOST:8765"}, True),
        ({"origin": "http://localhost:9999"}, False),  # another program's page on this machine
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"x-diffvas-studio": None}, False),  # a form cannot send it
    ],
)
def test_changes_come_from_own_pages_only(headers: dict, allowed: bool) -> None:
    all_headers = {"host": "localhost:8765", **HEADERS, **headers}
    given = {name: value for name, value in all_headers.items() if value is not None}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (refusal(method, given, NAMES) is None) == allowed
    assert refusal("GET", given, NAMES) is None
    assert refusal("GET", {**given, "host": "evil.example"}, NAMES)


def test_refusals_reach_the_visitor(studio: Studio) -> None:
    desk = Desk(studio)
    assert "known under this address" in desk.refused("GET", "/", 403, headers={"host": "evil.example"})
    said = desk.refused("POST", "/api/clips/demo", 403, headers={"origin": "http://evil.example"})
    assert said == "Requests from other web pages are refused."
    plain = TestClient(make_app(studio), base_url="http://localhost", cookies=dict(desk.client.cookies))
    assert plain.post("/api/clips/demo").status_code == 403


def test_every_answer_forbids_foreign_scripts_and_frames(studio: Studio) -> None:
    desk = Desk(studio)
    for path in ("/", "/static/app.js", "/api/session", "/nothing"):
        headers = desk.client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_the_cookie_is_kept_from_scripts_and_other_sites(studio: Studio) -> None:
    client = TestClient(make_app(studio), base_url="http://localhost")
    cookie = client.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
    assert "set-cookie" not in client.get("/").headers  # the session is kept
    assert client.get("/api/session", headers={"cookie": "diffvas-studio=guess"}).status_code in (200, 401)
    assert TestClient(make_app(studio), base_url="http://localhost").get("/api/session").status_code == 401


def test_another_visitors_clip_is_not_there(studio: Studio) -> None:
    ann, ben = Desk(studio), Desk(studio)
    clip, run = ann.completed(samples=1)
    job = ann.ask("POST", f"{clip}/mask-exports")["jobs"][-1]["id"]
    export = ann.settled(clip)["exports"][0]["id"]
    assert ben.ask("GET", "/api/session")["clips"] == []
    for method, path, body in (
        ("GET", clip, None),
        ("DELETE", clip, None),
        ("GET", f"{clip}/frames/0", None),
        ("GET", f"{clip}/masks/1/0", None),
        ("POST", f"{clip}/objects", None),
        ("PATCH", f"{clip}/objects/1", {"name": "x"}),
        ("DELETE", f"{clip}/objects/1", None),
        ("POST", f"{clip}/objects/1/clicks", {"frame": 0}),
        ("DELETE", f"{clip}/objects/1/clicks/0", None),
        ("POST", f"{clip}/runs", {}),
        ("DELETE", f"{clip}/runs/{run['id']}", None),
        ("GET", f"{clip}/runs/{run['id']}/1/1/amodal/0", None),
        ("POST", f"{clip}/exports", {"run": run["id"], "sample": "1", "formats": ["coco"]}),
        ("POST", f"{clip}/mask-exports", None),
        ("GET", f"{clip}/exports/{export}", None),
        ("POST", f"/api/jobs/{job}/cancel", None),
    ):
        ben.refused(method, path, 404, json=body)
    assert ann.ask("GET", clip)["objects"]  # nothing happened to it


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f__init__.py",
        "/static//etc/passwd",
        "/api/clips/../../etc/passwd",
        "/api/clips/..%2f..",
        "/api/clips/offered/-1",
    ],
)
def test_no_path_leads_out(studio: Studio, path: str) -> None:
    desk = Desk(studio)
    for method in ("GET", "POST"):
        response = desk.client.request(method, path)
        assert response.status_code in (404, 405, 422), response.text
        assert "def " not in response.text and "root:" not in response.text


def test_names_are_only_shown() -> None:
    for name, shown in {
        "../../etc/passwd": "passwd",
        "..\\..\\boot.ini": "boot.ini",
        "..": "video",
        "/": "video",
        "a\x00b\nc.mp4": "a b c.mp4",
        "\u202egpj.exe": "gpj.exe",
        "x" * 300: "x" * 40,
        "<b>.mp4": "<b>.mp4",  # the page writes text, not HTML
        "": "video",
    }.items():
        assert clean_name(name, "video") == shown


def test_the_page_never_writes_html() -> None:
    from diffvas.studio.app import STATIC

    for file in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text("utf-8"))
    page = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"https?://|style=|\son\w+=|<script>", page)  # no network, nothing inline


def test_sessions_end_and_their_files_go(studio: Studio) -> None:
    desk = Desk(studio)
    clip = desk.tracked()
    (session,) = studio.sessions._all.values()
    assert studio.sessions.sweep() == 0
    session.used = time.monotonic() - 1001
    assert studio.sessions.sweep() == 1 and not session.folder.exists()
    assert desk.refused("GET", clip, 401) == "This session has ended; reload the page to begin a new one."
    assert desk.client.get("/").status_code == 200 and desk.ask("GET", "/api/session")["clips"] == []


def test_busy_sessions_do_not_end(studio: Studio) -> None:
    from diffvas.studio.jobs import Job

    Desk(studio)
    (session,) = studio.sessions._all.values()
    session.used = time.monotonic() - 1001
    job = studio.queue.submit(Job("track", session.token, "x", lambda job: job.stop.wait(30)))
    assert studio.sessions.sweep() == 0
    studio.queue.cancel(job)


def test_of_too_many_sessions_the_unused_one_ends(studio: Studio) -> None:
    desks = [Desk(studio) for _ in range(3)]
    clip = desks[0].open()
    Desk(studio)
    assert desks[0].ask("GET", clip)["frames"] == 5  # it has a clip
    assert desks[1].client.get("/api/session").status_code == 401


def test_closing_removes_everything(studio: Studio) -> None:
    Desk(studio).tracked()
    assert any(studio.sessions.root.rglob("*"))
    studio.close()
    assert not studio.sessions.root.exists()
