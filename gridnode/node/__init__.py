"""The services of a daemon: membership, serving blocks, sessions, the engine supervisor."""
