"""TLS for lanes: the certificates of nodes, checked by who dialled rather than by an authority."""

from __future__ import annotations

import secrets
import ssl
import tempfile

from cryptography.hazmat.primitives import serialization

from gridnode.net.identity import Identity

_PASSWORD_BYTES = 32


def server_context(identity: Identity) -> ssl.SSLContext:
    """Return the TLS settings of a node that listens for lanes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a lane is never resumed
    # `ssl` reads keys from files only: one that nobody else may read, encrypted, and gone at once.
    password = secrets.token_hex(_PASSWORD_BYTES).encode()
    with tempfile.NamedTemporaryFile(prefix="gridnode-") as file:
        file.write(identity.certificate.public_bytes(serialization.Encoding.PEM))
        file.write(
            identity.private_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password),
            )
        )
        file.flush()
        context.load_cert_chain(file.name, password=password)
    return context


def client_context() -> ssl.SSLContext:
    """Return the TLS settings of a node that dials a lane; it has to check the certificate itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
