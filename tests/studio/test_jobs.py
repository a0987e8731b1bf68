"""The queue: order, positions, progress, stopping, and failures as sentences."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="needs the `studio` extra (fastapi)")

from diffvas.studio.jobs import Cancelled, Job, Queue, sentence


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.close()


def ended(*jobs: Job) -> list[str]:
    end = time.monotonic() + 20
    while any(job.state in ("waiting", "running") for job in jobs) and time.monotonic() < end:
        time.sleep(0.005)
    return [job.state for job in jobs]


def test_one_after_another_in_order(queue: Queue) -> None:
    gate, seen = threading.Event(), []

    def first(job: Job) -> None:
        gate.wait(20)
        seen.append("a")

    a = queue.submit(Job("x", "ann", "1", first))
    b = queue.submit(Job("x", "ben", "2", lambda job: seen.append("b")))
    c = queue.submit(Job("x", "ann", "1", lambda job: seen.append("c")))
    while a.state == "waiting":
        time.sleep(0.005)
    assert [queue.position(job) for job in (a, b, c)] == [0, 1, 2]
    assert [job.state for job in queue.of("ann")] == ["running", "waiting"] and queue.busy("ben")
    assert queue.get(b.id, "ann") is None and queue.get(b.id, "ben") is b
    gate.set()
    assert ended(a, b, c) == ["done"] * 3 and seen == ["a", "b", "c"] and not queue.busy("ann")


def test_stopping(queue: Queue) -> None:
    started = threading.Event()

    def endless(job: Job) -> None:
        for k in range(10_000):
            started.set()
            job.tell("counting", k / 10_000)
            time.sleep(0.002)

    running = queue.submit(Job("x", "ann", "1", endless))
    waiting = queue.submit(Job("x", "ann", "1", endless))
    assert started.wait(20)
    queue.cancel(waiting)
    assert waiting.state == "cancelled" and running.state == "running"
    queue.cancel(running)
    assert running.as_dict(0)["state"] in ("stopping", "cancelled")
    assert ended(running) == ["cancelled"]
    assert ended(queue.submit(Job("x", "ann", "1", lambda job: None))) == ["done"]  # the worker lives on


def test_failures_are_sentences_and_the_worker_lives_on(queue: Queue, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> Job:
        def work(job: Job) -> None:
            raise error

        return queue.submit(Job("x", "ann", "1", work))

    jobs = [fail(e) for e in (ValueError("masks: expected one"), OSError(28, "No space left on device"), KeyError("k"))]
    assert ended(*jobs) == ["failed"] * 3
    assert [job.error for job in jobs] == [
        "Expected one.",
        "The studio cannot write its files (No space left on device).",
        "The studio failed (KeyError); its terminal says where.",
    ]
    assert "Traceback" in capfd.readouterr().err


def test_progress_never_goes_back_and_time_left_follows_the_pace() -> None:
    job = Job("x", "ann", "1", lambda job: None)
    assert job.left is None
    job.state = "running"
    job.tell("a", 0.0)
    job._counting = time.monotonic() - 10
    job.tell("a", 0.5)
    assert job.left == pytest.approx(10, abs=0.5)
    job.tell("b", 0.25)
    assert job.fraction == 0.5 and job.stage == "b"
    job.stop.set()
    with pytest.raises(Cancelled):
        job.tell("b", 0.6)


def test_closing_stops_what_runs() -> None:
    queue = Queue()
    job = queue.submit(Job("x", "ann", "1", lambda job: job.stop.wait(20) and job.check()))
    while job.state == "waiting":
        time.sleep(0.005)
    began = time.monotonic()
    queue.close()
    assert time.monotonic() - began < 3 and job.state == "cancelled"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("masks: expected a, got b"), "Expected a, got b."),
        (ValueError("depth_rule: expected: c"), "Expected: c."),
        (ValueError("Nothing: here"), "Nothing: here."),
        (ValueError(""), "ValueError."),
        (ValueError("two\nlines"), "Two lines."),
        (MemoryError(), "There is not enough memory for this; use a smaller or shorter clip, or fewer objects."),
    ],
)
def test_sentences(error: BaseException, said: str) -> None:
    assert sentence(error) == said
