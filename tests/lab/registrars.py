#!/usr/bin/env python3
"""What `asapctl registrars --json` or `asapctl pools --json` of standard input says, as words for scenarios.

    registrars.py peer ID     state, elements, checksum, whether it agrees; of a registrar (`0x00000aaa`), the one asked included
    registrars.py pools       a line for each element: handle, identifier, home
"""

import json
import sys

said = json.load(sys.stdin)
if sys.argv[1] == "peer":
    if said["id"] == sys.argv[2]:
        print(said["standing"], said["elements"], said["checksum"], "-")
    for peer in said["registrars"]:
        if peer["id"] == sys.argv[2]:
            print(peer["state"], peer["elements"], peer["checksum"], peer["checksum_agrees"])
else:
    for pool in said["pools"]:
        for element in pool["elements"]:
            print(pool["handle"], element["id"], element["home"])
