"""What is let in of what comes from outside: small, well-formed, new, meant for this session, and not too much of it.

Pure: bytes and the time go in, a request or the refusal comes out. Everything turned away is counted by its reason.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import msgspec

from streamtomo.messages import Answer, Request

LARGEST_REQUEST = 16 * 1024
"""Bytes."""
REQUESTS_PER_S = 20.0
BURST = 60.0
"""So many requests may come at once."""
IDS_KEPT = 100_000
"""Requests that are known when they come again; more than an hour's at the highest rate."""
LONGEST_ID = 64

MALFORMED = (ValueError, RecursionError)
"""What decoders raise: wrong JSON, wrong fields (both `ValueError`), bytes that are no UTF-8, bottomless nesting."""

_REQUESTS = msgspec.json.Decoder(Request)

Fault = Literal["malformed", "oversized", "repeated", "other session", "flooding"]


class Bucket:
    """A limit on how often something may happen: so many a second, and a burst."""

    def __init__(self, per_s: float = REQUESTS_PER_S, burst: float = BURST) -> None:
        self._per_s, self._burst, self._left, self._at = per_s, burst, burst, 0.0

    def take(self, now: float) -> bool:
        """Whether it may happen once more at this time (seconds, steady)."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Gate:
    """Lets requests in."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.turned_away: Counter[Fault] = Counter()
        """How many were not let in, by what was wrong."""
        self._seen: dict[str, None] = {}

    def admit(self, message: bytes) -> Request | Answer:
        """The request in a message, or the answer to one that is turned away; never raises."""
        if len(message) > LARGEST_REQUEST:
            return self._refuse("oversized", f"a request has at most {LARGEST_REQUEST} bytes")
        try:
            request = _REQUESTS.decode(message)
        except MALFORMED:
            return self._refuse("malformed", "not a valid request")
        if not 0 < len(request.id) <= LONGEST_ID:
            return self._refuse("malformed", f"a request's id has 1 to {LONGEST_ID} characters")
        if request.session != self.session:
            return self._refuse("other session", "meant for another session; the run was started anew", request.id)
        if request.id in self._seen:
            return self._refuse("repeated", "this request came before", request.id)
        self._remember(request.id)
        return request

    def refuse(self, fault: Fault) -> None:
        """Count what was turned away before its content was looked at."""
        self.turned_away[fault] += 1

    def _refuse(self, fault: Fault, text: str, to: str = "") -> Answer:
        self.refuse(fault)
        return Answer(ok=False, text=text, id=to)

    def _remember(self, one: str) -> None:
        self._seen[one] = None
        if len(self._seen) > IDS_KEPT:
            del self._seen[next(iter(self._seen))]
