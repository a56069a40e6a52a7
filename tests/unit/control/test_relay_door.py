"""What a relay that runs alone tells by HTTP."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from doors import ANY_PORT
from prometheus_client.parser import text_string_to_metric_families

from gridnode.control.relay_door import serve_relay_door
from gridnode.core.addresses import Address
from gridnode.errors import AddressInUse
from gridnode.net.relay_counters import RelayCounters


def test_prometheus_gets_figures_that_are_of_now_and_others_hear_that_it_lives() -> None:
    async def scenario() -> None:
        counters = RelayCounters()
        async with (
            serve_relay_door(counters, ANY_PORT) as address,
            httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as http,
        ):
            assert (await http.get("/health")).json() == {"healthy": True}
            counters.udp_bytes += 700
            answer = await http.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            found = {
                (sample.name, *sample.labels.values()): sample.value
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples
            }
            assert found["gridnode_relay_forwarded_bytes_total", "udp"] == 700
            assert found["process_resident_memory_bytes",] > 0
            assert (await http.get("/")).status_code == 404

    asyncio.run(scenario())


def test_a_port_in_use_names_the_option() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = Address("127.0.0.1", taken.getsockname()[1])
            async with serve_relay_door(RelayCounters(), address):
                pass

    with pytest.raises(AddressInUse, match="another port with --metrics"):
        asyncio.run(scenario())
