"""The Knative "hello world" service: it logs each CloudEvent it gets and answers with another one.

Run it with `.venv/bin/python samples/helloworld/app.py`; it listens on 127.0.0.1:8090, HOST and PORT change that.
"""

from __future__ import annotations

import logging
import os

import uvicorn
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.v1.event import CloudEvent
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse

GREETING = "Hello, Knative!"
ASKED = "dev.knative.samples.helloworld"
ANSWERED = "dev.knative.samples.hifromknative"

log = logging.getLogger("helloworld")
app = FastAPI(title="helloworld")


@app.get("/", response_class=PlainTextResponse)
async def greet() -> str:
    """For a browser or a probe."""
    return GREETING


@app.post("/")
async def receive(request: Request) -> Response:
    """Log the event. What the Trigger asks for is answered: the Broker takes the answer as a new event."""
    try:
        event = from_http_event(HTTPMessage(dict(request.headers), await request.body()))
    except (
        BaseCloudEventException,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:  # the SDK has no one error for this
        raise HTTPException(400, f"not a CloudEvent: {error}") from error
    log.info("event %s from %s of type %s: %s", event.get_id(), event.get_source(), event.get_type(), event.get_data())
    if event.get_type() != ASKED:
        return Response(status_code=204)
    reply = CloudEvent(
        {
            "type": ANSWERED,
            "source": "knative/eventing/samples/hello-world",
            "datacontenttype": "application/json",
        },
        {"msg": GREETING},
    )
    message = to_binary_event(reply)
    log.info("answered with %s of type %s: %s", reply.get_id(), reply.get_type(), GREETING)
    return Response(message.body, headers=message.headers)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    uvicorn.run(
        app, host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ.get("PORT", "8090")), log_level="warning"
    )
