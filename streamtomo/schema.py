"""The JSON Schema of the messages, for programs that read the event stream or the journal."""

from __future__ import annotations

import json

import msgspec

from streamtomo.messages import VERSION, Answer, Envelope, Request
from streamtomo.publish.state import SessionState


def render() -> str:
    """JSON Schema (2020-12) of envelopes, snapshots, requests and answers."""
    records = (Envelope, SessionState, Request, Answer)
    (envelope, snapshot, request, answer), components = msgspec.json.schema_components(records)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:streamtomo:messages:{VERSION}",
        "title": "streamtomo: a line of the journal, a message on the wire",
        **envelope,
        "$defs": {**components, "AnySnapshot": snapshot, "AnyRequest": request, "AnyAnswer": answer},
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
