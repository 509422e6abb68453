"""Mutual authentication of gateway and provider: every message is sealed with the token that both hold, and the token never travels.

A seal is HMAC-SHA-256 (RFC 2104) over direction, route, time, a number used once, and the body. The provider answers only to who holds the
token, and the gateway believes only answers to its own number, so that neither can be replaced by somebody who listens, replays or
stands between; what they say can be read by who listens, unless TLS is on.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

HEADER = "x-qumos-seal"
WINDOW = 60.0
"""Seconds by which the clocks of gateway and provider may differ."""
_MOST_SEEN = 500_000
_FORM = re.compile(r"(\d{1,12}):([0-9a-f]{32}):([0-9a-f]{64})")


class Seal:
    """Makes and checks the seals of one token.

    Args:
        token: that both sides hold.
        clock: seconds since 1970.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        # A key for each direction: nobody's own message comes back to it as an answer.
        self._asks, self._answers = (hmac.digest(token.encode(), use, "sha256") for use in (b"gateway asks", b"provider answers"))
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()

    def request(self, route: str, body: bytes) -> tuple[str, str]:
        """The header that seals a request, and its number used once."""
        now, once = int(self._clock()), secrets.token_hex(16)
        return f"{now}:{once}:{self._of(self._asks, route, str(now), once, body)}", once

    def check_request(self, route: str, header: str, body: bytes) -> str | None:
        """The number used once of an authentic request that is neither old nor seen before, else ``None``."""
        found = _FORM.fullmatch(header)
        if found is None:
            return None
        now, (stamp, once, given) = self._clock(), found.groups()
        good = hmac.compare_digest(given, self._of(self._asks, route, stamp, once, body))
        if not good or abs(now - int(stamp)) > WINDOW or once in self._seen:
            return None
        self._seen[once] = now
        while self._seen and (len(self._seen) > _MOST_SEEN or next(iter(self._seen.values())) < now - 2 * WINDOW - 1):
            self._seen.popitem(last=False)
        return once

    def response(self, once: str, status: int, body: bytes) -> str:
        """The header that seals the answer to request ``once``."""
        return self._of(self._answers, str(status), once, "", body)

    def check_response(self, once: str, status: int, header: str, body: bytes) -> bool:
        """Whether an answer is authentic, and to request ``once``."""
        return hmac.compare_digest(header, self.response(once, status, body))

    @staticmethod
    def _of(key: bytes, first: str, second: str, third: str, body: bytes) -> str:
        return hmac.new(key, f"{first}\n{second}\n{third}\n".encode() + body, hashlib.sha256).hexdigest()
