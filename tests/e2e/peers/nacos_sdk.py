"""The official Nacos SDK for Python as a foreign client; runs in an environment of its own (scripts/peers_nacos.sh).

Usage: nacos_sdk.py HOST:PORT NAMESPACE FOLDER. Registers 10.0.7.7:7777 as `orders`, prints "registered", and for each
line read prints the instances of `orders` that it sees, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from v2.nacos import (
    ClientConfigBuilder,
    ListInstanceParam,
    NacosNamingService,
    RegisterInstanceParam,
)


async def main(server: str, namespace: str, folder: str) -> None:
    """Runs until its standard input ends."""
    config = ClientConfigBuilder().server_address(server).namespace_id(namespace).log_dir(folder).cache_dir(folder)
    naming = await NacosNamingService.create_naming_service(config.build())
    own = {"ip": "10.0.7.7", "port": 7777, "weight": 2.0, "metadata": {"lang": "sdk"}, "ephemeral": True}
    await naming.register_instance(RegisterInstanceParam(service_name="orders", group_name="DEFAULT_GROUP", **own))
    print("registered", flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        asked = ListInstanceParam(service_name="orders", group_name="DEFAULT_GROUP", healthy_only=True)
        seen = await naming.list_instances(asked)
        print(json.dumps([{"ip": one.ip, "port": one.port, "metadata": one.metadata} for one in seen]), flush=True)
    await naming.shutdown()


asyncio.run(main(*sys.argv[1:4]))
