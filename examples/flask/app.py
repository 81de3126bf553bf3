# SPDX-License-Identifier: Apache-2.0
"""Says which digit a picture shows. An application of Flask's that knows nothing of moult."""
import hmac
import pathlib

import flask
import torch

HERE = pathlib.Path(__file__).resolve().parent
torch.set_num_threads(1)
network = torch.jit.load(str(HERE.parent / "digits" / "digits.pt")).eval()
# Read once, as most applications do: a new key counts in a new process.
key = (HERE / "secrets" / "key").read_text().strip()

app = flask.Flask(__name__)


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/classify")
def classify():
    if not hmac.compare_digest(flask.request.headers.get("X-Key", ""), key):
        return {"error": "the header X-Key must have the key"}, 401
    pixels = flask.request.get_json().get("pixels")
    if not isinstance(pixels, list) or len(pixels) != 64:
        return {"error": "pixels must be a list of 64 numbers from 0 to 16"}, 400
    with torch.no_grad():
        scores = network(torch.tensor([pixels], dtype=torch.float32))[0]
    return {"digit": int(scores.argmax()), "scores": scores.tolist()}
