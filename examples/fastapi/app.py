# SPDX-License-Identifier: Apache-2.0
"""Says a greeting, word by word. An application of FastAPI's that knows nothing of moult."""
import asyncio

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

GREETING = "good morning"

app = FastAPI()


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.get("/greet/{name}")
async def greet(name: str):
    async def words():
        for word in [*GREETING.split(), name]:
            yield f"data: {word}\n\n"
            await asyncio.sleep(0.2)
    return StreamingResponse(words(), media_type="text/event-stream")
