"""The TLS side of the bus: what a client trusts and shows."""

from __future__ import annotations

import ssl

from shared.config import NatsConfig
from shared.errors import BadConfig


def tls_context(config: NatsConfig) -> ssl.SSLContext | None:
    """Return what checks the server's certificate, and holds our own if there is one; None without ``nats.tls``.

    Raises:
        BadConfig: a file is missing or is no PEM file.
    """
    if config.tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=config.tls.ca_file)
        if config.tls.cert_file:
            context.load_cert_chain(config.tls.cert_file, config.tls.key_file)
    except OSError as error:
        files = ", ".join(filter(None, (config.tls.ca_file, config.tls.cert_file, config.tls.key_file)))
        raise BadConfig("nats", "tls", f"{error} (found {files}, expected readable PEM files)") from error
    return context
