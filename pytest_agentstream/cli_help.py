"""What `agentstream --help` and its commands say."""

from __future__ import annotations

import textwrap

from pytest_agentstream.plugin import OPTIONS

WIDTH = 100
COLUMN = 26
"""Where the words begin, behind the names of options."""

EXAMPLES = """\
the first thing to try, against a server of yours that runs:
  agentstream run http://127.0.0.1:8000/chat
"""

RUN = """\
Judge the server whose runs are started by a POST to URL: requirement by requirement, with the bytes
as evidence. It starts agent runs there; --plan sends nothing and prints how many it would be.

  agentstream run http://127.0.0.1:8000/chat
  agentstream run http://127.0.0.1:8000/chat --dialect generic-typed --heartbeat 15 --plan
  agentstream run /chat --command 'uvicorn app:app --port {port}' --double
  agentstream run --reference agentstream/resume.py

With --command the suite starts the server itself, and URL is a path of it. Settings are read from
[tool.agentstream] in the nearest agentstream.toml or pyproject.toml, too. Nothing else of a project
around takes part: no conftest.py, no plugins and no settings of pytest.
"""

RUN_MORE = """\
Every other option is pytest's: -k WORD, -x, -q, -v, --lf, --junitxml FILE, -n 4 (pytest-xdist), and
so on. The same options belong to plain pytest as --agentstream-url URL, --agentstream-dialect NAME…

exit codes: 0 everything that was tested is met, 1 a requirement is not met or the server can't be
judged, 2 interrupted or a wrong command line, 4 settings that can't be used
"""

DOUBLE = """\
Run the LLM double alone: a server on 127.0.0.1 that speaks the APIs of OpenAI (chat completions and
Responses) and Anthropic (Messages) and answers what a script in the user's message says. It asks no
model, and takes any API key. It prints the variables with which your server has to be started:

  agentstream double
  OPENAI_BASE_URL=http://127.0.0.1:4010/v1 uvicorn app:app

A script stands in a message, such as [[agentstream: say 5 words; silence 3s; then cut]]; without
one the answer is a few words. `agentstream run URL --double` runs a double of its own at that
address, so end this one before.
"""

REQUIREMENTS = """\
List every requirement, tier by tier: its slug, its level (MUST or SHOULD) and its text.
"""

DIALECTS = """\
List the built-in dialects: how servers name their events, errors and cursors. `agentstream run URL`
tells the dialect from the first answer where --dialect does not name one, or a TOML file.
"""


def options() -> str:
    """Return what the options of the suite are called, and what they do."""
    lines = ["options of the suite:"]
    for name, given in OPTIONS:
        if name == "url":
            continue
        option = f"--{name} {given['metavar']}" if "metavar" in given else f"--{name}"
        first, *more = textwrap.wrap(given["help"], WIDTH - COLUMN)
        lines.append(f"  {option:<{COLUMN - 2}}{first}")
        lines += [f"{'':{COLUMN}}{line}" for line in more]
    return "\n".join(lines) + "\n"
