"""IO shell: sockets, QUIC connections, streams."""
