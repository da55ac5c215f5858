"""What the double says where it fails on purpose."""

from __future__ import annotations

from collections import defaultdict

MESSAGES: dict[int, str] = defaultdict(
    lambda: "the script of the double asks for this failure",
    {
        401: "Incorrect API key provided (the script of the double asks for this failure)",
        429: "Rate limit reached (the script of the double asks for this failure)",
        500: "The server had an error (the script of the double asks for this failure)",
        503: "The service is unavailable (the script of the double asks for this failure)",
        529: "Overloaded (the script of the double asks for this failure)",
    },
)
"""By status."""

HTML = """<!DOCTYPE html>
<html><head><title>{status} {phrase}</title></head>
<body><center><h1>{status} {phrase}</h1></center><hr><center>double</center></body></html>
"""
