"""Certificates for tests: an authority, and what it signs, made by the openssl binary."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.pair = Pair(cert=folder / "ca.pem", key=folder / "ca.key")
        _openssl("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", "/CN=test authority", *_files(self.pair))

    def signed(self, name: str, *, address: str = "IP:127.0.0.1") -> Pair:
        """Return a certificate for a server at ``address``, or for a client of that name."""
        pair = Pair(cert=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.cnf"
        extensions.write_text(f"subjectAltName={address}\n")
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-out", str(request), "-keyout", str(pair.key))
        authority = ("-CA", str(self.pair.cert), "-CAkey", str(self.pair.key), "-CAcreateserial")
        _openssl("x509", "-req", "-in", str(request), "-days", "2", *authority, "-extfile", str(extensions), "-out", str(pair.cert))
        return pair


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _files(pair: Pair) -> tuple[str, ...]:
    return ("-out", str(pair.cert), "-keyout", str(pair.key))


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
