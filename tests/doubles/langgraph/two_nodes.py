# mypy: disable-error-code="import-not-found"
"""A graph of two nodes whose LLM is what the environment says; it prints what it did, as JSON.

The first node routes, by structured output. The second is an agent that runs tools until there are
none left to run, and streams.
"""

import json
import sys
from typing import Annotated, Any, Literal, TypedDict

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AnyMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel

LLMS: dict[str, Any] = {
    "openai-chat": lambda: ChatOpenAI(model="m", use_responses_api=False, max_retries=0),
    "openai-responses": lambda: ChatOpenAI(model="m", use_responses_api=True, max_retries=0),
    "anthropic": lambda: ChatAnthropic(model="m", max_retries=0),
}


class Route(BaseModel):
    """Where the question goes."""

    target: Literal["agent", "nobody"]
    why: str


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    route: str


def search(q: str, limit: int = 3) -> str:
    """Search for something."""
    searched.append(q)
    return f"{limit} results for {q}"


searched: list[str] = []
llm = LLMS[sys.argv[1]]()
question = sys.argv[2]


def router(state: State) -> dict[str, Any]:
    quoted = json.dumps([message.content for message in state["messages"]])
    prompt = SystemMessage(f"Route what the user asked: {quoted}")
    route = llm.with_structured_output(Route).invoke([prompt, *state["messages"]])
    return {"route": route.target}


def agent(state: State) -> dict[str, Any]:
    prompt = SystemMessage(f"You answer <q>{question}</q> with tools.")
    answer = None
    for chunk in llm.bind_tools([search]).stream([prompt, *state["messages"]]):
        answer = chunk if answer is None else answer + chunk
    assert answer is not None
    return {"messages": [answer]}


def tools(state: State) -> dict[str, Any]:
    calls = state["messages"][-1].tool_calls
    return {
        "messages": [ToolMessage(search(**call["args"]), tool_call_id=call["id"]) for call in calls]
    }


graph = StateGraph(State)
graph.add_node("router", router)
graph.add_node("agent", agent)
graph.add_node("tools", tools)
graph.add_edge(START, "router")
graph.add_conditional_edges(
    "router", lambda state: state["route"], {"agent": "agent", "nobody": END}
)
graph.add_conditional_edges(
    "agent", lambda state: "tools" if state["messages"][-1].tool_calls else END
)
graph.add_edge("tools", "agent")

failure = ""
final: Any = {"messages": [], "route": ""}
try:
    final = graph.compile().invoke({"messages": [("user", question)], "route": ""})
except Exception as error:
    failure = type(error).__name__
told = {
    "route": final["route"],
    "searched": searched,
    "text": final["messages"][-1].text if final["messages"] else "",
    "failure": failure,
}
print(json.dumps(told))
