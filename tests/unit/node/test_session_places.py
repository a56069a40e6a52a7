import asyncio

import pytest

from gridnode.core.ids import SessionId
from gridnode.errors import NoCapacity, ProtocolError
from gridnode.node.session_places import SessionPlaces

ONE, OTHER, THIRD = SessionId(b"1" * 16), SessionId(b"2" * 16), SessionId(b"3" * 16)


def test_there_are_as_many_places_as_the_limit_says_now() -> None:
    places = SessionPlaces(2)
    with places.take(ONE), places.take(OTHER):
        with pytest.raises(NoCapacity, match="2 sessions are open"), places.take(THIRD):
            pass
        places.limit = 3
        with places.take(THIRD):
            pass


def test_a_session_that_is_refused_a_second_place_keeps_its_first() -> None:
    async def scenario() -> None:
        places = SessionPlaces(2)
        with places.take(ONE):
            for _ in range(2):
                with pytest.raises(ProtocolError, match="open already"), places.take(ONE):
                    pass
            waiting = asyncio.create_task(places.wait_idle())
            await asyncio.sleep(0)
            assert not waiting.done()
        await waiting

    asyncio.run(scenario())
