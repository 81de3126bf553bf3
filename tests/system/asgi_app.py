# SPDX-License-Identifier: Apache-2.0
"""An application of FastAPI's, for test_asgi.py: it knows nothing of moult."""
import asyncio
import os
import threading
import time
from typing import Optional

from fastapi import BackgroundTasks, FastAPI, File, Form, Header, HTTPException, Request, Response
from fastapi.responses import (HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse,
                               StreamingResponse)
from pydantic import BaseModel

app = FastAPI()
seen = []
local = threading.local()
go = asyncio.Event()


class Item(BaseModel):
    name: str
    price: float
    tags: list = []


@app.middleware("http")
async def mark(request, call_next):
    response = await call_next(request)
    response.headers["X-Marked"] = str(len(request.url.path))
    return response


@app.get("/json/{number}")
async def read(number: int, q: Optional[str] = None, x_token: Optional[str] = Header(None)):
    return {"number": number, "q": q, "token": x_token, "ä": "ü"}


@app.post("/items", status_code=201)
def create(item: Item):
    """In a thread."""
    return {"total": item.price * 2, **item.dict()}


@app.get("/thread")
def thread():
    """How many requests this thread has had."""
    local.n = getattr(local, "n", 0) + 1
    return local.n


@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body(), media_type=request.headers.get("content-type"))


@app.put("/form")
async def form(a: str = Form(...), b: int = Form(0)):
    return PlainTextResponse(f"{a} {b}")


@app.post("/file")
def file(data: bytes = File(...)):
    return len(data)


@app.get("/headers")
@app.head("/headers")
async def headers(request: Request):
    response = JSONResponse({name: request.headers.getlist(name)
                             for name in sorted(set(request.headers)) if name != "host"})
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "2")
    response.headers["X-Latin"] = "\xe9"
    return response


@app.get("/path/{path:path}")
async def path(path: str, request: Request):
    return {"path": path, "url": request.url.path, "query": request.url.query,
            "params": request.query_params.multi_items()}


@app.get("/redirect")
async def redirect():
    return RedirectResponse("/html", status_code=303)


@app.get("/html", response_class=HTMLResponse)
async def html():
    return "<p>hello"


@app.delete("/gone", status_code=204)
async def gone():
    return Response(status_code=204)


@app.get("/refused")
async def refused():
    raise HTTPException(418, detail={"why": "teapot"}, headers={"X-Why": "tea"})


@app.get("/fails")
async def fails():
    raise ValueError("it was asked to fail")


@app.get("/lines")
async def lines():
    async def make():
        for i in range(100):
            yield f"line {i}\n"
    return StreamingResponse(make(), media_type="text/plain")


@app.get("/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(seen.append, "background")
    return "begun"


@app.get("/seen")
async def what_was_seen():
    return seen


@app.get("/stall")
async def stall():
    while not os.path.exists("go_on"):
        time.sleep(0.05)
    return "at last"


# Streams that do not know the middleware, whose own stream would lie between.

async def events(scope, receive, send):
    """Sends one event, and another when /go was asked."""
    go.clear()

    async def make():
        yield b"data: one\n\n"
        await go.wait()
        yield b"data: two\n\n"
    await StreamingResponse(make(), media_type="text/event-stream")(scope, receive, send)


async def endless(scope, receive, send):
    async def make():
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            seen.append("the stream was closed")
    await StreamingResponse(make())(scope, receive, send)


async def patient(scope, receive, send):
    """Waits for its client to leave, or for the deadline."""
    while (await receive())["type"] != "http.disconnect":
        pass
    seen.append("disconnect")


async def let_go(scope, receive, send):
    go.set()
    await PlainTextResponse("gone on")(scope, receive, send)


async def much(scope, receive, send):
    """64 MiB, for which the server needs no more memory than for a part of it."""
    counts["much"] = 0

    async def make():
        for _ in range(1024):
            yield bytes(65536)
            counts["much"] += 65536
    await StreamingResponse(make())(scope, receive, send)


async def how_much(scope, receive, send):
    await JSONResponse(counts["much"])(scope, receive, send)


counts = {"much": 0}
plain = {"/events": events, "/endless": endless, "/patient": patient, "/go": let_go,
         "/much": much, "/howmuch": how_much}


async def both(scope, receive, send):
    """What is served: the streams beside the application."""
    await plain.get(scope.get("path"), app)(scope, receive, send)
