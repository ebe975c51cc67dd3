"""The line in front of the workers: who is let in, who is told to come again, and that a place is free when its work has ended."""

import asyncio
import threading

import admission
import pytest
from admission import Admission, DeadlineExceeded, QueueFull


async def body():
    return b"picture"


def test_more_than_the_limit_are_refused_until_some_have_left():
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


def test_who_waits_too_long_is_told_so_and_the_place_stays_taken_until_the_work_ends(monkeypatch):
    monkeypatch.setattr(admission, "DEADLINE_S", 0.1)

    async def story():
        door, line = threading.Event(), Admission(1)
        with pytest.raises(DeadlineExceeded):
            await line.process(body, lambda _: door.wait(5))
        assert line.request_count == 1
        done = []
        with pytest.raises(DeadlineExceeded):  # behind it, and never begun: nobody waits for it any more
            await line.process(body, done.append)
        door.set()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if not line.request_count:
                break
        assert (line.request_count, done) == (0, [])

    asyncio.run(story())


def test_a_body_that_never_comes_is_late_too(monkeypatch):
    monkeypatch.setattr(admission, "DEADLINE_S", 0.05)

    async def story():
        line = Admission(1)

        async def never():
            await asyncio.sleep(5)
            return b""

        with pytest.raises(DeadlineExceeded):
            await line.process(never, len)
        assert line.request_count == 0

    asyncio.run(story())


def test_what_goes_wrong_inside_comes_out_and_leaves_no_place_taken():
    async def story():
        line = Admission(1)
        with pytest.raises(ZeroDivisionError):
            await line.process(body, lambda _: 1 // 0)
        await asyncio.sleep(0.01)
        assert line.request_count == 0

    asyncio.run(story())


def test_only_an_answer_says_that_inferences_pass():
    async def story():
        line = Admission(1)
        line.last_answer_at = 0.0
        with pytest.raises(ZeroDivisionError):
            await line.process(body, lambda _: 1 // 0)
        assert line.last_answer_at == 0.0
        await line.process(body, len)
        assert line.last_answer_at > 0.0

    asyncio.run(story())
