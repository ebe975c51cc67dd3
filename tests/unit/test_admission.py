"""The queue in front of the workers: which requests are admitted, which get 503, and that a place is free when its work has ended."""

import asyncio
import threading

import admission
import pytest
from admission import Admission, Busy, Late


async def body():
    return b"picture"


def test_requests_over_the_limit_get_busy_until_some_finish():
    async def story():
        door, line = threading.Event(), Admission(1)
        asked = [asyncio.create_task(line.answer(body, lambda _: door.wait(5))) for _ in range(line.limit)]
        await asyncio.sleep(0.05)
        assert line.inside == line.limit
        with pytest.raises(Busy):
            await line.answer(body, len)
        door.set()
        await asyncio.gather(*asked)
        await asyncio.sleep(0.01)
        assert line.inside == 0
        assert await line.answer(body, len) == 7

    asyncio.run(story())


def test_late_request_keeps_its_place_until_the_work_ends(monkeypatch):
    """A request over its deadline gets an error; its place stays taken until the work ends."""
    monkeypatch.setattr(admission, "DEADLINE_S", 0.1)

    async def story():
        door, line = threading.Event(), Admission(1)
        with pytest.raises(Late):
            await line.answer(body, lambda _: door.wait(5))
        assert line.inside == 1
        done = []
        with pytest.raises(Late):  # behind it, and never begun: its caller does not wait any more
            await line.answer(body, done.append)
        door.set()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not line.inside:
                break
        assert (line.inside, done) == (0, [])

    asyncio.run(story())


def test_body_that_never_arrives_is_late(monkeypatch):
    monkeypatch.setattr(admission, "DEADLINE_S", 0.05)

    async def story():
        line = Admission(1)

        async def never():
            await asyncio.sleep(5)
            return b""

        with pytest.raises(Late):
            await line.answer(never, len)
        assert line.inside == 0

    asyncio.run(story())


def test_failed_work_raises_and_frees_its_place():
    """An exception of the work is raised to the caller, and leaves no place taken."""

    async def story():
        line = Admission(1)
        with pytest.raises(ZeroDivisionError):
            await line.answer(body, lambda _: 1 // 0)
        await asyncio.sleep(0.01)
        assert line.inside == 0

    asyncio.run(story())


def test_only_a_result_counts_as_answered():
    """Only a result, and no exception, shows that inferences work."""

    async def story():
        line = Admission(1)
        line.answered_at = 0.0
        with pytest.raises(ZeroDivisionError):
            await line.answer(body, lambda _: 1 // 0)
        assert line.answered_at == 0.0
        await line.answer(body, len)
        assert line.answered_at > 0.0

    asyncio.run(story())
