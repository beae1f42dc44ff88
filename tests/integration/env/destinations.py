# SPDX-License-Identifier: Apache-2.0
"""Settings of destinations that lead to sinks."""


def remote(sink, **over):
    """A destination as a remote one is, but quick: batches after 50 ms, retries from 50 ms to 200 ms."""
    return {"url": sink.url, "compression": "gzip", "batch": {"timeout": "50ms"}, "retry": {"initial": "50ms", "max": "200ms"}, **over}


def local(sink, **over):
    """The local consumer as the built-in document has it."""
    return {"url": sink.url, "from": ["otlp", "frames"], "compression": "none", "batch": {"timeout": "0s"}, "in_flight": 1,
            "max_lag": {"bytes": "4MB", "age": "30s"}, "anchor": False,
            "drop": [{"resource": "telemetry.sdk.name", "equals": "beyla"}], **over}


def document(**destinations):
    """A document with these destinations and all else at its default: document(hub=remote(hub))."""
    return {"destinations": destinations}
