"""The queue in front of the workers: which requests are admitted, which get 503, and that a place is free when its work has ended."""

import asyncio
import threading

import admission
import pytest
from admission import Admission, DeadlineExceeded, QueueFull


async def body(_):
    return b"picture"


def test_requests_over_the_limit_get_busy_until_some_finish():
    async def story():
        door, line = threading.Event(), Admission(1)
        asked = [asyncio.create_task(line.process(body, lambda _: door.wait(5))) for _ in range(line.limit)]
        await asyncio.sleep(0.05)
        assert line.request_count == line.limit
        with pytest.raises(QueueFull):
            await line.process(body, len)
        door.set()
        await asyncio.gather(*asked)
        await asyncio.sleep(0.01)
        assert line.request_count == 0
        assert await line.process(body, len) == 7

    asyncio.run(story())


def test_late_request_keeps_its_place_until_the_work_ends(monkeypatch):
    """A request over its deadline gets an error; its place stays taken until the work ends."""
    monkeypatch.setattr(admission, "DEADLINE_S", 0.1)

    async def story():
        door, line = threading.Event(), Admission(1)
        with pytest.raises(DeadlineExceeded):
            await line.process(body, lambda _: door.wait(5))
        assert line.request_count == 1
        done = []
        with pytest.raises(DeadlineExceeded):  # behind it, and never begun: its caller does not wait any more
            await line.process(body, done.append)
        door.set()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not line.request_count:
                break
        assert (line.request_count, done) == (0, [])

    asyncio.run(story())


def test_body_that_never_arrives_is_late(monkeypatch):
    monkeypatch.setattr(admission, "DEADLINE_S", 0.05)

    async def story():
        line = Admission(1)

        async def never(_):
            await asyncio.sleep(5)
            return b""

        with pytest.raises(DeadlineExceeded):
            await line.process(never, len)
        assert line.request_count == 0

    asyncio.run(story())


def test_failed_work_raises_and_frees_its_place():
    """An exception of the work is raised to the caller, and leaves no place taken."""

    async def story():
        line = Admission(1)
        with pytest.raises(ZeroDivisionError):
            await line.process(body, lambda _: 1 // 0)
        await asyncio.sleep(0.01)
        assert line.request_count == 0

    asyncio.run(story())


def test_only_a_result_counts_as_answered():
    """Only a result, and no exception, shows that inferences work."""

    async def story():
        line = Admission(1)
        line.last_answer_at = 0.0
        with pytest.raises(ZeroDivisionError):
            await line.process(body, lambda _: 1 // 0)
        assert line.last_answer_at == 0.0
        await line.process(body, len)
        assert line.last_answer_at > 0.0

    asyncio.run(story())


def test_slow_bodies_take_no_place_in_the_queue():
    async def story():
        line, arrived = Admission(1), asyncio.Event()

        async def slow(_):
            await arrived.wait()
            return b"slow"

        waiting = [asyncio.create_task(line.process(slow, len)) for _ in range(line.limit + 1)]
        await asyncio.sleep(0)
        assert await line.process(body, len) == 7
        arrived.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(map(str, answers)) == ["", *["4"] * line.limit]  # the last found the queue full
        await asyncio.sleep(0.01)
        assert (line.request_count, line.reading_count) == (0, 0)

    asyncio.run(story())


def test_bodies_that_are_read_are_counted(monkeypatch):
    monkeypatch.setattr(admission, "READ_PER_WORKER", 1)

    async def story():
        line = Admission(1)
        first = asyncio.create_task(line.process(lambda _: asyncio.sleep(0.05, b"first"), len))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await line.process(body, len)
        assert await first == 5
        assert await line.process(body, len) == 7

    asyncio.run(story())


def test_bytes_of_all_bodies_are_bounded(monkeypatch):
    """Bytes count from their arrival to the end of the work; a refused body gives its own back."""
    monkeypatch.setattr(admission, "BODY_BYTES_PER_WORKER", 10)

    async def story():
        line, door = Admission(1), threading.Event()

        async def read(held):
            held.grow(4)
            held.grow(4)
            return b"8 bytes."

        first = asyncio.create_task(line.process(read, lambda _: door.wait(5)))
        await asyncio.sleep(0.02)
        with pytest.raises(QueueFull):
            await line.process(read, len)
        assert line.body_bytes == 8
        door.set()
        assert await first
        await asyncio.sleep(0.01)
        assert line.body_bytes == 0
        assert await line.process(read, len) == 8

    asyncio.run(story())
