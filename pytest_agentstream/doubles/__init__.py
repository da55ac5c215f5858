"""The LLM double: a scripted upstream that speaks as OpenAI's and Anthropic's APIs do."""

from __future__ import annotations

from pytest_agentstream.doubles.calls import Call
from pytest_agentstream.doubles.server import LlmDouble

__all__ = ["Call", "LlmDouble"]
