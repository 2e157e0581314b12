"""TLS to subscribers: whom a connection trusts, and what a failed handshake means in words."""

from __future__ import annotations

import ssl


def tls_context(ca_certs: str) -> ssl.SSLContext:
    """Trust the system's authorities and those in `ca_certs` (PEM, may be empty); host names are verified.

    Raises ssl.SSLError when `ca_certs` holds no certificate.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if ca_certs:
        context.load_verify_locations(cadata=ca_certs)
    return context


def explain(error: OSError, where: str) -> str:
    """One sentence on why the handshake with `where` failed, and what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # 62 and 64 are X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
        if error.verify_code in (62, 64):
            hint = "the certificate is for another name: use a name that it has, or issue it for this one"
        else:
            hint = "set CACerts of the destination to the authority that issued it"
        return f"the certificate of {where} was not accepted ({error.verify_message}): {hint}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        return f"the TLS handshake with {where} failed ({reason}): check that this port speaks TLS, else use http://"
    return f"{where} ended the TLS handshake ({error}): check that this port speaks TLS, else use http://"
